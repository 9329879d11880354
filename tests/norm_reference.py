"""What gspn2_channel_norm has to give, in float64."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def channel_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    response_scale: Tensor | None = None,
    response_shift: Tensor | None = None,
    *,
    epsilon: float = 1e-6,
    response_epsilon: float = 1e-6,
) -> Tensor:
    """Normalise (N, C, H, W) over C, and where asked for the responses over H and W behind it."""
    last = x.double().movedim(1, -1)
    z = functional.layer_norm(last, last.shape[-1:], scale.double(), shift.double(), epsilon)
    z = z.movedim(-1, 1)
    if response_scale is None or response_shift is None:
        return z
    response = (z.square().mean((2, 3), keepdim=True) + response_epsilon).sqrt()
    relative = response / response.mean(1, keepdim=True)
    column = (-1, 1, 1)
    factor = 1 + response_scale.double().view(column) * relative
    return z * factor + response_shift.double().view(column)
