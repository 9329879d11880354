"""The operators in float64 torch: a loop over the scan steps, whole lines at once.

Differentiable, on any device, and independent of the package. ``tests/gpu/test_scan_reference.py``
holds it against the element-by-element reference of ``tests/reference.py``.

Source: GSPN-2 (arXiv 2512.07884), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

DIRECTIONS = ("left_to_right", "right_to_left", "top_to_bottom", "bottom_to_top")


def _frame(value: Tensor, direction: str) -> Tensor:
    """(..., H, W) -> (..., T, L), steps in scan order; its own inverse up to the order of axes."""
    if direction in ("left_to_right", "right_to_left"):
        value = value.transpose(-2, -1)
    return value.flip(-2) if direction in ("right_to_left", "bottom_to_top") else value


def _unframe(value: Tensor, direction: str) -> Tensor:
    if direction in ("right_to_left", "bottom_to_top"):
        value = value.flip(-2)
    return value.transpose(-2, -1) if direction in ("left_to_right", "right_to_left") else value


def _weights(raw: Tensor, normalize: str) -> Tensor:
    """Raw affinities (N, 3, G, T, L) -> weights, 0 for the neighbours that a line's ends lack."""
    exists = torch.ones(3, 1, 1, raw.shape[-1], dtype=torch.bool, device=raw.device)
    exists[0, ..., 0] = exists[2, ..., -1] = False
    if normalize == "none":
        return torch.where(exists, raw, 0.0)
    if normalize == "softmax":
        return torch.softmax(raw.masked_fill(~exists, -torch.inf), dim=1)
    gates = torch.sigmoid(raw).masked_fill(~exists, 0.0)
    return gates / gates.sum(1, keepdim=True).clamp(min=1e-7)


def line_scan(
    x: Tensor, lam: Tensor, w: Tensor, direction: str, normalize: str = "sigmoid", chunk: int = 0
) -> Tensor:
    """h (N, C, H, W) in float64 from x, lam (N, C, H, W) and w (N, 3, G, H, W) of any dtype."""
    x, lam, w = (_frame(value.double(), direction) for value in (x, lam, w))
    drives = (lam * x).unbind(-2)
    before, same, after = (part.unbind(-2) for part in _weights(w, normalize).unbind(1))
    rows: list[Tensor] = []
    padded = drives[0]
    for t, drive in enumerate(drives):
        state = drive
        if t % chunk if chunk else t:
            state = torch.addcmul(state, before[t], padded[..., :-2])
            state = torch.addcmul(state, same[t], padded[..., 1:-1])
            state = torch.addcmul(state, after[t], padded[..., 2:])
        rows.append(state)
        padded = torch.nn.functional.pad(state, (1, 1))
    return _unframe(torch.stack(rows, dim=-2), direction)


def prop2d(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    d: Tensor | None = None,
    m: Tensor | None = None,
    normalize: str = "sigmoid",
    chunk: int = 0,
) -> Tensor:
    """y (N, C, H, W) in float64; x (N, C, H, W), gates (N, 4, C, H, W), w (N, 4, 3, G, H, W)."""
    total = torch.zeros_like(x, dtype=torch.float64)
    for k, direction in enumerate(DIRECTIONS):
        part = u[:, k].double() * line_scan(x, lam[:, k], w[:, k], direction, normalize, chunk)
        if d is not None:
            part = part + d[:, k].double() * x.double()
        total = total + (part if m is None else m[k].double() * part)
    return total
