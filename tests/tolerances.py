"""Holds a kernel's result against float64, to the package's tolerances of single ops."""

from __future__ import annotations

import torch
from torch import Tensor

from gspn2_deploy.validate.tolerances import OP_GRADIENT_TOLERANCES, OP_TOLERANCES, Tolerance

FORWARD = {getattr(torch, name): row for name, row in OP_TOLERANCES.items()}
GRADIENT = {getattr(torch, name): row for name, row in OP_GRADIENT_TOLERANCES.items()}

# Of norms behind a projection: what is normalised may be the neighbouring number of the type, and
# random scales go to three times that and further.
PROJECTED = {
    dtype: Tolerance(atol=unit, rtol=unit, cosine=1 - 1e-4, scale="max")
    for dtype, unit in ((torch.float16, 2.0**-9), (torch.bfloat16, 2.0**-6))
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
