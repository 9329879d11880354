"""The CPU implementation: a loop over the scan steps, vectorised over everything else.

It is what PyTorch runs where there is no GPU, and what exported files are compared with. The state
and every sum are float32 (float64 for float64 inputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gspn2_deploy.ops.weights import normalized, scan_axis
from gspn2_deploy.spec import DIRECTIONS, Direction, Normalize


def line_scan(
    x: Tensor, lam: Tensor, w: Tensor, direction: Direction, normalize: Normalize, chunk: int
) -> Tensor:
    """Scan one direction. Shapes as in :data:`gspn2_deploy.spec.LINE_SCAN_SHAPES`."""
    state = _state_dtype(x)
    drive = _to_scan_frame(lam.to(state) * x.to(state), direction)
    weights = _to_scan_frame(normalized(w.to(state), direction, normalize), direction)
    h = _scan(drive[:, None], weights[:, None], chunk)[:, 0]
    return _from_scan_frame(h, direction).to(x.dtype).contiguous()


def prop2d(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    d: Tensor | None,
    m: Tensor | None,
    normalize: Normalize,
    chunk: int,
) -> Tensor:
    """Scan all four directions and merge. Shapes as in :data:`gspn2_deploy.spec.PROP2D_SHAPES`."""
    state = _state_dtype(x)
    source = x.to(state)
    y = torch.zeros_like(source)
    # The two directions of an axis share one loop: half the steps of Python.
    for pair in (DIRECTIONS[:2], DIRECTIONS[2:]):
        index = [DIRECTIONS.index(direction) for direction in pair]
        drive = torch.stack(
            [_to_scan_frame(lam[:, k].to(state) * source, DIRECTIONS[k]) for k in index], dim=1
        )
        weights = torch.stack(
            [
                _to_scan_frame(normalized(w[:, k].to(state), DIRECTIONS[k], normalize), pair[i])
                for i, k in enumerate(index)
            ],
            dim=1,
        )
        h = _scan(drive, weights, chunk)
        for i, k in enumerate(index):
            part = u[:, k].to(state) * _from_scan_frame(h[:, i], DIRECTIONS[k])
            if d is not None:
                part = part + d[:, k].to(state) * source
            y = y + (part if m is None else m[k].to(state) * part)
    return y.to(x.dtype).contiguous()


def _state_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _to_scan_frame(value: Tensor, direction: Direction) -> Tensor:
    """(..., H, W) -> (..., T, L): steps in scan order, then positions on the line."""
    if direction.reverse:
        value = value.flip(scan_axis(direction))
    return value.transpose(-1, -2) if direction.horizontal else value


def _from_scan_frame(value: Tensor, direction: Direction) -> Tensor:
    """The inverse of :func:`_to_scan_frame`."""
    if direction.horizontal:
        value = value.transpose(-1, -2)
    return value.flip(scan_axis(direction)) if direction.reverse else value


def _scan(drive: Tensor, weights: Tensor, chunk: int) -> Tensor:
    """The recurrence in the scan frame.

    Args:
        drive: lam * x, (N, K, C, T, L) for K directions.
        weights: Normalised, 0 for missing neighbours, (N, K, 3, G, T, L).
        chunk: Steps per segment, 0 for the whole line.

    Returns:
        h, (N, K, C, T, L).
    """
    steps, length = drive.shape[-2:]
    segment = min(chunk, steps) if chunk else steps
    segments = -(-steps // segment)
    padding = (0, 0, 0, segments * segment - steps)
    # (..., T, L) -> (T', ..., S, L): segments are independent, so they join the batch.
    drive = torch.nn.functional.pad(drive, padding)
    drive = torch.unflatten(drive, -2, (segments, segment)).movedim(-2, 0).contiguous()
    weights = torch.nn.functional.pad(weights, padding)
    weights = torch.unflatten(weights, -2, (segments, segment)).movedim(-2, 0).contiguous()
    before, same, after = weights.unbind(3)

    # One zero on either side of each line stands for the neighbours that do not exist.
    h = drive.new_zeros(*drive.shape[:-1], length + 2)
    h[0, ..., 1:-1] = drive[0]  # nothing flows into a segment's first step
    for t in range(1, segment):
        previous, line = h[t - 1], h[t, ..., 1:-1]
        torch.addcmul(drive[t], before[t], previous[..., :-2], out=line)
        line.addcmul_(same[t], previous[..., 1:-1])
        line.addcmul_(after[t], previous[..., 2:])
    inner = h[..., 1:-1].movedim(0, -2).flatten(-3, -2)
    return inner[..., :steps, :]
