"""gspn2_line_scan against float64 on fresh random data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import scan_reference
import torch
from kernel_calls import DIRECTION_NAMES, DTYPES, line_scan, line_scan_inputs, misaligned
from tolerances import FORWARD, assert_close

from gspn2_deploy.validate.tolerances import Tolerance

pytestmark = pytest.mark.gpu

SIZES = (
    (1, 1), (1, 9), (9, 1), (7, 7), (14, 14), (31, 32), (32, 31), (32, 32), (33, 33), (56, 56),
    (64, 64), (72, 40), (128, 96), (224, 224), (256, 64), (64, 512), (520, 136), (1023, 12),
    (8, 1024), (1024, 16), (12, 1025), (1025, 7), (2, 4096), (4096, 6), (3, 12290), (12290, 3),
)  # fmt: skip


# A chain of thousands of steps adds up more rounding.
LONG = replace(FORWARD[torch.float32], atol=6e-5)
MANY_STEPS = 2000


def steps_of(extent: tuple[int, int], direction: str) -> int:
    return extent[1 if direction in ("left_to_right", "right_to_left") else 0]


def affordable(extent: tuple[int, int], direction: str, dtype: torch.dtype) -> bool:
    """Thousands of steps are slow in the reference: one dtype, one direction of the axis."""
    return steps_of(extent, direction) < MANY_STEPS or (
        dtype == torch.float32 and direction in ("left_to_right", "bottom_to_top")
    )


EVERY_SIZE = [
    (extent, direction, dtype)
    for extent in SIZES
    for direction in DIRECTION_NAMES
    for dtype in DTYPES
    if affordable(extent, direction, dtype)
]


def check(
    size: tuple[int, int, int, int],
    direction: str,
    dtype: torch.dtype,
    normalize: str = "sigmoid",
    chunk: int = 0,
    per_channel: bool = True,
    tolerance: Tolerance | None = None,
) -> None:
    x, lam, w = line_scan_inputs(size, per_channel, dtype, normalize)
    expected = scan_reference.line_scan(x, lam, w, direction, normalize, chunk)
    what = f"{size} {direction} {dtype} {normalize} chunk={chunk} {per_channel=}"
    # Aligned pointers may take a fast path; a misaligned one falls back to the generic kernels.
    for source in (x, misaligned(x)):
        out = line_scan(source, lam, w, direction, normalize, chunk)
        assert_close(
            out, expected, tolerance or FORWARD[dtype], f"{what} x at {source.data_ptr():#x}"
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("chunk", [0, 1, 2, 5, 16, 100])
def test_every_attribute(direction: str, dtype: torch.dtype, normalize: str, chunk: int) -> None:
    for per_channel in (False, True):
        check((2, 3, 21, 37), direction, dtype, normalize, chunk, per_channel)
        check((2, 4, 64, 48), direction, dtype, normalize, chunk, per_channel)
        check((1, 2, 40, 136), direction, dtype, normalize, chunk, per_channel)
        check((1, 2, 24, 520), direction, dtype, normalize, chunk, per_channel)


@pytest.mark.parametrize(("extent", "direction", "dtype"), EVERY_SIZE, ids=str)
def test_every_size(extent: tuple[int, int], direction: str, dtype: torch.dtype) -> None:
    tolerance = LONG if steps_of(extent, direction) >= MANY_STEPS else None
    for per_channel in (False, True):
        check((2, 3, *extent), direction, dtype, per_channel=per_channel, tolerance=tolerance)
    check((1, 1, *extent), direction, dtype, tolerance=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("extent", [(1024, 1024), (512, 1000), (1000, 520)], ids=str)
def test_large_map(extent: tuple[int, int], direction: str, dtype: torch.dtype) -> None:
    check((1, 2, *extent), direction, dtype)
    check((2, 3, *extent), direction, dtype, per_channel=False)


@pytest.mark.parametrize(
    ("extent", "direction", "dtype"),
    [
        ((3, 65537), "top_to_bottom", torch.float32),
        ((3, 65537), "bottom_to_top", torch.bfloat16),
        ((65537, 3), "left_to_right", torch.float16),
        ((65537, 3), "right_to_left", torch.float32),
    ],
)
def test_line_of_65537_positions(
    extent: tuple[int, int], direction: str, dtype: torch.dtype
) -> None:
    check((2, 2, *extent), direction, dtype)
    check((1, 2, *extent), direction, dtype, chunk=2, per_channel=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extent", "direction"), [((65537, 3), "top_to_bottom"), ((3, 65537), "right_to_left")]
)
def test_scan_of_65537_steps(extent: tuple[int, int], direction: str) -> None:
    # Each step rounds the weights' sum: a random walk, 6e-8 * sqrt(65,537) = 1.5e-5 of the state.
    check((1, 2, *extent), direction, torch.float32, tolerance=LONG)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("extent", [(24, 40), (64, 64), (32, 256)], ids=str)
def test_unaligned_pointers(extent: tuple[int, int], direction: str, dtype: torch.dtype) -> None:
    x, lam, w = line_scan_inputs((2, 3, *extent), True, dtype, "sigmoid")
    expected = scan_reference.line_scan(x, lam, w, direction)
    for culprit in range(4):
        args = [misaligned(v) if i == culprit else v for i, v in enumerate((x, lam, w))]
        out = line_scan(*args, direction, offset=1 if culprit == 3 else 0)
        assert_close(out, expected, FORWARD[dtype], f"unaligned argument {culprit}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
def test_very_negative_logits_meet_the_clamp(direction: str, dtype: torch.dtype) -> None:
    x, lam, w = line_scan_inputs((1, 2, 40, 48), True, dtype, "sigmoid")
    for shift in (-17.0, -30.0, -120.0):
        expected = scan_reference.line_scan(x, lam, w + shift, direction)
        out = line_scan(x, lam, w + shift, direction)
        assert_close(out, expected, FORWARD[dtype], f"logits around {shift}")


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax"])
def test_large_logits(direction: str, normalize: str) -> None:
    x, lam, w = line_scan_inputs((1, 2, 40, 48), True, torch.float32, normalize)
    expected = scan_reference.line_scan(x, lam, 60 * w, direction, normalize)
    out = line_scan(x, lam, 60 * w, direction, normalize)
    assert_close(out, expected, FORWARD[torch.float32], "logits of +-60 sigma")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("size", [(3, 200, 24, 56), (1, 640, 16, 64)], ids=str)
def test_many_short_lines(
    size: tuple[int, int, int, int], direction: str, dtype: torch.dtype
) -> None:
    check(size, direction, dtype, "softmax", per_channel=False)
    check(size, direction, dtype, per_channel=True, chunk=5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("chunk", [0, 100])
@pytest.mark.parametrize(
    "size", [(1, 140, 128, 256), (2, 35, 256, 300), (5, 4, 1000, 520), (45, 1, 380, 264)], ids=str
)
def test_many_long_rows(
    size: tuple[int, int, int, int], chunk: int, direction: str, dtype: torch.dtype
) -> None:
    check(size, direction, dtype, "none", chunk)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("size", [(70000, 1, 4, 8), (1, 70000, 8, 4), (66000, 2, 1, 1)], ids=str)
def test_more_than_65535_slices(
    size: tuple[int, int, int, int], direction: str, dtype: torch.dtype
) -> None:
    check(size, direction, dtype, per_channel=False)
    check(size, direction, dtype, per_channel=True, chunk=2)
