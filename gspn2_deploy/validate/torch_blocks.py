"""What goes into and comes out of every propagation of a live PyTorch model, and the op itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gspn2_deploy.ops  # registers the operators
from gspn2_deploy.runners.base import Array, Arrays, Runner
from gspn2_deploy.runners.torch_runner import to_array, to_tensor
from gspn2_deploy.spec import LINE_SCAN, PROP2D
from gspn2_deploy.validate.blocks import BlockValues

_OPERATORS = {
    torch.ops.gspn2.prop2d.default: PROP2D,
    torch.ops.gspn2.line_scan.default: LINE_SCAN,
}
_FUNCTIONS = {PROP2D: gspn2_deploy.ops.prop2d, LINE_SCAN: gspn2_deploy.ops.line_scan}


@dataclass(frozen=True)
class Call:
    """One propagation that a model ran.

    Args:
        op_type: The op.
        values: What it took and gave.
        attributes: What it was told: ``normalize``, ``chunk``, ``direction``.
    """

    op_type: str
    values: BlockValues
    attributes: Mapping[str, Any]


def record_calls(runner: Runner, inputs: Mapping[str, Array]) -> tuple[Arrays, tuple[Call, ...]]:
    """Run a PyTorch model and note its propagations in the order in which they ran.

    Args:
        runner: Runs the model; entered.
        inputs: Its inputs.

    Returns:
        The model's outputs, and the calls.
    """
    calls: list[Call] = []
    with _Recorder(calls):
        outputs = runner.infer(inputs)
    return outputs, tuple(calls)


def exact_output(op_type: str, inputs: Arrays, attributes: Mapping[str, Any]) -> Array:
    """Compute one propagation in float64 on the CPU.

    Args:
        op_type: The op.
        inputs: By the op's names of them; each is widened without loss.
        attributes: ``normalize``, ``chunk``, ``direction``.

    Returns:
        The output, float64.
    """
    tensors = {name: to_tensor(array).to(torch.float64) for name, array in inputs.items()}
    with torch.inference_mode():
        result = _FUNCTIONS[op_type](**tensors, **attributes)
    exact: Array = result.numpy().astype(np.float64)
    return exact


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, calls: list[Call]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls = calls

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in _OPERATORS:
            arguments = func._schema.arguments
            given = {
                item.name: item.default_value for item in arguments if item.has_default_value()
            }
            given |= {item.name: value for item, value in zip(arguments, args, strict=False)}
            given |= kwargs
            tensors = {name: item for name, item in given.items() if torch.is_tensor(item)}
            others = {
                name: item
                for name, item in given.items()
                if item is not None and not torch.is_tensor(item)
            }
            taken = {name: to_array(item) for name, item in tensors.items()}
            values = BlockValues(taken, to_array(result))
            self._calls.append(Call(_OPERATORS[func], values, others))
        return result
