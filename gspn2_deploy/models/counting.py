"""Parameters and multiply-accumulates of a model, propagation included."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gspn2_deploy.spec import NEIGHBOURS, NUM_DIRECTIONS


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable scalars."""
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


def count_macs(model: nn.Module, *shape: int) -> int:
    """Count the multiply-accumulates of one forward pass.

    Convolutions, matrix products and propagations count; norms, activations, the normalisation
    of the affinities and other elementwise work do not, as is the custom. The model runs on
    shapes alone: no memory for activations and no arithmetic.

    Args:
        model: Any module with one image input, on any device; it is not changed.
        shape: Of the input, (N, C, H, W).

    Returns:
        MACs for the whole batch.
    """
    values = {
        name: value.to("meta")
        for name, value in (*model.named_parameters(), *model.named_buffers())
    }
    images = torch.empty(shape, dtype=_dtype_of(model), device="meta")
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.gspn2.prop2d: _prop2d_flops,
            torch.ops.gspn2.line_scan: _line_scan_flops,
        },
    )
    with torch.no_grad(), counter:
        torch.func.functional_call(model, values, (images,))
    return counter.get_total_flops() // 2


def prop2d_macs(x: tuple[int, ...], *, skip_gate: bool, merge: bool) -> int:
    """Multiply-accumulates of one four-directional propagation.

    Per position, channel and direction: one for each of the three neighbours, one each for
    ``lam x`` and ``u h``, and one each for ``d x`` and the merge weight where the op has them.

    Args:
        x: Shape of the features, (N, C, H, W).
        skip_gate: Whether the op has d.
        merge: Whether the op has m.
    """
    n, channels, height, width = x
    per_step = NEIGHBOURS + 2 + skip_gate + merge
    return NUM_DIRECTIONS * per_step * n * channels * height * width


def _dtype_of(model: nn.Module) -> torch.dtype:
    return next((value.dtype for value in model.parameters()), torch.float32)


def _prop2d_flops(
    x: tuple[int, ...], lam: Any, w: Any, u: Any, d: Any = None, m: Any = None, *_: Any, **__: Any
) -> int:
    return 2 * prop2d_macs(x, skip_gate=d is not None, merge=m is not None)


def _line_scan_flops(x: tuple[int, ...], *_: Any, **__: Any) -> int:
    n, channels, height, width = x
    return 2 * (NEIGHBOURS + 1) * n * channels * height * width
