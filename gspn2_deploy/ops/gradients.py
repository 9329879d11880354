"""Gradients of both operators, expressed through the forward scan.

The backward pass of a scan is a scan in the opposite direction with the weights transposed, so
each device's forward implementation serves it too. All gradients are computed in float32 (float64
for float64 inputs) and returned in the dtype of the inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gspn2_deploy.ops.weights import (
    line_axis,
    normalized,
    normalized_backward,
    scan_axis,
    segment_start,
    shifted,
)
from gspn2_deploy.spec import DIRECTIONS, Direction, Normalize


def _line_scan(
    x: Tensor, lam: Tensor, w: Tensor, direction: Direction, normalize: Normalize, chunk: int
) -> Tensor:
    out: Tensor = torch.ops.gspn2.line_scan(x, lam, w, direction.value, normalize.value, chunk)
    return out


def _adjoint_scan(grad_h: Tensor, weights: Tensor, direction: Direction, chunk: int) -> Tensor:
    """Run the scan backwards: ``g[t] = grad_h[t] + W(t+1)^T g[t+1]``.

    The transposed weights of position p towards its neighbours are those that the neighbours had
    towards p, one scan step later; they are 0 where a segment ends.

    Args:
        grad_h: Gradient with respect to h, (N, C, H, W).
        weights: Normalised weights, (N, 3, G, H, W), in the dtype of ``grad_h``.
        direction: The forward direction.
        chunk: The forward chunk.

    Returns:
        g, (N, C, H, W).
    """
    along, across = line_axis(direction), scan_axis(direction)
    start = segment_start(weights.shape[across], direction, chunk, weights)
    weights = torch.where(start, 0.0, weights)
    later = 1 if direction.reverse else -1  # the next step's value stands at the current step
    before, same, after = (shifted(part, across, later) for part in weights.unbind(1))
    transposed = torch.stack([shifted(after, along, 1), same, shifted(before, along, -1)], dim=1)
    ones = torch.ones_like(grad_h)
    return _line_scan(grad_h, ones, transposed, direction.opposite, Normalize.NONE, 0)


def _weights_gradient(
    g: Tensor,
    h: Tensor,
    w: Tensor,
    weights: Tensor,
    direction: Direction,
    normalize: Normalize,
    chunk: int,
) -> Tensor:
    """Gradient with respect to the raw affinities, (N, 3, G, H, W), from g and the states h."""
    along, across = line_axis(direction), scan_axis(direction)
    previous = shifted(h, across, -1 if direction.reverse else 1)
    neighbours = [shifted(previous, along, by) for by in (1, 0, -1)]
    grad = torch.stack([g * value for value in neighbours], dim=1)
    start = segment_start(h.shape[across], direction, chunk, h)
    grad = torch.where(start, 0.0, grad)
    if w.shape[2] == 1:
        grad = grad.sum(2, keepdim=True)
    return normalized_backward(grad, w, weights, direction, normalize)


def _direction_backward(
    grad_h: Tensor,
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    h: Tensor,
    direction: Direction,
    normalize: Normalize,
    chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to x, lam and w of one direction, all in the state's dtype."""
    weights = normalized(w, direction, normalize)
    g = _adjoint_scan(grad_h, weights, direction, chunk)
    return g * lam, g * x, _weights_gradient(g, h, w, weights, direction, normalize, chunk)


def line_scan_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep what the backward pass of ``line_scan`` needs."""
    x, lam, w, ctx.direction, ctx.normalize, ctx.chunk = inputs
    ctx.save_for_backward(x, lam, w, output)


def line_scan_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of ``line_scan`` with respect to x, lam and w."""
    x, lam, w, h = ctx.saved_tensors
    state = torch.promote_types(x.dtype, torch.float32)
    grad_h, source, gate, affinity, states = (t.to(state) for t in (grad, x, lam, w, h))
    grads = _direction_backward(
        grad_h,
        source,
        gate,
        affinity,
        states,
        Direction(ctx.direction),
        Normalize(ctx.normalize),
        ctx.chunk,
    )
    return *(value.to(x.dtype) for value in grads), None, None, None


def prop2d_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep what the backward pass of ``prop2d`` needs: the inputs, not the states."""
    x, lam, w, u, d, m, ctx.normalize, ctx.chunk = inputs
    ctx.save_for_backward(x, lam, w, u, d, m)


def prop2d_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of ``prop2d`` with respect to x, lam, w, u, d and m."""
    x, lam, w, u, d, m = ctx.saved_tensors
    state = torch.promote_types(x.dtype, torch.float32)
    normalize = Normalize(ctx.normalize)
    grad, source = grad.to(state), x.to(state)
    grad_x = torch.zeros_like(source)
    per_direction: list[tuple[Tensor, ...]] = []
    for k, direction in enumerate(DIRECTIONS):
        lam_k, w_k, u_k = (value[:, k].to(state) for value in (lam, w, u))
        # The states are computed anew: keeping four maps would cost more memory than time.
        h = _line_scan(source, lam_k, w_k, direction, normalize, ctx.chunk)
        scaled = grad if m is None else m[k].to(state) * grad
        from_scan, grad_lam, grad_w = _direction_backward(
            scaled * u_k, source, lam_k, w_k, h, direction, normalize, ctx.chunk
        )
        grad_x = grad_x + from_scan
        grads = [grad_lam, grad_w, scaled * h]
        part = u_k * h
        if d is not None:
            d_k = d[:, k].to(state)
            grad_x = grad_x + scaled * d_k
            grads.append(scaled * source)
            part = part + d_k * source
        grads.append((grad * part).sum())
        per_direction.append(tuple(grads))
    columns = list(zip(*per_direction, strict=True))
    grad_lam, grad_w, grad_u = (torch.stack(column, dim=1).to(x.dtype) for column in columns[:3])
    grad_d = None if d is None else torch.stack(columns[3], dim=1).to(x.dtype)
    grad_m = None if m is None else torch.stack(columns[-1]).to(x.dtype)
    return grad_x.to(x.dtype), grad_lam, grad_w, grad_u, grad_d, grad_m, None, None
