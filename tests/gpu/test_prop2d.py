"""gspn2_prop2d against float64 on fresh random data."""

from __future__ import annotations

import pytest
import scan_reference
import torch
from kernel_calls import DTYPES, in_rows, misaligned, packed, prop2d, prop2d_inputs
from tolerances import FORWARD, assert_close

pytestmark = pytest.mark.gpu

SIZES = (
    (1, 1), (1, 9), (9, 1), (7, 7), (14, 14), (16, 12), (8, 16), (28, 28), (31, 32), (32, 32),
    (33, 31), (56, 56), (64, 64), (72, 40), (96, 128), (97, 97), (128, 128), (128, 192), (160, 160),
    (256, 72), (131, 195), (200, 200), (168, 248), (224, 224), (249, 200), (256, 256), (64, 512),
    (136, 520), (1024, 16), (1025, 7), (12, 1025), (1032, 8), (12, 1032),
)  # fmt: skip


def check(
    size: tuple[int, int, int, int],
    dtype: torch.dtype,
    normalize: str = "sigmoid",
    chunk: int = 0,
    per_channel: bool = False,
    options: bool = True,
) -> None:
    inputs = prop2d_inputs(size, per_channel, dtype, normalize, options)
    expected = scan_reference.prop2d(*inputs, normalize, chunk)
    what = f"{size} {dtype} {normalize} chunk={chunk} {per_channel=} {options=}"
    # Aligned and misaligned pointers may take different paths, or the same by other accesses.
    for source in (inputs[0], misaligned(inputs[0])):
        out = prop2d(source, *inputs[1:], normalize, chunk)
        assert_close(out, expected, FORWARD[dtype], f"{what} x at {source.data_ptr():#x}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("chunk", [0, 1, 2, 5, 16, 100])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("options", [False, True])
def test_every_attribute(
    dtype: torch.dtype, normalize: str, chunk: int, per_channel: bool, options: bool
) -> None:
    check((2, 3, 21, 37), dtype, normalize, chunk, per_channel, options)
    check((2, 4, 64, 48), dtype, normalize, chunk, per_channel, options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extent", SIZES, ids=str)
def test_every_size(extent: tuple[int, int], dtype: torch.dtype) -> None:
    check((2, 3, *extent), dtype)
    check((1, 1, *extent), dtype, options=False)
    check((3, 2, *extent), dtype, per_channel=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_channels(dtype: torch.dtype) -> None:
    check((1, 32, 64, 64), dtype)
    check((3, 64, 16, 24), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax"])
@pytest.mark.parametrize(
    "size",
    [(100, 4, 136, 40), (2, 4, 249, 200), (2, 4, 256, 256), (2, 4, 168, 320), (2, 4, 640, 1000)],
    ids=str,
)
def test_affinities_that_channels_share(
    size: tuple[int, int, int, int], normalize: str, dtype: torch.dtype
) -> None:
    for chunk, options in ((0, True), (50, False)):
        check(size, dtype, normalize, chunk, options=options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("chunk", [0, 7, 100])
@pytest.mark.parametrize(
    "extent", [(104, 120), (128, 192), (45, 193), (256, 72), (160, 156), (200, 256)], ids=str
)
def test_rings_of_steps(
    extent: tuple[int, int], chunk: int, normalize: str, dtype: torch.dtype
) -> None:
    """Of maps too large for all their steps: lanes of four, six and eight positions."""
    check((1, 2, *extent), dtype, normalize, chunk)
    check((3, 4, *extent), dtype, normalize, chunk, per_channel=True, options=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slices", [1, 6, 7, 8, 14, 15, 30, 39], ids=str)
def test_any_number_of_rings(slices: int, dtype: torch.dtype) -> None:
    """Four blocks to a direction, two or one, and more clusters than fit at once."""
    check((1, slices, 128, 192), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_rings(dtype: torch.dtype) -> None:
    check((64, 2, 96, 96), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extent", [(1024, 1024), (640, 1000)], ids=str)
def test_large_map(extent: tuple[int, int], dtype: torch.dtype) -> None:
    check((1, 2, *extent), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk", [0, 7, 100, 400])
@pytest.mark.parametrize("extent", [(249, 200), (168, 248), (300, 128)], ids=str)
def test_maps_that_two_blocks_share(
    extent: tuple[int, int], chunk: int, dtype: torch.dtype
) -> None:
    check((2, 2, *extent), dtype, chunk=chunk)
    check((40, 3, *extent), dtype, "softmax", chunk, per_channel=True, options=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "size", [(1, 3, 40, 504), (2, 17, 40, 520), (1, 34, 40, 1400), (4, 66, 137, 72)], ids=str
)
def test_vertical_directions_by_tiles(size: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    """Lines of one block and of clusters of two and three."""
    check(size, dtype)
    check(size, dtype, "softmax", 7, per_channel=True, options=False)
    inputs = prop2d_inputs(size, False, dtype, "sigmoid", True)
    for with_x in (False, True):
        assert torch.equal(prop2d(*packed(*inputs, with_x=with_x)), prop2d(*inputs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(64, 8, 28, 28), (70, 4, 14, 14), (3, 90, 7, 7)], ids=str)
def test_many_small_maps(size: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    check(size, dtype)
    check(size, dtype, chunk=2, per_channel=True)


@pytest.mark.parametrize("only", ["d", "m"])
def test_one_optional_input(only: str) -> None:
    x, lam, w, u, d, m = prop2d_inputs((2, 3, 20, 24), False, torch.float32, "sigmoid", True)
    given = (x, lam, w, u, d if only == "d" else None, m if only == "m" else None)
    assert_close(prop2d(*given), scan_reference.prop2d(*given), FORWARD[torch.float32], only)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extent", [(24, 40), (64, 64)], ids=str)
def test_unaligned_pointers(extent: tuple[int, int], dtype: torch.dtype) -> None:
    inputs = prop2d_inputs((2, 3, *extent), True, dtype, "sigmoid", True)
    expected = scan_reference.prop2d(*inputs)
    for culprit in range(7):
        args = [misaligned(v) if i == culprit else v for i, v in enumerate(inputs)]
        out = prop2d(*args, offset=1 if culprit == 6 else 0)
        assert_close(out, expected, FORWARD[dtype], f"unaligned argument {culprit}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("extent", SIZES, ids=str)
def test_one_prediction(extent: tuple[int, int], per_channel: bool, dtype: torch.dtype) -> None:
    """Gates and affinities that lie in one tensor, as a convolution predicts them."""
    for n, c, options in ((2, 3, True), (3, 4, False), (1, 4, True)):
        inputs = prop2d_inputs((n, c, *extent), per_channel, dtype, "sigmoid", options)
        expected = scan_reference.prop2d(*inputs)
        what = f"{n}x{c} {options=}"
        for with_x in (False, True):
            for move in (lambda whole: whole, misaligned):
                out = prop2d(*packed(*inputs, move=move, with_x=with_x))
                assert_close(out, expected, FORWARD[dtype], f"{what} {with_x=}")
            assert torch.equal(prop2d(*packed(*inputs, with_x=with_x)), prop2d(*inputs)), what


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("extent", SIZES, ids=str)
def test_one_prediction_in_rows(extent: tuple[int, int], dtype: torch.dtype) -> None:
    """The bits are those of planes: of one channel to a cluster or two, and of other paths."""
    small = extent[0] * extent[1] <= 64 * 64
    sizes = ((1, 2), (2, 3), (14, 2), (34, 4), (67, 1)) if small else ((2, 2),)
    for n, c in sizes:
        for per_channel, options, between in ((False, True, 1), (False, False, 2), (True, True, 2)):
            inputs = prop2d_inputs((n, c, *extent), per_channel, dtype, "sigmoid", options)
            parts = packed(*inputs, move=in_rows, with_x=True, between=between)
            what = f"{n}x{c} {per_channel=} {options=}"
            assert torch.equal(prop2d(*parts), prop2d(*inputs)), what


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("chunk", [0, 5])
def test_rows_of_every_attribute(dtype: torch.dtype, normalize: str, chunk: int) -> None:
    for only in ("", "d", "m"):
        x, lam, w, u, d, m = prop2d_inputs((2, 2, 13, 16), False, dtype, normalize, True)
        given = (x, lam, w, u, d if only == "d" else None, m if only == "m" else None)
        parts = packed(*given, move=in_rows, with_x=True)
        assert torch.equal(prop2d(*parts, normalize, chunk), prop2d(*given, normalize, chunk))
        out = prop2d(*parts, normalize, chunk, offset=1)
        assert torch.equal(out, prop2d(*given, normalize, chunk, offset=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("only", ["d", "m"])
def test_one_prediction_and_one_optional_input(only: str, dtype: torch.dtype) -> None:
    for extent in ((20, 24), (249, 200), (300, 128)):
        x, lam, w, u, d, m = prop2d_inputs((2, 4, *extent), False, dtype, "softmax", True)
        given = (x, lam, w, u, d if only == "d" else None, m if only == "m" else None)
        expected = scan_reference.prop2d(*given, "softmax", 5)
        for with_x in (False, True):
            out = prop2d(*packed(*given, with_x=with_x), "softmax", 5)
            assert_close(out, expected, FORWARD[dtype], f"{only} {with_x=}")


def test_items_of_x_that_lie_far_apart() -> None:
    """Two GiB, which one copy of several items cannot span; 257 rows do not go on chip."""
    x, *rest = prop2d_inputs((2, 1, 257, 4), False, torch.float32, "sigmoid", True)
    apart = x.new_empty(2, (1 << 29) // (257 * 4) + 1, 257, 4)[:, :1].copy_(x)
    expected = scan_reference.prop2d(x, *rest)
    assert_close(prop2d(apart, *rest), expected, FORWARD[torch.float32], "far apart")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(70000, 1, 4, 8), (1, 70000, 8, 4)], ids=str)
def test_more_than_65535_slices(size: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    check(size, dtype)


@pytest.mark.slow
def test_65537() -> None:
    check((1, 2, 3, 65537), torch.float16, chunk=64)
