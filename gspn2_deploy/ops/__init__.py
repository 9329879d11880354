"""``gspn2::prop2d`` and ``gspn2::line_scan`` as PyTorch custom operators.

Importing this module registers both with their schema, shape function, CPU and CUDA
implementations and gradients. The backward pass is the same scan run in the opposite
direction with the weights transposed, so each device's forward implementation serves it too.

Source: GSPN-2 (arXiv 2512.07884), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gspn2_deploy.ops import gradients, reference
from gspn2_deploy.ops.checks import check_line_scan, check_prop2d
from gspn2_deploy.spec import (
    DEFAULT_CHUNK,
    DEFAULT_NORMALIZE,
    TORCH_NAMESPACE,
    Direction,
    Normalize,
)

__all__ = ["line_scan", "prop2d"]


@torch.library.custom_op(
    f"{TORCH_NAMESPACE}::line_scan", mutates_args=(), device_types=("cpu", "cuda")
)
def line_scan(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    direction: str = Direction.LEFT_TO_RIGHT.value,
    normalize: str = DEFAULT_NORMALIZE,
    chunk: int = DEFAULT_CHUNK,
) -> Tensor:
    """Propagate along one direction: ``h[t] = W(t) h[t-1] + lam(t) x(t)``.

    Args:
        x: Features, (N, C, H, W), float32, float16, bfloat16 or (CPU only) float64.
        lam: Input gate, (N, C, H, W).
        w: Affinities to the neighbours p-1, p, p+1 of the previous line, (N, 3, G, H, W); G is 1
            (shared by the channels) or C. A segment's first step uses none of them.
        direction: A value of :class:`gspn2_deploy.spec.Direction`.
        normalize: A value of :class:`gspn2_deploy.spec.Normalize`.
        chunk: Steps after which the state restarts at 0, counted from the scan's first step;
            0 for the whole line.

    Returns:
        The states h, (N, C, H, W), of x's dtype and device, contiguous.

    Raises:
        ShapeError: Shapes, dtypes or attributes do not fit together.
    """
    check_line_scan(x, lam, w, direction, normalize, chunk)
    if x.is_cuda:
        from gspn2_deploy.ops import cuda  # bound on first use: the CPU needs no kernel library

        return cuda.line_scan(x, lam, w, Direction(direction), Normalize(normalize), chunk)
    return reference.line_scan(x, lam, w, Direction(direction), Normalize(normalize), chunk)


@torch.library.custom_op(
    f"{TORCH_NAMESPACE}::prop2d", mutates_args=(), device_types=("cpu", "cuda")
)
def prop2d(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    d: Tensor | None = None,
    m: Tensor | None = None,
    normalize: str = DEFAULT_NORMALIZE,
    chunk: int = DEFAULT_CHUNK,
) -> Tensor:
    """Propagate along all four directions and merge: ``y = sum_k m_k (u_k h_k + d_k x)``.

    Args:
        x: Features, (N, C, H, W), float32, float16, bfloat16 or (CPU only) float64.
        lam: Input gates, (N, 4, C, H, W), one per direction in the order of
            :data:`gspn2_deploy.spec.DIRECTIONS`, at image coordinates.
        w: Affinities, (N, 4, 3, G, H, W); G is 1 (shared by the channels) or C.
        u: Output gates, (N, 4, C, H, W).
        d: Skip gates, (N, 4, C, H, W), or None for no skip.
        m: Merge weights, (4,), or None for 1.
        normalize: A value of :class:`gspn2_deploy.spec.Normalize`.
        chunk: Steps after which the state restarts at 0; 0 for the whole line.

    Returns:
        y, (N, C, H, W), of x's dtype and device, contiguous.

    Raises:
        ShapeError: Shapes, dtypes or attributes do not fit together.
    """
    check_prop2d(x, lam, w, u, d, m, normalize, chunk)
    if x.is_cuda:
        from gspn2_deploy.ops import cuda  # bound on first use: the CPU needs no kernel library

        return cuda.prop2d(x, lam, w, u, d, m, Normalize(normalize), chunk)
    return reference.prop2d(x, lam, w, u, d, m, Normalize(normalize), chunk)


@line_scan.register_fake
def _line_scan_fake(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    direction: str = Direction.LEFT_TO_RIGHT.value,
    normalize: str = DEFAULT_NORMALIZE,
    chunk: int = DEFAULT_CHUNK,
) -> Tensor:
    check_line_scan(x, lam, w, direction, normalize, chunk)
    return x.new_empty(x.shape)


@prop2d.register_fake
def _prop2d_fake(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    d: Tensor | None = None,
    m: Tensor | None = None,
    normalize: str = DEFAULT_NORMALIZE,
    chunk: int = DEFAULT_CHUNK,
) -> Tensor:
    check_prop2d(x, lam, w, u, d, m, normalize, chunk)
    return x.new_empty(x.shape)


line_scan.register_autograd(gradients.line_scan_backward, setup_context=gradients.line_scan_setup)
prop2d.register_autograd(gradients.prop2d_backward, setup_context=gradients.prop2d_setup)
