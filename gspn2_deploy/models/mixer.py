"""The GSPN-2 mixer: four-directional propagation in a small proxy space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gspn2_deploy.models.layers import GRN, LayerNorm2d
from gspn2_deploy.ops import prop2d
from gspn2_deploy.spec import NEIGHBOURS, NUM_DIRECTIONS


class Gspn2Mixer(nn.Module):
    """Mix positions: locally by a depthwise convolution, globally by propagation.

    ``z = SiLU(depthwise(expand(x)))`` holds the local features. A 1x1 convolution of z enters the
    proxy space, another predicts every gate and affinity, the propagation runs there, and a third
    brings its result back to be added to z; norm and projection follow. The norm stands after
    the return to E channels: over two proxy channels it would leave only a sign.

    Args:
        channels: C.
        inner: E, the channels between the projections.
        c_proxy: P, the channels that are propagated.
        shared_affinity: G = 1 instead of G = P.
        skip_gate: Whether gates d are predicted too.
        normalize: How affinities become weights, a value of ``spec.Normalize``.
        chunk: Scan steps per segment, 0 for the whole line.
        kernel_size: Kernel of the depthwise convolution, odd.
        grn: Whether a global response normalisation follows the norm.

    Source: GSPN-2 (arXiv 2512.07884), section 3 (compact channel propagation); the order of the
    layers follows GSPN (arXiv 2501.12381). What the gates are predicted from, and how the proxy
    space's result joins the features, the paper leaves open.
    """

    def __init__(
        self,
        channels: int,
        inner: int,
        *,
        c_proxy: int,
        shared_affinity: bool,
        skip_gate: bool,
        normalize: str,
        chunk: int,
        kernel_size: int,
        grn: bool,
    ) -> None:
        super().__init__()
        self.c_proxy = c_proxy
        self.skip_gate = skip_gate
        self.normalize = normalize
        self.chunk = chunk
        gates = NUM_DIRECTIONS * c_proxy
        affinities = NUM_DIRECTIONS * NEIGHBOURS * (1 if shared_affinity else c_proxy)
        # Channels of lam, u, (d) and w, in the order of the prediction.
        self.sections = [gates] * (3 if skip_gate else 2) + [affinities]

        self.expand = nn.Conv2d(channels, inner, 1)
        self.depthwise = nn.Conv2d(
            inner, inner, kernel_size, padding=kernel_size // 2, groups=inner
        )
        self.act = nn.SiLU()
        self.to_proxy = nn.Conv2d(inner, c_proxy, 1)
        self.predict = nn.Conv2d(inner, sum(self.sections), 1)
        self.merge = nn.Parameter(torch.ones(NUM_DIRECTIONS))
        self.from_proxy = nn.Conv2d(c_proxy, inner, 1)
        self.norm = LayerNorm2d(inner)
        self.grn = GRN(inner) if grn else nn.Identity()
        self.reduce = nn.Conv2d(inner, channels, 1)

    def open_gates(self) -> None:
        """Set the biases of lam and u to 1: an untrained mixer passes what it propagates."""
        gates = self.sections[0] + self.sections[1]
        with torch.no_grad():
            if self.predict.bias is not None:
                self.predict.bias[:gates] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        z = self.act(self.depthwise(self.expand(x)))
        z = z + self.from_proxy(self.propagate(z))
        y: Tensor = self.reduce(self.grn(self.norm(z)))
        return y

    def propagate(self, z: Tensor) -> Tensor:
        """Enter the proxy space and scan it.

        Args:
            z: Local features, (N, E, H, W).

        Returns:
            The merged propagation, (N, P, H, W).
        """
        proxy = self.to_proxy(z)
        lam, u, *skip, w = self.predict(z).split(self.sections, dim=1)
        by_direction = (NUM_DIRECTIONS, self.c_proxy)
        y: Tensor = prop2d(
            proxy,
            lam.unflatten(1, by_direction),  # (N, 4*P, H, W) -> (N, 4, P, H, W)
            w.unflatten(1, (NUM_DIRECTIONS, NEIGHBOURS, -1)),  # -> (N, 4, 3, G, H, W)
            u.unflatten(1, by_direction),
            skip[0].unflatten(1, by_direction) if skip else None,
            self.merge.to(proxy.dtype),  # parameters stay float32 under autocast
            self.normalize,
            self.chunk,
        )
        return y
