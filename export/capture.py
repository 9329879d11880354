"""From a PyTorch module to an ONNX graph with custom ops, with torch's errors made readable."""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from gspn2_deploy.errors import ExportError, Gspn2Error

from .translation import custom_translation_table, torch_operators

DynamicAxes = Mapping[str, Mapping[int, str]]  # names of the free axes by input and axis

_REGISTRATION_LOG = "torch.onnx._internal.exporter._registration"
_ERROR_LINES = 12
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")
_OVERLOAD = re.compile(r"<OpOverload\(op='([^']+)', overload='([^']+)'\)>")
# What torch says to its own developers.
_ADVICE = re.compile(r"For |If you suspect |consider using data-dependent friendly|The error above")


def capture(
    model: nn.Module, example: Mapping[str, Tensor], dynamic: DynamicAxes
) -> torch.export.ExportedProgram:
    """Trace a module with ``torch.export``.

    Args:
        model: In eval mode.
        example: Inputs by name, in the order of the module's ``forward``.
        dynamic: The axes to leave free. The example's extent there must not be 1.

    Raises:
        ExportError: The module cannot be traced, or fixes an axis that is to be free.
        ShapeError: The module refuses the example.
    """
    free = torch.export.Dim.DYNAMIC
    shapes = {name: dict.fromkeys(dynamic.get(name, {}), free) or None for name in example}
    try:
        with quiet_torch(), torch.no_grad():
            return torch.export.export(
                model, tuple(example.values()), dynamic_shapes=shapes, strict=False
            )
    except Gspn2Error:
        raise
    except Exception as error:  # user code runs here: anything may come
        if "Constraints violated" in str(error) or "dynamic_shapes" in str(error):
            names = [name for axes in dynamic.values() for name in axes.values()]
            raise ExportError(
                "the model fixes an axis that is to be dynamic",
                got=_head(error),
                expected=f"{', '.join(names)} free",
                hint="export without --dynamic-size or with --no-dynamic-batch, or mend the model",
            ) from error
        raise ExportError(
            "torch.export cannot trace the model",
            got=_head(error),
            hint="Python control flow that depends on tensor values is the usual cause: replace "
            "it by tensor operations, such as torch.where",
        ) from error


def count_operators(program: torch.export.ExportedProgram) -> dict[str, int]:
    """Count the propagations of a traced module, by ONNX op type."""
    operators = torch_operators()
    counts = Counter(
        operators[node.target]
        for module in program.graph_module.modules()
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
        if node.op == "call_function" and node.target in operators
    )
    return dict(counts)


def translate(
    program: torch.export.ExportedProgram,
    *,
    dynamic: DynamicAxes,
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
) -> ir.Model:
    """Turn a traced module into an ONNX graph.

    Raises:
        ExportError: An operator has no translation, or the exporter failed.
    """
    shapes = {name: dict(dynamic.get(name, {})) or None for name in input_names}
    try:
        with quiet_torch():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                custom_translation_table=custom_translation_table(),
                dynamic_shapes=shapes,
                input_names=list(input_names),
                output_names=list(output_names),
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors share no public base class
        raise _translation_error(error, program) from error
    assert exported is not None
    return exported.model


def _translation_error(error: Exception, program: torch.export.ExportedProgram) -> ExportError:
    text = "\n".join(str(item) for item in _chain(error))
    found = re.search(
        r"No (?:ONNX function|decompositions?) (?:found|registered) for (\S+?)[.\s]", text
    )
    operator = _OVERLOAD.search(text)
    name = ".".join(operator.groups()) if operator else found.group(1) if found else None
    if name is None:
        return ExportError("torch's ONNX exporter failed", got=_head(error))
    return ExportError(
        f"ONNX has no translation of the operator {name}",
        got=f"used in {', '.join(_modules_with(program, name)) or 'the model'}; {_head(error)}",
        hint="replace it in the model by operators that ONNX has",
    )


def _modules_with(program: torch.export.ExportedProgram, operator: str) -> list[str]:
    """Names of the modules that call an operator, such as ``aten::foo.default``.

    The exporter may name what an operator was broken into, hence the comparison of bare names.
    """
    wanted = re.split(r"::|\.", operator)[1]
    found = []
    for node in program.graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        if node.target._schema.name.endswith(wanted):
            stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
            names = [name for name, _ in stack.values()]
            found.append(names[-1] if names and names[-1] else "the model itself")
    return list(dict.fromkeys(found))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _head(error: BaseException) -> str:
    # The exporter's advice to its own developers comes before its summary.
    text = _TERMINAL_CODES.sub("", str(error)).rpartition("## Exception summary")[2]
    lines = [line for line in text.splitlines() if line.strip() and not _ADVICE.match(line)]
    more = "\n..." if len(lines) > _ERROR_LINES else ""
    return f"{type(error).__name__}: " + "\n".join(lines[:_ERROR_LINES]) + more


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Keep the exporter's remarks on its own affairs from the user; all others pass."""
    logger = logging.getLogger(_REGISTRATION_LOG)
    logger.addFilter(_not_about_torchvision)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
            )
            yield
    finally:
        logger.removeFilter(_not_about_torchvision)


def _not_about_torchvision(record: logging.LogRecord) -> bool:
    return "torchvision is not installed" not in record.getMessage()
