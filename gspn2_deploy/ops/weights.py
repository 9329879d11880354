"""From raw affinities to the weights that the scan multiplies with, and back again for gradients.

Everything here is plain tensor algebra without a loop, on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gspn2_deploy.spec import SIGMOID_SUM_MIN, Direction, Normalize

# Axis of the neighbours in w (N, 3, G, H, W).
_NEIGHBOUR_AXIS = 1


def line_axis(direction: Direction) -> int:
    """The axis that a scan line lies along: H (-2) for horizontal scans, W (-1) for vertical."""
    return -2 if direction.horizontal else -1


def scan_axis(direction: Direction) -> int:
    """The axis that a scan steps along: W (-1) for horizontal scans, H (-2) for vertical."""
    return -1 if direction.horizontal else -2


def neighbour_exists(w: Tensor, direction: Direction) -> Tensor:
    """Which of the neighbours p-1, p, p+1 lie on the line.

    Args:
        w: Affinities, (N, 3, G, H, W).
        direction: The scan direction.

    Returns:
        Booleans, (3, 1, H, 1) for horizontal scans, (3, 1, 1, W) for vertical ones.
    """
    length = w.shape[line_axis(direction)]
    position = torch.arange(length, device=w.device)
    exists = torch.stack([position > 0, position >= 0, position < length - 1])
    return exists[:, None, :, None] if direction.horizontal else exists[:, None, None, :]


def segment_start(length: int, direction: Direction, chunk: int, like: Tensor) -> Tensor:
    """Which scan steps begin a segment, shaped to broadcast over (..., H, W)."""
    step = torch.arange(length, device=like.device)
    if direction.reverse:
        step = length - 1 - step
    start = (step % chunk if chunk else step) == 0
    return start if direction.horizontal else start[:, None]


def normalized(w: Tensor, direction: Direction, normalize: Normalize) -> Tensor:
    """Turn raw affinities into weights; a missing neighbour's weight is 0.

    Args:
        w: Raw affinities, (N, 3, G, H, W), floating point.
        direction: The scan direction; it decides which axis the line's ends are on.
        normalize: How.

    Returns:
        Weights of the same shape and dtype.

    Source: GSPN (arXiv 2501.12381), Stability-Context condition.
    """
    exists = neighbour_exists(w, direction)
    if normalize is Normalize.NONE:
        return torch.where(exists, w, 0.0)
    if normalize is Normalize.SIGMOID:
        gate = torch.where(exists, torch.sigmoid(w), 0.0)
        return gate / gate.sum(_NEIGHBOUR_AXIS, keepdim=True).clamp_min(SIGMOID_SUM_MIN)
    return torch.where(exists, w, -torch.inf).softmax(_NEIGHBOUR_AXIS)


def normalized_backward(
    grad: Tensor, w: Tensor, weights: Tensor, direction: Direction, normalize: Normalize
) -> Tensor:
    """Pull a gradient with respect to the weights back to the raw affinities.

    Args:
        grad: Gradient with respect to ``weights``, (N, 3, G, H, W).
        w: Raw affinities, (N, 3, G, H, W).
        weights: ``normalized(w, direction, normalize)``.
        direction: The scan direction.
        normalize: The normalisation used.

    Returns:
        The gradient with respect to ``w``, (N, 3, G, H, W).
    """
    exists = neighbour_exists(w, direction)
    if normalize is Normalize.NONE:
        return torch.where(exists, grad, 0.0)
    along = (grad * weights).sum(_NEIGHBOUR_AXIS, keepdim=True)
    if normalize is Normalize.SOFTMAX:
        return weights * (grad - along)
    gate = torch.where(exists, torch.sigmoid(w), 0.0)
    total = gate.sum(_NEIGHBOUR_AXIS, keepdim=True)
    # Where the clamp holds, the sum does not depend on w.
    inner = grad - torch.where(total > SIGMOID_SUM_MIN, along, 0.0)
    return inner / total.clamp_min(SIGMOID_SUM_MIN) * gate * (1 - gate)


def shifted(value: Tensor, axis: int, by: int) -> Tensor:
    """Shift by one position along an axis and fill with zeros: ``out[i] = value[i - by]``."""
    length = value.shape[axis]
    out = torch.zeros_like(value)
    if by > 0:
        out.narrow(axis, by, length - by).copy_(value.narrow(axis, 0, length - by))
    elif by < 0:
        out.narrow(axis, 0, length + by).copy_(value.narrow(axis, -by, length + by))
    else:
        out.copy_(value)
    return out
