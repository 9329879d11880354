"""Shape, dtype and attribute checks of both operators, shared by every implementation."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gspn2_deploy.errors import ShapeError
from gspn2_deploy.spec import NEIGHBOURS, NUM_DIRECTIONS, Direction, Normalize


def check_line_scan(
    x: Tensor, lam: Tensor, w: Tensor, direction: str, normalize: str, chunk: int
) -> None:
    """Raise ShapeError unless the arguments of ``line_scan`` fit together."""
    _check_features("line_scan", x)
    n, c, height, width = x.shape
    _check_tensor("line_scan", "lam", lam, x, (n, c, height, width))
    _check_affinity("line_scan", w, x, (n, NEIGHBOURS), c, (height, width))
    _check_choice("line_scan", "direction", direction, Direction)
    _check_attributes("line_scan", normalize, chunk)


def check_prop2d(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    d: Tensor | None,
    m: Tensor | None,
    normalize: str,
    chunk: int,
) -> None:
    """Raise ShapeError unless the arguments of ``prop2d`` fit together."""
    _check_features("prop2d", x)
    n, c, height, width = x.shape
    gate = (n, NUM_DIRECTIONS, c, height, width)
    _check_tensor("prop2d", "lam", lam, x, gate)
    _check_affinity("prop2d", w, x, (n, NUM_DIRECTIONS, NEIGHBOURS), c, (height, width))
    _check_tensor("prop2d", "u", u, x, gate)
    if d is not None:
        _check_tensor("prop2d", "d", d, x, gate)
    if m is not None:
        _check_tensor("prop2d", "m", m, x, (NUM_DIRECTIONS,))
    _check_attributes("prop2d", normalize, chunk)


def _check_features(op: str, x: Tensor) -> None:
    if x.dim() != 4:
        raise ShapeError(f"{op}: x must have 4 axes", got=tuple(x.shape), expected="(N, C, H, W)")
    if not x.dtype.is_floating_point or x.element_size() == 1:
        raise ShapeError(
            f"{op}: x has an unsupported dtype",
            got=x.dtype,
            expected="float32, float16, bfloat16 (or float64 on the CPU)",
        )


def _check_tensor(op: str, name: str, value: Tensor, x: Tensor, shape: tuple[Any, ...]) -> None:
    if tuple(value.shape) != shape:
        raise ShapeError(
            f"{op}: {name} does not fit x {tuple(x.shape)}",
            got=tuple(value.shape),
            expected=shape,
        )
    if value.dtype != x.dtype or value.device != x.device:
        raise ShapeError(
            f"{op}: {name} differs from x in dtype or device",
            got=f"{value.dtype} on {value.device}",
            expected=f"{x.dtype} on {x.device}",
            hint=f"{name}.to(x)",
        )


def _check_affinity(
    op: str, w: Tensor, x: Tensor, lead: tuple[Any, ...], channels: Any, size: tuple[Any, Any]
) -> None:
    axis = len(lead)
    group = w.shape[axis] if w.dim() == axis + 3 else None
    if group is None or not (group == 1 or group == channels):
        raise ShapeError(
            f"{op}: w does not fit x {tuple(x.shape)}",
            got=tuple(w.shape),
            expected=f"{(*lead, 'G', *size)} with G = 1 (shared) or {channels} (per channel)",
        )
    _check_tensor(op, "w", w, x, (*lead, group, *size))


def _check_attributes(op: str, normalize: str, chunk: int) -> None:
    _check_choice(op, "normalize", normalize, Normalize)
    if chunk < 0:
        raise ShapeError(
            f"{op}: chunk is negative", got=chunk, expected="0 (the whole line) or a step count"
        )


def _check_choice(op: str, name: str, value: str, choices: Any) -> None:
    accepted = [choice.value for choice in choices]
    if value not in accepted:
        raise ShapeError(f"{op}: unknown {name}", got=repr(value), expected=", ".join(accepted))
