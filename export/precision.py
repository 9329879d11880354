"""Precision, baked into the model before it is exported.

Engines of current TensorRT are strongly typed: they compute in the types that the file has. A model
is therefore converted in PyTorch, which also makes PyTorch's outputs in that very precision the
reference for everything that runs the file.
"""

from __future__ import annotations

import copy
import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from gspn2_deploy.errors import ExportError

TORCH_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = tuple(TORCH_DTYPES)
IO_DTYPES = ("fp32", "precision")
_SUGGESTIONS = 3


@dataclass(frozen=True)
class PrecisionPlan:
    """Which element types a model is exported in.

    Args:
        base: ``fp32``, ``fp16`` or ``bf16``.
        keep_fp32: Blocks that stay in float32: dotted module names or globs. With any, the
            model's precision is called ``mixed``.
        io_dtype: ``fp32`` to cast at the inputs and outputs, so that applications feed and read
            float32 whatever happens inside; ``precision`` for inputs and outputs of ``base``.

    Raises:
        ExportError: An unknown name, or blocks to keep in float32 in a float32 model.
    """

    base: str = "fp32"
    keep_fp32: tuple[str, ...] = ()
    io_dtype: str = "fp32"

    def __post_init__(self) -> None:
        for what, value, known in (
            ("precision", self.base, PRECISIONS),
            ("io_dtype", self.io_dtype, IO_DTYPES),
        ):
            if value not in known:
                raise ExportError(f"unknown {what}", got=value, expected=", ".join(known))
        if self.base == "fp32" and self.keep_fp32:
            raise ExportError(
                "blocks can only be kept in fp32 when the others are not",
                got=f"precision fp32, keep_fp32 {', '.join(self.keep_fp32)}",
                hint="choose the precision fp16 or bf16, or keep nothing",
            )

    @property
    def label(self) -> str:
        """``fp32``, ``fp16``, ``bf16`` or ``mixed``."""
        return "mixed" if self.keep_fp32 else self.base

    @property
    def io(self) -> torch.dtype:
        """The type of floating-point inputs and outputs."""
        return torch.float32 if self.io_dtype == "fp32" else TORCH_DTYPES[self.base]


def resolve_blocks(model: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Find the modules that names or globs stand for.

    Args:
        model: The model.
        patterns: Dotted names as in ``model.named_modules()``, or globs over them.

    Returns:
        The outermost matches in the model's order: what lies below one goes with it.

    Raises:
        ExportError: A pattern matches nothing (with suggestions).
    """
    names = [name for name, _ in model.named_modules() if name]
    matched: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            close = difflib.get_close_matches(pattern, names, n=_SUGGESTIONS)
            raise ExportError(
                "no block of that name to keep in fp32",
                got=repr(pattern),
                expected="a dotted module name or a glob over them, such as 'stages.3.*'",
                hint=f"did you mean {' or '.join(close)}?" if close else None,
            )
        matched.update(found)
    return tuple(name for name in names if name in matched and not _inside(name, matched))


def prepare_model(model: nn.Module, plan: PrecisionPlan) -> nn.Module:
    """Copy a model into the precision of a plan.

    Inputs of a block that stays in float32 are cast to float32 and its outputs to the base type,
    by hooks: parameter names and the forward signature stay as they are. With ``io_dtype`` fp32
    the copy takes and returns float32.

    Args:
        model: Any module on the CPU; it is not changed.
        plan: The precision.

    Returns:
        A copy in eval mode that needs no gradients. Running it in PyTorch gives the reference
        for the exported file.

    Raises:
        ExportError: A block is unknown.
    """
    kept = resolve_blocks(model, plan.keep_fp32)
    prepared = copy.deepcopy(model).eval().requires_grad_(False)
    base = TORCH_DTYPES[plan.base]
    for name, module in prepared.named_modules():
        dtype = torch.float32 if name in kept or _inside(name, set(kept)) else base
        module._apply(_Caster(dtype), recurse=False)
    for name in kept:
        _cast_around(prepared.get_submodule(name), torch.float32, base)
    if plan.io is not base:
        _cast_around(prepared, base, plan.io)
    return prepared


def cast_floating(value: Any, dtype: torch.dtype) -> Any:
    """Cast every floating-point tensor in a nest of containers."""
    return pytree.tree_map(_Caster(dtype), value)


class _Caster:
    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def __call__(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype.is_floating_point:
            return value.to(self._dtype)
        return value


def _inside(name: str, outer: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in outer for end in range(1, len(parts)))


def _cast_around(module: nn.Module, inside: torch.dtype, outside: torch.dtype) -> None:
    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return cast_floating(args, inside), cast_floating(kwargs, inside)

    def leave(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        return cast_floating(output, outside)

    module.register_forward_pre_hook(enter, with_kwargs=True)
    module.register_forward_hook(leave)


def plan_from_metadata(metadata: Mapping[str, str]) -> PrecisionPlan:
    """The plan that an exported file was made with.

    Args:
        metadata: The file's ``metadata_props``.

    Raises:
        ExportError: The metadata names a precision that this version does not know.
    """
    from . import metadata as keys

    return PrecisionPlan(
        base=metadata.get(keys.BASE_PRECISION, "fp32"),
        keep_fp32=keys.names(metadata, keys.KEEP_FP32),
        io_dtype=metadata.get(keys.IO_DTYPE, "fp32"),
    )
