"""What gspn2_channel_norm, gspn2_depthwise and gspn2_depthwise_norm have to give, in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def channel_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    response_scale: Tensor | None = None,
    response_shift: Tensor | None = None,
    *,
    projection: tuple[Tensor, Tensor, Tensor] | None = None,
    epsilon: float = 1e-6,
    response_epsilon: float = 1e-6,
) -> Tensor:
    """Normalise (N, C, H, W) over C, and where asked for the responses over H and W behind it.

    `projection`, of proxy (N, P, H, W), weight (P, C) and bias (C,), is added to x first. The sum
    is rounded to x's type.
    """
    if projection is not None:
        proxy, weight, bias = (value.double() for value in projection)
        added = torch.einsum("nphw,pc->nchw", proxy, weight) + bias.view(-1, 1, 1)
        x = (x.double() + added).to(x.dtype)
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


def depthwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    silu: bool = False,
    residual: bool = False,
) -> Tensor:
    """Convolve each channel of (N, C, H, W) by itself; add x; activate."""
    wide = x.double()
    added = None if bias is None else bias.double()
    y = functional.conv2d(
        wide, weight.double(), added, padding=weight.shape[-1] // 2, groups=x.shape[1]
    )
    y = y + wide if residual else y
    return functional.silu(y) if silu else y


def depthwise_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    *,
    silu: bool = False,
    residual: bool = False,
    epsilon: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """Convolve as `depthwise`, then normalise that, rounded to x's type, over C."""
    y = depthwise(x, weight, bias, silu=silu, residual=residual)
    return y, channel_norm(y.to(x.dtype), scale, shift, epsilon=epsilon)
