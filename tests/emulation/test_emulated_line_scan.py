"""gspn2_line_scan on the emulated device against float64, on every path."""

from __future__ import annotations

import ctypes
import itertools

import pytest
import scan_reference
import torch
from conftest import FULL
from emulated import Fenced
from kernel_calls import DIRECTION_NAMES, DTYPES, line_scan, line_scan_inputs, misaligned
from tolerances import FORWARD, assert_close

SIZES = (
    (1, 1), (1, 9), (9, 1), (1, 64), (64, 1), (7, 7), (14, 16), (31, 32), (32, 31), (32, 32),
    (33, 33), (33, 40), (40, 136), (56, 56), (64, 64), (72, 40), (128, 96), (136, 40), (161, 24),
    (224, 24),
)  # fmt: skip
LONG_SIZES = (
    (72, 264), (264, 72), (300, 16), (520, 16), (16, 520), (1023, 8), (8, 1024), (1024, 16),
    (12, 1025), (1025, 7), (2, 2100), (2100, 4),
)  # fmt: skip
CHUNKS = (0, 1, 2, 5, 16, 100)
EXTENTS = ((21, 37), (64, 48), (40, 136), (136, 40), (6, 520))


def check(
    library: ctypes.CDLL,
    size: tuple[int, int, int, int],
    direction: str,
    dtype: torch.dtype,
    normalize: str = "sigmoid",
    chunk: int = 0,
    per_channel: bool = True,
    at_end: bool = True,
) -> None:
    x, lam, w = line_scan_inputs(size, per_channel, dtype, normalize, "cpu")
    expected = scan_reference.line_scan(x, lam, w, direction, normalize, chunk)
    what = f"{size} {direction} {dtype} {normalize} chunk={chunk} {per_channel=} {at_end=}"
    with Fenced(library) as fenced:
        inputs = fenced.copies(x, lam, w, at_end=at_end)
        out = line_scan(*inputs, direction, normalize, chunk, library=library)
        assert_close(out, expected, FORWARD[dtype], what)


# Every pair of two attributes' values occurs; all of them together where FULL.
def attribute_cases() -> list[tuple[str, torch.dtype, str, int, bool, tuple[int, int]]]:
    every = list(
        itertools.product(
            DIRECTION_NAMES, DTYPES, ("sigmoid", "softmax", "none"), CHUNKS, (False, True), EXTENTS
        )
    )
    if FULL:
        return every
    chosen, seen = [], set()
    for case in every[::7] + every:
        pairs = {(i, j, case[i], case[j]) for i, j in itertools.combinations(range(len(case)), 2)}
        if not pairs <= seen:
            seen |= pairs
            chosen.append(case)
    return chosen


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
def test_every_attribute(library: ctypes.CDLL, direction: str) -> None:
    for i, (way, dtype, normalize, chunk, per_channel, extent) in enumerate(attribute_cases()):
        if way == direction:
            size = (1 + i % 2, 2, *extent)
            check(library, size, way, dtype, normalize, chunk, per_channel, i % 3 != 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
def test_every_size(library: ctypes.CDLL, direction: str, dtype: torch.dtype) -> None:
    for extent in SIZES:
        check(library, (1, 3, *extent), direction, dtype)
        check(library, (2, 1, *extent), direction, dtype, per_channel=False, at_end=False)


@pytest.mark.parametrize("extent", LONG_SIZES, ids=str)
def test_long_lines_and_scans(library: ctypes.CDLL, extent: tuple[int, int]) -> None:
    for i, direction in enumerate(DIRECTION_NAMES):
        for dtype in DTYPES if FULL else (DTYPES[(i + extent[0] // 2) % 3],):
            check(library, (1, 2, *extent), direction, dtype)


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
def test_a_line_for_the_workspace(library: ctypes.CDLL, direction: str) -> None:
    horizontal = direction in ("left_to_right", "right_to_left")
    extent = (12290, 3) if horizontal else (3, 12290)
    check(library, (1, 2, *extent), direction, torch.float16, chunk=2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
def test_unaligned_pointers(library: ctypes.CDLL, direction: str, dtype: torch.dtype) -> None:
    x, lam, w = line_scan_inputs((2, 3, 24, 40), True, dtype, "sigmoid", "cpu")
    expected = scan_reference.line_scan(x, lam, w, direction)
    for culprit in range(4):
        args = [misaligned(v) if i == culprit else v for i, v in enumerate((x, lam, w))]
        out = line_scan(*args, direction, offset=1 if culprit == 3 else 0, library=library)
        assert_close(out, expected, FORWARD[dtype], f"unaligned argument {culprit}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
def test_extreme_logits(library: ctypes.CDLL, direction: str, dtype: torch.dtype) -> None:
    x, lam, w = line_scan_inputs((1, 2, 40, 48), True, dtype, "sigmoid", "cpu")
    for shift in (-17.0, -30.0, -120.0):
        expected = scan_reference.line_scan(x, lam, w + shift, direction)
        out = line_scan(x, lam, w + shift, direction, library=library)
        assert_close(out, expected, FORWARD[dtype], f"logits around {shift}")
    for normalize in ("sigmoid", "softmax"):
        expected = scan_reference.line_scan(x, lam, 60 * w, direction, normalize)
        out = line_scan(x, lam, 60 * w, direction, normalize, library=library)
        assert_close(out, expected, FORWARD[dtype], f"{normalize}: logits of 60 sigma")


def test_more_slices_than_fit_at_once(library: ctypes.CDLL) -> None:
    for direction in DIRECTION_NAMES:
        check(library, (5, 120, 8, 8), direction, torch.float16, per_channel=False)
