"""gspn2_prop2d on the emulated device against float64, on every path."""

from __future__ import annotations

import ctypes
import functools
import itertools

import emulated
import pytest
import scan_reference
import torch
from conftest import FULL, Opener
from emulated import Fenced
from kernel_calls import (
    DTYPES,
    NORMALIZE_CODES,
    in_rows,
    misaligned,
    packed,
    prop2d,
    prop2d_inputs,
)
from tolerances import FORWARD, assert_close

from gspn2_deploy.ops import cuda

SIZES = (
    (1, 1), (1, 9), (9, 1), (7, 7), (14, 14), (28, 28), (31, 32), (32, 32), (33, 31), (56, 56),
    (64, 64), (72, 40), (128, 24), (24, 128), (136, 16), (16, 136), (131, 33), (33, 195),
)  # fmt: skip
LARGE_SIZES = (
    (96, 128), (128, 128), (128, 192), (200, 200), (1025, 7), (1032, 8), (12, 1032), (256, 40),
    (40, 256),
)  # fmt: skip
CHUNKS = (0, 1, 2, 5, 16, 100)
EXTENTS = ((21, 37), (24, 16), (64, 48), (8, 40))


def check(
    library: ctypes.CDLL,
    size: tuple[int, int, int, int],
    dtype: torch.dtype,
    normalize: str = "sigmoid",
    chunk: int = 0,
    per_channel: bool = False,
    options: bool = True,
    at_end: bool = True,
) -> None:
    inputs = prop2d_inputs(size, per_channel, dtype, normalize, options, "cpu")
    expected = scan_reference.prop2d(*inputs, normalize, chunk)
    what = f"{size} {dtype} {normalize} chunk={chunk} {per_channel=} {options=} {at_end=}"
    with Fenced(library) as fenced:
        copies = fenced.copies(*inputs, at_end=at_end)
        out = prop2d(*copies, normalize, chunk, library=library)
        assert_close(out, expected, FORWARD[dtype], what)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
