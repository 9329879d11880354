"""What a kernel's result may differ from float64 by, per dtype of the tensors.

An element passes when ``|out - ref| <= rtol * |ref| + atol * max|ref|``. State and sums are float32
for every dtype, so `atol` covers their rounding and `rtol` the rounding of the stored result: half
a unit in the last place is 2^-11 for float16 and 2^-8 for bfloat16, relative to the value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """Bounds of one dtype: `rtol` relative to the element, `atol` to the largest element."""

    rtol: float
    atol: float


FORWARD = {
    torch.float32: Tolerance(rtol=1e-5, atol=5e-6),
    torch.float16: Tolerance(rtol=2.0**-11 * 1.02, atol=1e-5),
    torch.bfloat16: Tolerance(rtol=2.0**-8 * 1.02, atol=1e-5),
}
# Gradients of the 16-bit dtypes go through a state h that was stored in 16 bits.
GRADIENT = {
    torch.float32: Tolerance(rtol=1e-5, atol=2e-5),
    torch.float16: Tolerance(rtol=2e-3, atol=2e-3),
    torch.bfloat16: Tolerance(rtol=2e-2, atol=2e-2),
}


def assert_close(out: Tensor, ref: Tensor, tolerance: Tolerance, what: str = "") -> None:
    """Fail unless every element of `out` is within `tolerance` of the float64 `ref`.

    NaN and Inf must stand in exactly the same places; an empty comparison fails.
    """
    assert out.shape == ref.shape, f"{what}: shape {tuple(out.shape)} != {tuple(ref.shape)}"
    assert out.numel() > 0, f"{what}: nothing to compare"
    assert ref.dtype == torch.float64, f"{what}: the reference is {ref.dtype}"
    finite = ref.isfinite()
    # A value past the dtype's range is stored as Inf, which is right.
    finite &= ref.abs() <= torch.finfo(out.dtype).max
    wide = out.double()
    assert torch.equal(wide.isnan(), ref.isnan()), (
        f"{what}: NaN in {int(wide.isnan().sum())} places, expected {int(ref.isnan().sum())}"
    )
    assert torch.equal(wide.isinf() | wide.isnan(), ~finite), f"{what}: Inf in the wrong places"
    error = torch.where(finite, (wide - ref).abs(), 0.0)
    magnitude = torch.where(finite, ref.abs(), 0.0)
    bound = tolerance.rtol * magnitude + tolerance.atol * magnitude.max()
    excess = error - bound
    worst = int(excess.argmax())
    assert float(excess.max()) <= 0, (
        f"{what}: {int((excess > 0).sum())} of {excess.numel()} elements are off; worst at flat "
        f"index {worst}: got {float(wide.flatten()[worst])}, expected "
        f"{float(ref.flatten()[worst])}, bound {float(bound.flatten()[worst])}"
    )
