"""Few slices, whose directions run side by side: the bits of one after the other, by strips."""

from __future__ import annotations

import ctypes
import itertools

import emulated
import pytest
import scan_reference
import torch
from conftest import FULL, Opener
from emulated import Fenced
from kernel_calls import DIRECTION_NAMES, DTYPES, in_rows, packed, powerless, prop2d, prop2d_inputs
from test_emulated_prop2d import workspace
from tolerances import FORWARD, assert_close
from torch import Tensor

SCANS = ["stripColumnsKernel"] * 2 + ["stripRowsKernel"] * 2
MERGE = "stripMergeKernel"
NO_TILES = "8,1"  # one stage, with which the tiled scan takes nothing
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]

# N, C, H, W: a line to a block and to clusters of up to eight, either way round; as many slices as
# there may be; steps that no run or group divides; planes that no block of the merge divides.
SIZES = (
    (1, 4, 24, 72), (1, 2, 9, 520), (2, 3, 72, 24), (2, 4, 136, 40), (1, 5, 40, 136),
    (1, 2, 260, 16), (16, 1, 66, 8), (1, 1, 7, 1032), (1, 3, 1032, 8),
)  # fmt: skip
ATTRIBUTES = (
    ("sigmoid", 0, False, True), ("softmax", 5, True, False), ("none", 16, False, True),
    ("sigmoid", 100, True, True), ("softmax", 0, False, False),
)  # fmt: skip


def run(
    library: ctypes.CDLL, inputs: Inputs, side_by_side: bool, normalize: str = "sigmoid",
    chunk: int = 0,
) -> tuple[Tensor, list[str]]:  # fmt: skip
    """The result and the kernels' templates, without tiles."""
    emulated.take_kernels(library)
    with (
        emulated.by_directions(side_by_side),
        emulated.environment(GSPN2_TILED_PLAN=NO_TILES),
    ):
        out = prop2d(*inputs, normalize, chunk, library=library)
    return out, emulated.take_templates(library)


def assert_same_bits(out: Tensor, expected: Tensor, what: str) -> None:
    """NaN, which equals nothing, included."""
    as_integers = torch.int32 if out.dtype == torch.float32 else torch.int16
    assert torch.equal(out.view(as_integers), expected.view(as_integers)), what