def test_every_attribute(library: ctypes.CDLL, dtype: torch.dtype, normalize: str) -> None:
    every = list(itertools.product(CHUNKS, (False, True), (False, True), EXTENTS))
    for i, (chunk, per_channel, options, extent) in enumerate(every if FULL else every[::5]):
        check(
            library, (1 + i % 2, 2, *extent), dtype, normalize, chunk, per_channel, options, i % 3
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extent", SIZES, ids=str)
def test_every_size(library: ctypes.CDLL, extent: tuple[int, int], dtype: torch.dtype) -> None:
    check(library, (1, 2, *extent), dtype)
    check(library, (2, 1, *extent), dtype, per_channel=True, options=False, at_end=False)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("extent", LARGE_SIZES, ids=str)
def test_large_maps(library: ctypes.CDLL, extent: tuple[int, int]) -> None:
    for dtype in DTYPES if FULL else (DTYPES[sum(extent) % 3],):
        check(library, (1, 2, *extent), dtype)
        check(library, (1, 3, *extent), dtype, options=False)


@pytest.mark.parametrize("extent", [(128, 24), (24, 128), (128, 128), (256, 40)], ids=str)
def test_large_maps_by_directions(library: ctypes.CDLL, extent: tuple[int, int]) -> None:
    for dtype in DTYPES:
        with emulated.by_directions():
            check(library, (1, 2, *extent), dtype)
            check(library, (1, 3, *extent), dtype, options=False)


# H, W of maps that a cluster takes as a ring of steps: lanes of four, six and eight positions along
# either axis; whole vectors and not; lines that take as many steps as batches have, and more.
RINGS = (
    (97, 97),
    (72, 104),
    (128, 120),
    (8, 136),
    (136, 8),
    (104, 184),
    (192, 72),
    (45, 193),
    (256, 32),
    (128, 256),
)
# Large clusters that a device has, and the blocks that so one of a ring has to a direction.
RELAYS = {"fastest": 4, "none": 2}


@pytest.mark.parametrize(
    ("dtype", "choice"), [*((dtype, "fastest") for dtype in DTYPES), (torch.float16, "none")]
)
@pytest.mark.parametrize("extent", RINGS, ids=str)
def test_rings_of_steps(
    opener: Opener, extent: tuple[int, int], dtype: torch.dtype, choice: str
) -> None:
    library = opener(choice)
    for normalize, chunk, per_channel, options in (
        ("sigmoid", 0, False, True), ("softmax", 9, True, False), ("none", 50, False, True),
    ):  # fmt: skip
        emulated.take_kernels(library)
        emulated.take_clusters(library)
        check(library, (1, 2, *extent), dtype, normalize, chunk, per_channel, options)
        (kernel,) = emulated.take_kernels(library)
        assert emulated.kernel_template(kernel) == "prop2dClusterKernel"
        assert kernel.endswith("true>"), kernel
        assert emulated.take_clusters(library) == [4 * RELAYS[choice]]


@pytest.mark.parametrize("relay", [1, 2, 3, 4])
@pytest.mark.parametrize("extent", [(72, 104), (45, 193), (136, 248), (10, 200)], ids=str)
def test_any_number_of_blocks_to_a_direction(
    opener: Opener, extent: tuple[int, int], relay: int
) -> None:
    library = opener("fastest")
    for dtype, workers, chunk in ((torch.float16, 0, 0), (torch.float32, 512, 40)):
        before = library.gspn2_tuned_plans()
        emulated.take_clusters(library)
        with emulated.environment(GSPN2_ONCHIP_PLAN=f"2,1,{workers},{relay}"):
            check(library, (1, 1, *extent), dtype, "sigmoid", chunk)
        assert library.gspn2_tuned_plans() > before
        assert emulated.take_clusters(library) == [4 * relay]


@pytest.mark.parametrize("chunk", [0, 7, 100])
@pytest.mark.parametrize("extent", [(249, 200), (168, 248)], ids=str)
def test_maps_of_several_blocks(library: ctypes.CDLL, extent: tuple[int, int], chunk: int) -> None:
    dtype = DTYPES[(sum(extent) + chunk) % 3]
    with emulated.by_directions():
        check(library, (1, 1, *extent), dtype, chunk=chunk)
        check(library, (1, 1, *extent), torch.float32, chunk=chunk, options=False)


@pytest.mark.parametrize("only", ["d", "m"])
def test_one_optional_input(library: ctypes.CDLL, only: str) -> None:
    x, lam, w, u, d, m = prop2d_inputs((2, 3, 20, 24), False, torch.float32, "sigmoid", True, "cpu")
    given = (x, lam, w, u, d if only == "d" else None, m if only == "m" else None)
    out = prop2d(*given, library=library)
    assert_close(out, scan_reference.prop2d(*given), FORWARD[torch.float32], only)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unaligned_pointers(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    inputs = prop2d_inputs((2, 3, 24, 40), True, dtype, "sigmoid", True, "cpu")
    expected = scan_reference.prop2d(*inputs)
    for culprit in range(7):
        args = [misaligned(v) if i == culprit else v for i, v in enumerate(inputs)]
        out = prop2d(*args, offset=1 if culprit == 6 else 0, library=library)
        assert_close(out, expected, FORWARD[dtype], f"unaligned argument {culprit}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extent", [*SIZES, *LARGE_SIZES], ids=str)
def test_one_prediction(library: ctypes.CDLL, extent: tuple[int, int], dtype: torch.dtype) -> None:
    """Gates and affinities that lie in one tensor, as a convolution predicts them."""
    forms = ((2, 2, False, True), (2, 4, False, True), (1, 3, True, False), (3, 1, False, False))
    large = extent[0] * extent[1] > 6000
    for n, c, per_channel, options in forms[1:2] if large and not FULL else forms:
        inputs = prop2d_inputs((n, c, *extent), per_channel, dtype, "sigmoid", options, "cpu")
        expected = scan_reference.prop2d(*inputs)
        what = f"{n}x{c} {per_channel=} {options=}"
        with Fenced(library) as fenced:
            moves = (lambda whole, fence=fenced: fence.copy(whole, True), misaligned)
            for move, with_x in itertools.product(moves, (False, True)):
                out = prop2d(*packed(*inputs, move=move, with_x=with_x), library=library)
                assert_close(out, expected, FORWARD[dtype], f"{what} {with_x=}")


def test_one_prediction_takes_the_paths_of_dense_tensors(library: ctypes.CDLL) -> None:
    for extent in ((7, 7), (33, 40), (64, 64), (136, 40), (40, 136), (136, 24), (9, 520)):
        for dtype, options in itertools.product(DTYPES, (False, True)):
            inputs = prop2d_inputs((2, 4, *extent), False, dtype, "sigmoid", options, "cpu")
            emulated.take_kernels(library)
            dense = prop2d(*inputs, library=library)
            kernels = emulated.take_kernels(library)
            for with_x in (False, True):
                parts = packed(*inputs, with_x=with_x)
                assert torch.equal(prop2d(*parts, library=library), dense)
                assert emulated.take_kernels(library) == kernels


# N, C, H, W that clusters take as they lie, by one channel or two, one column or four at a time;
# that blocks take; of four positions to a lane; too large for chips.
ROWS_SIZES = (
    (1, 2, 7, 7), (2, 2, 14, 14), (1, 2, 16, 12), (2, 3, 9, 16), (1, 1, 1, 1), (1, 5, 15, 13),
    (34, 2, 7, 7), (40, 2, 12, 8), (34, 4, 8, 12), (14, 2, 35, 33), (67, 1, 14, 14), (1, 2, 8, 96),
    (2, 2, 136, 24), (1, 2, 9, 520),
)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("size", ROWS_SIZES, ids=str)
def test_one_prediction_in_rows(
    library: ctypes.CDLL, size: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    """The bits are those of planes, wherever the channels begin."""
    forms = ((False, True, 1), (False, True, 2), (False, False, 2), (True, True, 1))
    for per_channel, options, between in forms:
        inputs = prop2d_inputs(size, per_channel, dtype, "sigmoid", options, "cpu")
        expected = prop2d(*inputs, library=library)
        with Fenced(library) as fenced:
            for at_end in (False, True):
                fence = functools.partial(fenced.copy, at_end=at_end)
                move = functools.partial(in_rows, move=fence)
                parts = packed(*inputs, move=move, with_x=True, between=between)
                out = prop2d(*parts, library=library)
                assert torch.equal(out, expected), f"{per_channel=} {options=} {between=}"


def test_rows_of_every_attribute(library: ctypes.CDLL) -> None:
    for normalize, chunk, only in itertools.product(NORMALIZE_CODES, (0, 5), ("", "d", "m")):
        size = (2, 2, 13, 16)
        x, lam, w, u, d, m = prop2d_inputs(size, False, torch.float16, normalize, True, "cpu")
        given = (x, lam, w, u, d if only == "d" else None, m if only == "m" else None)
        parts = packed(*given, move=in_rows, with_x=True)
        expected = prop2d(*given, normalize, chunk, library=library)
        assert torch.equal(prop2d(*parts, normalize, chunk, library=library), expected)


def test_an_unaligned_result_of_rows(library: ctypes.CDLL) -> None:
    inputs = prop2d_inputs((1, 2, 16, 12), False, torch.float16, "sigmoid", True, "cpu")
    parts = packed(*inputs, move=in_rows, with_x=True)
    out = prop2d(*parts, offset=1, library=library)
    assert torch.equal(out, prop2d(*inputs, library=library))


def test_many_slices(library: ctypes.CDLL) -> None:
    check(library, (4, 30, 8, 8), torch.float16)
    for size in ((2, 134, 5, 8), (1, 265, 6, 5)):  # more than two to a multiprocessor
        check(library, size, torch.float32)
    check(library, (1, 16, 16, 24), torch.float32, per_channel=True)


# Of maps that strips take: where a block holds a line, and where two or three share one.
SHARED_AFFINITIES = ((24, 136), (136, 24), (136, 40), (40, 136), (72, 136), (200, 40))


@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("extent", SHARED_AFFINITIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_affinities_that_channels_share(
    library: ctypes.CDLL, dtype: torch.dtype, extent: tuple[int, int], normalize: str
) -> None:
    for chunk, options in ((0, True), (7, False), (16, True)):
        with emulated.by_directions():
            check(library, (1 + chunk % 2, 4, *extent), dtype, normalize, chunk, options=options)


def test_shared_affinities_of_large_maps(opener: Opener) -> None:
    for dtype, extent in zip(DTYPES, ((200, 248), (249, 200), (168, 288)), strict=True):
        with emulated.by_directions():
            check(opener("fastest"), (1, 4, *extent), dtype, chunk=50)


@pytest.mark.parametrize(
    ("channels", "dtype", "weighed"),
    [(4, torch.float32, 1), (3, torch.float32, 0), (4, torch.float16, 0), (4, torch.bfloat16, 0)],
)
def test_shared_affinities_are_weighed_once(
    opener: Opener, channels: int, dtype: torch.dtype, weighed: int
) -> None:
    library = opener("fastest")
    for extent in ((136, 40), (136, 520)):
        inputs = prop2d_inputs((1, channels, *extent), False, dtype, "sigmoid", True, "cpu")
        emulated.take_kernels(library)
        with emulated.by_directions():
            prop2d(*inputs, library=library)
        kernels = emulated.take_templates(library)
        assert kernels.count("stripWeightsKernel") == weighed, kernels
        assert kernels.count("stripColumnsKernel") == 2, kernels


# N, C, H, W that tiles take: lines of one block, of clusters of two and of three; few channels and
# as many as weigh the affinities that they share once.
TILED = (
    (2, 3, 137, 24), (2, 4, 137, 24), (1, 2, 131, 72), (1, 4, 24, 136), (1, 3, 21, 264),
    (1, 4, 13, 504), (2, 17, 9, 520), (1, 34, 9, 1400),
)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", TILED, ids=str)
def test_tiles_take_the_vertical_directions(
    opener: Opener, size: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    library = opener("fastest")
    for per_channel, normalize, chunk, options in (
        (False, "sigmoid", 0, True), (True, "softmax", 5, True), (False, "none", 16, False),
    ):  # fmt: skip
        inputs = prop2d_inputs(size, per_channel, dtype, normalize, options, "cpu")
        what = f"{size} {dtype} {normalize} {per_channel=} {options=}"
        emulated.take_kernels(library)
        with Fenced(library) as fenced, emulated.by_directions():
            out = prop2d(*fenced.copies(*inputs), normalize, chunk, library=library)
            kernels = emulated.take_templates(library)
            assert kernels.count("tiledScanKernel") == 2, what
            weighed = dtype == torch.float32 and not per_channel and normalize == "sigmoid"
            assert kernels.count("stripWeightsKernel") == int(weighed and size[1] >= 4), what
            assert_close(
                out, scan_reference.prop2d(*inputs, normalize, chunk), FORWARD[dtype], what
            )
            if size[0] > 1:
                for with_x in (False, True):
                    parts = packed(*inputs, move=fenced.copy, with_x=with_x)
                    out_of_parts = prop2d(*parts, normalize, chunk, library=library)
                    assert torch.equal(out_of_parts, out), what


def test_items_of_x_that_lie_far_apart(opener: Opener) -> None:
    """Two GiB, which one copy of several items cannot span."""
    x, *rest = prop2d_inputs((2, 1, 1, 3), False, torch.float32, "sigmoid", True, "cpu")
    apart = x.new_empty(2, (1 << 29) // 3 + 1, 1, 3)[:, :1].copy_(x)
    out = prop2d(apart, *rest, library=opener("generic"))
    assert_close(out, scan_reference.prop2d(x, *rest), FORWARD[torch.float32], "far apart")


def workspace(
    library: ctypes.CDLL, *problem: int, strides: cuda.Strides | None = None, has_d: int = 0
) -> int:
    size = ctypes.c_size_t()
    assert library.gspn2_prop2d_workspace(cuda.Problem(*problem), strides, has_d, size) == 0
    return size.value


def test_workspace_holds_x_whose_items_lie_apart(opener: Opener) -> None:
    library = opener("fastest")
    for dtype, element in enumerate((4, 2, 2)):
        for n in (1, 2, 3):
            problem = (n, 3, 5, 7, 1, 0, dtype, NORMALIZE_CODES["sigmoid"])
            dense = workspace(library, *problem)
            copy = -(-n * 105 * element // 256) * 256 if n > 1 else 0
            for x, more in ((0, 0), (105, 0), (140, copy)):
                strides = cuda.Strides(x, 0, 0)
                assert workspace(library, *problem, strides=strides) == dense + more


def test_workspace_holds_planes_of_rows(opener: Opener) -> None:
    library = opener("fastest")
    for has_d, n in itertools.product((0, 1), (1, 3)):
        problem = (n, 2, 5, 7, 1, 0, 1, NORMALIZE_CODES["sigmoid"])
        planes = [2, 8, 8, 12, *([8] if has_d else [])]
        copies = sum(-(-n * channels * 35 * 2 // 256) * 256 for channels in planes)
        strides = cuda.Strides(0, 0, 0, 32)
        dense = workspace(library, *problem)
        assert workspace(library, *problem, strides=strides, has_d=has_d) == dense + copies


def test_workspace_holds_the_weights(opener: Opener) -> None:
    library = opener("fastest")
    shape = (2, 4, 136, 40)
    sums = 4 * 2 * 4 * 136 * 40 * 4  # of directions that run side by side
    weights = 2 * 12 * 136 * 40 * 4
    assert workspace(library, *shape, 1, 0, 0, NORMALIZE_CODES["sigmoid"]) == sums + weights
    assert workspace(library, *shape, 4, 0, 0, NORMALIZE_CODES["sigmoid"]) == sums
    assert workspace(library, *shape, 1, 0, 0, NORMALIZE_CODES["none"]) == sums
    # 16-bit dtypes keep no weights.
    assert workspace(library, *shape, 1, 0, 1, NORMALIZE_CODES["softmax"]) == sums
    # A caller asks once, at its largest shape.
    for dtype in range(3):
        sizes = [workspace(library, 1, 4, side, side, 1, 0, dtype, 1) for side in range(1, 1500, 7)]
        assert sizes == sorted(sizes)
        for channels in (4, 5, 8, 16, 40):  # items beyond few slices are weighed or not
            batch = [workspace(library, n, channels, 8, 136, 1, 0, dtype, 1) for n in range(1, 20)]
            assert batch == sorted(batch), channels
