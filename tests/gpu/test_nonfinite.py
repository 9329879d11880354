"""NaN and Inf: kept out where they have no influence, spread exactly where they have."""

from __future__ import annotations

import pytest
import scan_reference
import torch
from kernel_calls import (
    DIRECTION_NAMES,
    DTYPES,
    assert_same_nonfinite,
    line_scan,
    line_scan_inputs,
    powerless,
    prop2d,
    prop2d_inputs,
)

pytestmark = pytest.mark.gpu

EXTENTS = ((1, 6), (6, 1), (7, 7), (33, 40), (64, 64), (128, 256), (24, 1030), (1030, 24))
POISONS = (torch.nan, torch.inf, -torch.inf)


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("extent", EXTENTS, ids=str)
def test_affinities_without_influence(
    extent: tuple[int, int], direction: str, normalize: str
) -> None:
    for dtype in DTYPES:
        for chunk in (0, 4):
            x, lam, w = line_scan_inputs((2, 2, *extent), True, dtype, normalize)
            mask = powerless(extent, direction, chunk).expand_as(w)
            expected = line_scan(x, lam, w.masked_fill(mask, 0.0), direction, normalize, chunk)
            assert not expected.isnan().any()
            for poison in POISONS:
                poisoned = w.masked_fill(mask, poison)
                out = line_scan(x, lam, poisoned, direction, normalize, chunk)
                assert torch.equal(out, expected), f"{dtype} chunk={chunk} {poison}"


@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("extent", EXTENTS, ids=str)
def test_affinities_without_influence_in_prop2d(extent: tuple[int, int], normalize: str) -> None:
    for dtype in DTYPES:
        for chunk in (0, 4):
            x, lam, w, *rest = prop2d_inputs((2, 2, *extent), False, dtype, normalize, True)
            masks = [powerless(extent, direction, chunk) for direction in DIRECTION_NAMES]
            mask = torch.stack(masks).expand_as(w)
            expected = prop2d(x, lam, w.masked_fill(mask, 0.0), *rest, normalize, chunk)
            assert not expected.isnan().any()
            for poison in POISONS:
                out = prop2d(x, lam, w.masked_fill(mask, poison), *rest, normalize, chunk)
                assert torch.equal(out, expected), f"{dtype} chunk={chunk} {poison}"


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("chunk", [0, 5])
@pytest.mark.parametrize("extent", [(7, 9), (33, 40), (64, 64), (40, 256)], ids=str)
def test_features_spread_in_their_cone(extent: tuple[int, int], direction: str, chunk: int) -> None:
    for dtype in DTYPES:
        for poison in POISONS:
            for row, column in ((0, 0), (extent[0] // 2, extent[1] // 2), (-1, -1)):
                x, lam, w = line_scan_inputs((2, 2, *extent), True, dtype, "sigmoid")
                lam = lam.clamp_min(0.25)  # 0 * Inf would be NaN
                x[1, 0, row, column] = poison
                expected = scan_reference.line_scan(x, lam, w, direction, "sigmoid", chunk)
                out = line_scan(x, lam, w, direction, "sigmoid", chunk)
                assert_same_nonfinite(out, expected, f"{dtype} {poison} at {row}, {column}")


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
def test_affinities_with_influence_spread(direction: str, normalize: str) -> None:
    for dtype in DTYPES:
        for extent in ((33, 40), (64, 64)):
            x, lam, w = line_scan_inputs((1, 2, *extent), True, dtype, normalize)
            w[0, 1, 1, extent[0] // 2, extent[1] // 2] = torch.nan
            expected = scan_reference.line_scan(x, lam, w, direction, normalize)
            out = line_scan(x, lam, w, direction, normalize)
            assert_same_nonfinite(out, expected, f"{dtype} {extent}")


@pytest.mark.parametrize("extent", [(7, 9), (33, 40), (64, 64), (40, 256)], ids=str)
def test_features_spread_in_prop2d(extent: tuple[int, int]) -> None:
    for dtype in DTYPES:
        x, lam, w, u, d, m = prop2d_inputs((2, 2, *extent), False, dtype, "sigmoid", True)
        x[1, 0, extent[0] // 2, extent[1] // 2] = torch.nan
        expected = scan_reference.prop2d(x, lam, w, u, d, m, "sigmoid", 5)
        out = prop2d(x, lam, w, u, d, m, "sigmoid", 5)
        assert_same_nonfinite(out, expected, f"{dtype}")


def test_float16_state_past_its_range_is_not_lost() -> None:
    """The float32 state carries values that float16 cannot store and comes back from them."""
    size = (1, 1, 8, 4)
    x = torch.zeros(size, dtype=torch.float16, device="cuda")
    lam = torch.full_like(x, 1000.0)
    x[:, :, 0] = 100.0  # 100,000 at the first step
    w = torch.zeros(1, 3, 1, 8, 4, dtype=torch.float16, device="cuda")
    w[:, 1] = 0.5
    out = line_scan(x, lam, w, "top_to_bottom", "none")
    assert out[0, 0, 0].isposinf().all()
    halves = torch.tensor([50000.0, 25000.0, 12500.0, 6250.0], device="cuda", dtype=torch.float16)
    assert torch.equal(out[0, 0, 1:5, 0], halves)
