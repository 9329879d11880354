"""The layers around the propagation. Feature maps are (N, C, H, W) throughout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EPSILON = 1e-6


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each position, with a scale and a shift.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), the statistics in float32 for half-precision inputs."""
        # (N, C, H, W) -> (N, H, W, C) and back: the layer norm kernel works on the last axis.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GRN(nn.Module):
    """Global response normalisation: channels compete by their energy over the whole map.

    ``y = x + scale * x * r / mean_c(r) + shift`` with r the root mean square over the positions.
    The published form has the L2 norm in r's place; the ratio is the same, and a mean does not
    overflow float16 on large maps.

    Args:
        channels: C.

    Source: ConvNeXt V2 (arXiv 2301.00808), section 3; used by GSPN (arXiv 2501.12381).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        response = (x * x).mean((2, 3), keepdim=True).add(_EPSILON).sqrt()  # (N, C, 1, 1)
        relative = response / response.mean(1, keepdim=True)
        # One factor for each channel, so that the map is read and written once.
        return x * (1 + self.scale[:, None, None] * relative) + self.shift[:, None, None]


class LPU(nn.Module):
    """Local perception unit: a depthwise 3x3 convolution with a residual.

    Args:
        channels: C.

    Source: GSPN-2 (arXiv 2512.07884): at the start of each block and of each FFN.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y: Tensor = x + self.conv(x)
        return y


class MLP(nn.Module):
    """The feed-forward network: two 1x1 convolutions with a GELU between them.

    Args:
        channels: C.
        hidden: Channels between the two.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.act = nn.GELU()
        self.reduce = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y: Tensor = self.reduce(self.act(self.expand(x)))
        return y
