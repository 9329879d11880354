"""NaN and Inf on the emulated device: kept out without influence, spread exactly with it."""

from __future__ import annotations

import ctypes
import itertools

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

EXTENTS = (
    (1, 6), (6, 1), (7, 7), (33, 40), (64, 64), (136, 24), (24, 136), (6, 504), (6, 520),
)  # fmt: skip
POISONS = (torch.nan, torch.inf, -torch.inf)
MODES = ("sigmoid", "softmax", "none")


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("normalize", MODES)
def test_affinities_without_influence(library: ctypes.CDLL, direction: str, normalize: str) -> None:
    for i, extent in enumerate(EXTENTS):
        dtype = DTYPES[i % 3]
        for chunk in (0, 4):
            x, lam, w = line_scan_inputs((1, 2, *extent), True, dtype, normalize, "cpu")
            mask = powerless(extent, direction, chunk, "cpu").expand_as(w)
            clean = w.masked_fill(mask, 0.0)
            expected = line_scan(x, lam, clean, direction, normalize, chunk, library=library)
            assert not expected.isnan().any()
            for poison in POISONS:
                poisoned = w.masked_fill(mask, poison)
                out = line_scan(x, lam, poisoned, direction, normalize, chunk, library=library)
                assert torch.equal(out, expected), f"{extent} {dtype} chunk={chunk} {poison}"


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("normalize", MODES)
def test_affinities_without_influence_in_prop2d(library: ctypes.CDLL, normalize: str) -> None:
    for i, (channels, extent) in enumerate(itertools.product((2, 4), EXTENTS)):
        dtype = DTYPES[i % 3]  # four channels weigh the affinities that they share once
        size = (1, channels, *extent)
        for chunk in (0, 4):
            x, lam, w, *rest = prop2d_inputs(size, False, dtype, normalize, True, "cpu")
            masks = [powerless(extent, direction, chunk, "cpu") for direction in DIRECTION_NAMES]
            mask = torch.stack(masks).expand_as(w)
            clean = w.masked_fill(mask, 0.0)
            expected = prop2d(x, lam, clean, *rest, normalize, chunk, library=library)
            assert not expected.isnan().any()
            for poison in POISONS:
                poisoned = w.masked_fill(mask, poison)
                out = prop2d(x, lam, poisoned, *rest, normalize, chunk, library=library)
                assert torch.equal(out, expected), f"{extent} {dtype} chunk={chunk} {poison}"


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("chunk", [0, 5])
def test_features_spread_in_their_cone(library: ctypes.CDLL, direction: str, chunk: int) -> None:
    for i, extent in enumerate([(7, 9), (33, 40), (64, 64), (40, 136), (136, 40), (9, 520)]):
        dtype = DTYPES[i % 3]
        for poison in POISONS:
            for row, column in ((0, 0), (extent[0] // 2, extent[1] // 2), (-1, -1)):
                x, lam, w = line_scan_inputs((1, 2, *extent), True, dtype, "sigmoid", "cpu")
                lam = lam.clamp_min(0.25)  # 0 * Inf would be NaN
                x[0, 1, row, column] = poison
                expected = scan_reference.line_scan(x, lam, w, direction, "sigmoid", chunk)
                out = line_scan(x, lam, w, direction, "sigmoid", chunk, library=library)
                what = f"{extent} {dtype} {poison} at {row}, {column}"
                assert_same_nonfinite(out, expected, what)


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("normalize", MODES)
def test_affinities_with_influence_spread(
    library: ctypes.CDLL, direction: str, normalize: str
) -> None:
    for i, extent in enumerate([(33, 40), (64, 64), (136, 40), (9, 520)]):
        dtype = DTYPES[i % 3]
        x, lam, w = line_scan_inputs((1, 2, *extent), True, dtype, normalize, "cpu")
        w[0, 1, 1, extent[0] // 2, extent[1] // 2] = torch.nan
        expected = scan_reference.line_scan(x, lam, w, direction, normalize)
        out = line_scan(x, lam, w, direction, normalize, library=library)
        assert_same_nonfinite(out, expected, f"{dtype} {extent}")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES)
def test_features_spread_in_prop2d(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    for extent in ((7, 9), (33, 40), (64, 64), (40, 136), (9, 504), (9, 520)):
        x, *rest = prop2d_inputs((1, 2, *extent), False, dtype, "sigmoid", True, "cpu")
        x[0, 1, extent[0] // 2, extent[1] // 2] = torch.nan
        expected = scan_reference.prop2d(x, *rest, "sigmoid", 5)
        out = prop2d(x, *rest, "sigmoid", 5, library=library)
        assert_same_nonfinite(out, expected, f"{dtype} {extent}")


@pytest.mark.usefixtures("way")
def test_features_spread_where_affinities_are_weighed_once(library: ctypes.CDLL) -> None:
    for dtype, extent in itertools.product(DTYPES, ((136, 40), (40, 136))):
        for row, column in ((0, 0), (extent[0] // 2, extent[1] // 2), (-1, -1)):
            x, *rest = prop2d_inputs((1, 4, *extent), False, dtype, "sigmoid", True, "cpu")
            x[0, 1, row, column] = torch.inf
            x[0, 2, row, column] = torch.nan
            expected = scan_reference.prop2d(x, *rest, "sigmoid", 5)
            out = prop2d(x, *rest, "sigmoid", 5, library=library)
            assert_same_nonfinite(out, expected, f"{dtype} {extent} at {row}, {column}")
