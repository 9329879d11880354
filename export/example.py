"""The example that a model is traced with, and what it answers to it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gspn2_deploy.errors import ExportError, Gspn2Error, ValidationFailedError

from .capture import DynamicAxes
from .precision import PrecisionPlan, cast_floating

if TYPE_CHECKING:
    from .exporter import ExportOptions

BATCH, HEIGHT, WIDTH = "batch", "height", "width"
_DEFAULT_CHANNELS = 3


def make_example(model: nn.Module, options: ExportOptions) -> dict[str, Tensor]:
    """Make the inputs that a model is traced with.

    Args:
        model: The model as the user gave it.
        options: How it is exported.

    Returns:
        Tensors on the CPU by name, in the order of ``forward``, with the types of the exported
        file. An image is (N, C, H, W), random, N at least 2 where the batch is dynamic.

    Raises:
        ExportError: The given example does not fit, or none can be made up.
    """
    given = options.example
    names = _parameter_names(model, None if given is None else len(given))
    if given is None:
        given = {names[0]: _random_image(model, options)}
    elif set(given) != set(names):
        raise ExportError(
            "the example does not fit the model's forward",
            got=", ".join(given),
            expected=", ".join(names),
        )
    ordered = {name: cast_floating(given[name], options.precision.io) for name in names}
    if options.dynamic_batch:
        # An extent of 1 would be taken for a constant.
        ordered = {
            name: torch.cat([value, value]) if value.ndim and value.shape[0] == 1 else value
            for name, value in ordered.items()
        }
    return ordered


def _parameter_names(model: nn.Module, count: int | None) -> list[str]:
    parameters = list(inspect.signature(model.forward).parameters.values())
    positional = [
        item.name
        for item in parameters
        if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)
    ]
    required = sum(item.default is item.empty for item in parameters if item.name in positional)
    taken = 1 if count is None else count
    if not required <= taken <= len(positional):
        raise ExportError(
            "the model does not take one image",
            got=f"forward({', '.join(item.name for item in parameters)})",
            expected="one positional parameter, or an example input for each",
            hint="give ExportOptions.example, or wrap the model in a module that takes one image",
        )
    return positional[:taken]


def _image_size(model: nn.Module, options: ExportOptions) -> tuple[int, int]:
    size = options.image_size or getattr(model, "default_size", None)
    if size is None:
        raise ExportError(
            "the image size is not known",
            got=f"{type(model).__name__} without default_size",
            hint="give --image-size HEIGHTxWIDTH",
        )
    extents = tuple(size) if isinstance(size, Sequence) else ()
    if len(extents) != 2 or not all(isinstance(item, int) and item > 0 for item in extents):
        raise ExportError(
            "the model's default_size is not an image size",
            got=repr(size),
            expected="(height, width) in pixels",
            hint="mend it, or give --image-size HEIGHTxWIDTH",
        )
    return extents


def _random_image(model: nn.Module, options: ExportOptions) -> Tensor:
    size = _image_size(model, options)
    own = getattr(getattr(model, "config", None), "in_channels", _DEFAULT_CHANNELS)
    channels = options.channels or own
    generator = torch.Generator().manual_seed(options.seed)
    return torch.randn(options.batch, channels, *size, generator=generator)


def run_example(
    prepared: nn.Module, example: Mapping[str, Tensor], given: tuple[str, ...] | None
) -> dict[str, Tensor]:
    """Run the model once: it may refuse the example, and what it returns gives the names.

    Args:
        prepared: The model in the exported precision.
        example: Inputs by name, in the order of ``forward``.
        given: Names of the outputs, None to take the model's own.

    Returns:
        The outputs by name, in the order in which they lie in what the model returns.

    Raises:
        Gspn2Error: The model refuses the example with an error of its own.
        ExportError: It fails, writes into an input, returns other things than tensors, or the
            names do not fit.
    """
    copies = {name: value.clone() for name, value in example.items()}
    try:
        with torch.no_grad():
            result = prepared(*copies.values())
    except Gspn2Error:
        raise
    except Exception as error:  # user code
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in example.items())
        raise ExportError(
            "the model fails on the example input",
            got=f"{type(error).__name__}: {error} (for {shapes})",
            hint="a block that casts by itself may not take part in a mixed precision; "
            "otherwise check --image-size, --channels and --model-arg",
        ) from error
    _check_untouched(example, copies)
    leaves = pytree.tree_leaves(result)
    if not leaves or not all(isinstance(value, Tensor) for value in leaves):
        raise ExportError(
            "the model must return tensors", got=type(result).__name__, expected="tensors only"
        )
    names = given or _default_names(result, len(leaves))
    if len(set(names)) != len(leaves):
        raise ExportError("output names do not fit", got=names, expected=f"{len(leaves)} names")
    if set(names) & set(example):
        raise ExportError(
            "an output has the name of an input",
            got=f"inputs {', '.join(example)}; outputs {', '.join(names)}",
            hint="give the model an attribute output_names, or rename forward's parameter",
        )
    return dict(zip(names, leaves, strict=True))


def _check_untouched(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    """Refuse a model that changes its own input: a graph does not, nor does it give the same."""
    touched = [name for name in before if _bytes(before[name]) != _bytes(after[name])]
    if touched:
        raise ExportError(
            f"the model writes into its input {', '.join(map(repr, touched))}",
            got="an in-place operation on it, such as images.sub_(mean) or nn.ReLU(inplace=True)",
            expected="a forward that leaves its inputs as they are",
            hint="use the operation that returns a new tensor, or begin forward with "
            f"{touched[0]} = {touched[0]}.clone()",
        )


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def check_finite(outputs: Mapping[str, Tensor], plan: PrecisionPlan) -> None:
    """Refuse a model whose own outputs could not be compared with anything.

    Args:
        outputs: By name, of the model in the exported precision.
        plan: That precision.

    Raises:
        ValidationFailedError: An output holds NaN or Inf.
    """
    for name, value in outputs.items():
        spoilt = int((~value.isfinite()).sum())
        if spoilt:
            raise ValidationFailedError(
                f"the model's own output {name!r} is not finite in {plan.label}",
                got=f"NaN or Inf in {spoilt} of {value.numel()} elements, in PyTorch itself",
                expected="finite values for a random example",
                hint="mend the weights or the model"
                if plan.base == "fp32"
                else "where it is finite in fp32, values overflow in this precision: choose bf16, "
                "or keep blocks with --keep-fp32",
            )


def _default_names(result: Any, count: int) -> tuple[str, ...]:
    if isinstance(result, Mapping) and len(result) == count:
        return tuple(str(name) for name in result)
    return ("output",) if count == 1 else tuple(f"output_{index}" for index in range(count))


def dynamic_axes(example: Mapping[str, Tensor], options: ExportOptions) -> DynamicAxes:
    """Name the axes that stay free, by input and axis."""
    axes: dict[str, dict[int, str]] = {}
    for name, value in example.items():
        named = {0: BATCH} if options.dynamic_batch and value.ndim else {}
        if options.dynamic_size and value.ndim == 4:
            named |= {2: HEIGHT, 3: WIDTH}
        axes[name] = named
    return axes