@pytest.fixture
def library(opener: Opener) -> ctypes.CDLL:
    return opener("fastest")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_bits_of_one_after_the_other(
    library: ctypes.CDLL, size: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    for normalize, chunk, per_channel, options in ATTRIBUTES:
        inputs = prop2d_inputs(size, per_channel, dtype, normalize, options, "cpu")
        what = f"{size} {dtype} {normalize} {chunk=} {per_channel=} {options=}"
        with Fenced(library) as fenced:
            copies = tuple(fenced.copies(*inputs))
            ways = [run(library, copies, side, normalize, chunk) for side in (False, True)]
        (expected, one_by_one), (out, kernels) = ways
        assert one_by_one[-4:] == SCANS, what
        assert kernels == [*one_by_one, MERGE], what
        assert kernels.count("skipSumsKernel") == int(options), what
        assert_same_bits(out, expected, what)
        reference = scan_reference.prop2d(*inputs, normalize, chunk)
        assert_close(out, reference, FORWARD[dtype], what)


@pytest.mark.parametrize("only", ["d", "m"])
def test_one_optional_input(library: ctypes.CDLL, only: str) -> None:
    for dtype in DTYPES:
        x, lam, w, u, d, m = prop2d_inputs((1, 3, 72, 24), False, dtype, "sigmoid", True, "cpu")
        given = (x, lam, w, u, d if only == "d" else None, m if only == "m" else None)
        (expected, _), (out, _) = (run(library, given, side) for side in (False, True))
        assert_same_bits(out, expected, f"{only} {dtype}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_predictions_as_they_lie(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    """Gates, affinities and features that are parts of one tensor, in planes and in rows."""
    for size, per_channel in (((2, 4, 40, 136), False), ((2, 2, 136, 24), True)):
        inputs = prop2d_inputs(size, per_channel, dtype, "sigmoid", True, "cpu")
        expected, kernels = run(library, inputs, True)
        assert kernels[-1] == MERGE
        for with_x in (False, True):
            out, of_parts = run(library, packed(*inputs, with_x=with_x), True)
            assert of_parts == kernels
            assert_same_bits(out, expected, f"{size} {with_x=}")
        if dtype != torch.float32:
            out, of_rows = run(library, packed(*inputs, move=in_rows, with_x=True), True)
            assert of_rows == ["layOutPlanesKernel", *kernels]
            assert_same_bits(out, expected, f"{size} in rows")


@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite(library: ctypes.CDLL, dtype: torch.dtype, normalize: str) -> None:
    for (channels, extent), chunk in itertools.product(((2, (9, 520)), (4, (72, 24))), (0, 4)):
        size = (1, channels, *extent)
        x, lam, w, *rest = prop2d_inputs(size, False, dtype, normalize, True, "cpu")
        masks = [powerless(extent, direction, chunk, "cpu") for direction in DIRECTION_NAMES]
        mask = torch.stack(masks).expand_as(w)
        clean, _ = run(library, (x, lam, w.masked_fill(mask, 0.0), *rest), True, normalize, chunk)
        assert clean.isfinite().all()
        for poison in (torch.nan, torch.inf, -torch.inf):
            what = f"{size} {chunk=} {poison}"
            poisoned = w.masked_fill(mask, poison)
            out, _ = run(library, (x, lam, poisoned, *rest), True, normalize, chunk)
            assert torch.equal(out, clean), what
            spreading = x.clone()
            spreading[0, 1, extent[0] // 2, extent[1] // 2] = poison
            inputs = (spreading, lam, w, *rest)
            outs = [run(library, inputs, side, normalize, chunk)[0] for side in (False, True)]
            assert not outs[0].isfinite().all(), what
            assert torch.equal(*(out.nan_to_num(0.5, 2.0, -2.0) for out in outs)), what


def test_no_schedule_changes_a_bit(library: ctypes.CDLL) -> None:
    for dtype, size in zip(DTYPES, ((1, 3, 24, 264), (1, 4, 9, 520), (2, 1, 200, 40)), strict=True):
        inputs = prop2d_inputs(size, False, dtype, "sigmoid", True, "cpu")
        expected, _ = run(library, inputs, True, "sigmoid", 11)
        for seed in range(40 if FULL else 4):
            with emulated.seeded(seed):
                out, _ = run(library, inputs, True, "sigmoid", 11)
            assert_same_bits(out, expected, f"{size} seed {seed}")


def kernels_by_default(library: ctypes.CDLL, size: tuple[int, int, int, int]) -> list[str]:
    """The scans' templates where no environment says how they run, the merge's among them."""
    inputs = prop2d_inputs(size, True, torch.float16, "none", False, "cpu")
    emulated.take_kernels(library)
    with emulated.environment(GSPN2_ONCHIP_PLAN="3,1,0"):
        prop2d(*inputs, "none", library=library)
    return emulated.take_templates(library)


def test_few_slices_run_side_by_side(opener: Opener) -> None:
    one_by_one = ["stripColumnsKernel"] * 2 + ["tiledScanKernel"] * 2
    for choice, size, expected in (
        ("fastest", (1, 64, 72, 8), [*SCANS, MERGE]),
        ("fastest", (16, 4, 8, 72), [*SCANS, MERGE]),
        ("fastest", (1, 65, 72, 8), one_by_one),
        ("fastest", (65, 1, 8, 72), one_by_one),
        ("fastest", (1, 1, 2, 4104), [*SCANS, MERGE]),
        # Maps that every device has on chip, whatever the environment says.
        ("fastest", (1, 2, 64, 64), one_by_one),
        ("small", (1, 64, 72, 8), [*SCANS, MERGE]),
    ):
        assert kernels_by_default(opener(choice), size) == expected, (choice, size)
    assert MERGE not in kernels_by_default(opener("old"), (1, 2, 72, 8))
    assert MERGE not in kernels_by_default(opener("generic"), (1, 2, 72, 8))


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        ((1, 8, 1024, 8), [7, 7, 1, 1]),  # eight would leave two of 32 clusters without room
        ((1, 8, 8, 1024), [1, 1, 7, 7]),
        ((1, 2, 256, 8), [4, 4, 1, 1]),
        ((1, 2, 8, 256), [1, 1, 4, 4]),
        ((1, 16, 256, 8), [3, 3, 1, 1]),
    ],
    ids=str,
)
def test_clusters_of_all_directions_find_room(
    library: ctypes.CDLL, size: tuple[int, int, int, int], parts: list[int]
) -> None:
    for dtype in DTYPES:
        inputs = prop2d_inputs(size, True, dtype, "none", False, "cpu")
        emulated.take_clusters(library)
        run(library, inputs, True, "none")
        assert emulated.take_clusters(library) == [*parts, 1], dtype


def test_workspace_holds_the_sums(library: ctypes.CDLL) -> None:
    """Of no more positions than run so, and never less than a smaller problem wants."""
    plane = 136 * 40 * 4
    for dtype in range(3):
        assert workspace(library, 2, 4, 136, 40, 4, 0, dtype, 1) == 4 * 8 * plane
        sums = 0 if dtype == 0 else 2 * 8 * 64 * 64 * 4
        assert workspace(library, 2, 8, 64, 64, 8, 0, dtype, 1) == sums
    for side in (4096, 4104):  # no larger maps run side by side
        assert workspace(library, 1, 1, side, 4096, 1, 0, 0, 0) == 4 * 4 * 4096 * 4096
    assert workspace(library, 1, 17, 2048, 4096, 1, 0, 1, 1) == 4 * 17 * 2048 * 4096
    for n in (32, 33, 64):  # from 64 slices on no more
        assert workspace(library, n, 2, 96, 128, 1, 0, 0, 0) == 4 * 4 * 64 * 96 * 128
    for dtype, per_channel in itertools.product(range(3), (False, True)):
        # With more channels a float32 problem may keep fewer weights: callers' channels are fixed.
        axes = (0, 2, 3) if dtype == 0 else (0, 1, 2, 3)
        for shape in itertools.product((1, 3), (3, 12), (8, 65, 600, 4000), (8, 72, 600, 4000)):
            size = workspace(library, *shape, shape[1] if per_channel else 1, 0, dtype, 1)
            for axis, more in itertools.product(axes, (1, 7, 64, 500)):
                larger = [extent + more * (i == axis) for i, extent in enumerate(shape)]
                groups = larger[1] if per_channel else 1
                assert workspace(library, *larger, groups, 0, dtype, 1) >= size, (shape, larger)
