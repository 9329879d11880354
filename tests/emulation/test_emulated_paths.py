"""Which kernels the calls reach."""

from __future__ import annotations

import ctypes
import itertools
from collections import Counter
from pathlib import Path

import emulated
import pytest
import scan_reference
import torch
from conftest import CHOICES, Opener
from kernel_calls import (
    DIRECTION_NAMES,
    DTYPES,
    NCHW,
    NHWC8,
    channel_norm,
    channel_norm_inputs,
    depthwise,
    depthwise_inputs,
    depthwise_norm,
    depthwise_norm_inputs,
    in_rows,
    line_scan,
    line_scan_inputs,
    packed,
    projection_inputs,
    prop2d,
    prop2d_inputs,
)
from tolerances import FORWARD, assert_close

# Extents that between them reach every kernel: packed, block and long lines; whole lines and ones
# that clusters split; on chip and not.
EXTENTS = (
    (7, 7), (33, 40), (64, 64), (72, 136), (136, 72), (300, 16), (16, 264), (1032, 8), (8, 1032),
)  # fmt: skip
# N * C, H, W of float32 vertical scans that strips take on a device of 132 multiprocessors, and of
# neighbours that tiles take.
STRIPS = ((528, 2, 64), (528, 2, 8), (33, 2, 512), (34, 2, 5256))
TILES = ((527, 2, 64), (528, 2, 72), (1, 2, 64), (34, 2, 512), (33, 2, 504))
# The same of maps that are too large for chips.
MAP_STRIPS = ((528, 129, 8), (33, 2, 512), (34, 2, 5256))
MAP_TILES = ((527, 129, 8), (528, 2, 132), (1, 129, 64), (34, 2, 512), (33, 2, 504))
# N, C, H, W of norms with a response that one launch takes on a device that has clusters, and of
# norms with three; by layout, as planes are read again and rows are held.
NORM_CLUSTERS = {
    NCHW: ((1, 8, 8, 8), (2, 80, 7, 7)),
    NHWC8: (
        (1, 8, 16, 16),
        (17, 80, 7, 7),
        (1, 264, 23, 40),
        (1, 1024, 16, 32),
        (1, 12, 4, 4),
        (2, 156, 56, 56),
        (1, 180, 56, 56),
        (1, 1020, 2, 2),
    ),
}
NORM_LAUNCHES = {
    NCHW: ((1, 8, 5, 13), (17, 8, 7, 7), (1, 1100, 8, 8), (2, 12, 48, 66)),
    NHWC8: ((1, 1032, 2, 2), (1, 1028, 2, 2), (1, 1024, 24, 32), (1, 512, 64, 44)),
}
PLAIN_NORM = {NCHW: "normPlanesKernel", NHWC8: "normRowsKernel"}
WHOLE_NORM = {NCHW: "normPlanesKernel", NHWC8: "normHeldKernel"}
NORM_STEPS = {
    NCHW: ["normPlanesKernel", "normAffinesKernel", "scalePlanesKernel"],
    NHWC8: ["normRowsKernel", "normAffinesKernel", "scaleRowsKernel"],
}
SMALL_TILE, LARGE_TILE = 7, 14  # the sides of a depthwise block's results
# N, C, H, W by the tile, and whether blocks of 32 channels are few on 132 multiprocessors.
DEPTHWISE_SIZES = {
    (SMALL_TILE, True): ((1, 8, 7, 7), (2, 40, 1, 5), (132, 40, 1, 1)),
    (SMALL_TILE, False): ((265, 8, 1, 2), (133, 40, 1, 1)),
    (LARGE_TILE, True): ((1, 8, 7, 8), (1, 40, 15, 9)),
    (LARGE_TILE, False): ((265, 8, 8, 1), (67, 40, 15, 1)),
}
# N, C, H, W of 5x5 and 7x7 that tensor cores take, by the patches of a tile's side; and of such as
# have as many blocks, most of whose room would be empty, or fewer than multiprocessors.
BAND_SIZES = {
    1: ((32, 1056, 6, 6), (64, 528, 7, 7)),
    2: ((265, 24, 14, 13),),
    4: ((34, 64, 20, 24),),
}
NO_BAND_SIZES = ((17, 1056, 2, 2), (67, 40, 15, 1), (64, 376, 7, 7), (265, 8, 14, 14))
# N, C, H, W, and of the one launch the vectors that a block may have and its tile; few blocks
# first.
DEPTHWISE_NORM_SIZES = (
    ((1, 8, 7, 7), "5, 7"), ((1, 640, 15, 3), "5, 7"), ((1, 1024, 2, 2), "10, 7"),
    ((66, 40, 1, 1), "5, 7"), ((34, 40, 15, 1), "5, 14"), ((34, 64, 1, 15), "10, 14"),
)  # fmt: skip
# Of sizes for which there are two: many maps that one tile covers, and blocks whose lanes would
# mostly have no channels.
DEPTHWISE_NORM_LAUNCHES = ((67, 80, 1, 1), (67, 40, 8, 14), (34, 8, 15, 1), (34, 56, 15, 1))
GENERIC = {"scanKernel", "scanTransposedKernel", "scanLongKernel"}


def launched(library: ctypes.CDLL, extent: tuple[int, int], dtype: torch.dtype) -> Counter[str]:
    """The templates that every call on a map of this extent launches."""
    emulated.take_kernels(library)
    scan = line_scan_inputs((1, 2, *extent), True, dtype, "sigmoid", "cpu")
    for direction in DIRECTION_NAMES:
        line_scan(*scan, direction, library=library)
    for channels, options in ((2, False), (2, True), (4, False)):
        inputs = prop2d_inputs((1, channels, *extent), False, dtype, "sigmoid", options, "cpu")
        prop2d(*inputs, library=library)
    return Counter(emulated.take_templates(library))


def rows_kernels(
    library: ctypes.CDLL, size: tuple[int, int, int, int], between: int = 2
) -> list[str]:
    """The templates of a propagation from one prediction in rows."""
    inputs = prop2d_inputs(size, False, torch.float16, "sigmoid", False, "cpu")
    emulated.take_kernels(library)
    prop2d(*packed(*inputs, move=in_rows, with_x=True, between=between), library=library)
    return emulated.take_templates(library)


def norm_kernels(
    library: ctypes.CDLL,
    size: tuple[int, int, int, int],
    layout: int,
    response: bool = True,
    projects: bool = False,
) -> list[str]:
    x, *rest = channel_norm_inputs(size, torch.float16, response, "cpu")
    projection = projection_inputs(x, 2) if projects else None
    emulated.take_kernels(library)
    channel_norm(x, *rest, projection=projection, layout=layout, library=library)
    return emulated.take_templates(library)


def depthwise_kernels(
    library: ctypes.CDLL, size: tuple[int, int, int, int], kernel: int, dtype: torch.dtype
) -> list[str]:
    """The instances, as C++ names them."""
    emulated.take_kernels(library)
    depthwise(*depthwise_inputs(size, kernel, dtype, "cpu"), library=library)
    return emulated.take_kernels(library)


def test_every_kernel_is_reached(built: Path, opener: Opener) -> None:
    reached: Counter[str] = Counter()
    for choice in CHOICES:
        for i, extent in enumerate(EXTENTS):
            reached += launched(opener(choice), extent, DTYPES[i % 3])
        for layout in (NCHW, NHWC8):
            for sizes in (NORM_CLUSTERS, NORM_LAUNCHES):
                projects = layout == NHWC8
                size = sizes[layout][0]
                reached += Counter(norm_kernels(opener(choice), size, layout, projects=projects))
        reached += Counter(rows_kernels(opener(choice), (1, 2, 136, 8)))
        for size, kernel in (((1, 8, 7, 7), 3), ((64, 528, 1, 1), 7)):
            inputs = depthwise_inputs(size, kernel, DTYPES[1], "cpu")
            depthwise(*inputs, library=opener(choice))
        inputs = depthwise_norm_inputs((1, 8, 7, 7), DTYPES[1], "cpu")
        depthwise_norm(*inputs, library=opener(choice))
        reached += Counter(emulated.take_templates(opener(choice)))
    compiled = {emulated.kernel_template(name) for name in emulated.compiled_kernels(built)}
    assert compiled, "no kernel among the library's symbols"
    assert set(reached) == compiled


def test_generic_kernels_alone(opener: Opener) -> None:
    for extent in EXTENTS:
        assert set(launched(opener("generic"), extent, torch.float16)) <= GENERIC


def test_an_image_for_an_older_device_is_run_as_one(built: Path, tmp_path: Path) -> None:
    with emulated.environment(GSPN2_EMULATION_IMAGE="80"):
        library = emulated.open_copy(built, tmp_path, "fastest")
    kernels: Counter[str] = Counter()
    for extent in EXTENTS:
        kernels += launched(library, extent, torch.float32)
    assert {"stripColumnsKernel", "stripRowsKernel", "prop2dBlockKernel"} <= set(kernels)
    assert not {"tiledScanKernel", "prop2dClusterKernel"} & set(kernels)


def test_every_choice_has_fast_kernels(opener: Opener) -> None:
    for choice in ("fastest", "old"):
        templates = {
            name for extent in EXTENTS for name in launched(opener(choice), extent, DTYPES[1])
        }
        assert templates - GENERIC, choice


@pytest.mark.parametrize("layout", [NCHW, NHWC8])
def test_clusters_take_norms(opener: Opener, layout: int) -> None:
    whole, steps = WHOLE_NORM[layout], NORM_STEPS[layout]
    for size in NORM_CLUSTERS[layout]:
        assert norm_kernels(opener("fastest"), size, layout) == [whole], size
        assert norm_kernels(opener("old"), size, layout) == steps, size
    for size in NORM_LAUNCHES[layout]:
        assert norm_kernels(opener("fastest"), size, layout) == steps, size
    for size in NORM_CLUSTERS[layout] + NORM_LAUNCHES[layout]:
        plain = norm_kernels(opener("fastest"), size, layout, response=False)
        assert plain == [PLAIN_NORM[layout]], size


def test_few_large_maps_have_sixteen_blocks_where_the_device_does(opener: Opener) -> None:
    def blocks(choice: str, size: tuple[int, int, int, int]) -> list[int]:
        emulated.take_clusters(opener(choice))
        norm_kernels(opener(choice), size, NHWC8)
        return emulated.take_clusters(opener(choice))

    large, small, three = (1, 8, 24, 24), (1, 8, 16, 16), [1, 1, 1]
    for choice, expected in (("fastest", 16), ("one", 16), ("none", 8), ("untold", 8)):
        assert blocks(choice, large) == [expected], choice
        assert blocks(choice, small) == [8], choice
    assert blocks("one", (2, 8, 24, 24)) == [8]
    assert blocks("fastest", (4, 8, 24, 24)) == [16]
    assert blocks("fastest", (5, 8, 24, 24)) == [8]
    for choice in ("none", "untold"):  # eight blocks do not hold it
        assert blocks(choice, (1, 1024, 16, 32)) == three, choice
    assert blocks("old", large) == three


def test_large_clusters_are_asked_for_once_and_only_to_be_taken(
    built: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    library = emulated.open_copy(built, tmp_path, "fastest", large_clusters=-2)

    def refusals() -> int:
        return capfd.readouterr().err.count("no clusters of so many blocks")

    launched(library, (64, 64), torch.float32)
    for size in NORM_CLUSTERS[NHWC8][:2]:
        norm_kernels(library, size, NHWC8)
    depthwise_norm_kernels(library, (1, 320, 7, 7))
    assert refusals() == 0
    for _ in range(2):
        norm_kernels(library, (1, 8, 24, 24), NHWC8)
    depthwise_norm_kernels(library, (1, 1024, 7, 7))
    assert refusals() == 1


def test_a_projection_is_part_of_a_clusters_launch_alone(opener: Opener) -> None:
    held, launches = NORM_CLUSTERS[NHWC8][0], NORM_LAUNCHES[NHWC8][0]
    for size, response, expected in (
        (held, True, [WHOLE_NORM[NHWC8]]),
        (held, False, ["projectRowsKernel", PLAIN_NORM[NHWC8]]),
        (launches, True, ["projectRowsKernel", *NORM_STEPS[NHWC8]]),
    ):
        kernels = norm_kernels(opener("fastest"), size, NHWC8, response, projects=True)
        assert kernels == expected, size


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_depthwise_blocks_by_the_size_of_the_map(
    opener: Opener, kernel: int, dtype: torch.dtype
) -> None:
    for (tile, few), sizes in DEPTHWISE_SIZES.items():
        for size in sizes:
            (instance,) = depthwise_kernels(opener("fastest"), size, kernel, dtype)
            assert instance.endswith(f", {kernel}, {tile}, {str(few).lower()}>"), (size, instance)


@pytest.mark.parametrize("kernel", [5, 7])
def test_depthwise_convolutions_by_tensor_cores(opener: Opener, kernel: int) -> None:
    dtype = DTYPES[1 + kernel // 2 % 2]
    for side, sizes in BAND_SIZES.items():
        for size in sizes:
            (instance,) = depthwise_kernels(opener("fastest"), size, kernel, dtype)
            assert "depthwiseBandKernel<" in instance, (size, instance)
            assert instance.endswith(f", {kernel}, {side}>"), (size, instance)
            (instance,) = depthwise_kernels(opener("fastest"), size, 3, dtype)
            assert "depthwiseKernel<" in instance, (size, instance)
    for size in NO_BAND_SIZES:
        (instance,) = depthwise_kernels(opener("fastest"), size, kernel, dtype)
        assert "depthwiseKernel<" in instance, (size, instance)


def depthwise_norm_kernels(library: ctypes.CDLL, size: tuple[int, int, int, int]) -> list[str]:
    """The instances, as C++ names them."""
    inputs = depthwise_norm_inputs(size, torch.float16, "cpu")
    emulated.take_kernels(library)
    depthwise_norm(*inputs, library=library)
    return emulated.take_kernels(library)


def test_depthwise_norm_blocks_by_the_size_of_the_map(opener: Opener) -> None:
    for size, plan in DEPTHWISE_NORM_SIZES:
        (instance,) = depthwise_norm_kernels(opener("fastest"), size)
        assert instance.endswith(f", {plan}>"), (size, instance)


@pytest.mark.parametrize(
    ("choice", "size"),
    [("old", (1, 8, 7, 7)), *(("fastest", size) for size in DEPTHWISE_NORM_LAUNCHES)],
)
def test_a_depthwise_norm_of_two_launches(
    opener: Opener, choice: str, size: tuple[int, int, int, int]
) -> None:
    instances = depthwise_norm_kernels(opener(choice), size)
    templates = [emulated.kernel_template(name) for name in instances]
    assert templates == ["depthwiseKernel", "normRowsKernel"]


def line_scan_kernels(library: ctypes.CDLL, size: tuple[int, int, int], way: str) -> list[str]:
    slices, height, width = size
    inputs = line_scan_inputs((1, slices, height, width), False, torch.float32, "none", "cpu")
    emulated.take_kernels(library)
    line_scan(*inputs, way, "none", library=library)
    return emulated.take_templates(library)


@pytest.mark.parametrize("direction", ["top_to_bottom", "bottom_to_top"])
def test_strips_and_tiles_share_the_vertical_scans(opener: Opener, direction: str) -> None:
    library = opener("fastest")
    for size in STRIPS:
        assert line_scan_kernels(library, size, direction) == ["stripRowsKernel"], size
    for size in TILES:
        assert line_scan_kernels(library, size, direction) == ["tiledScanKernel"], size


def test_strips_and_tiles_share_the_vertical_directions_by_the_same_rule(opener: Opener) -> None:
    library = opener("fastest")
    for sizes, expected in ((MAP_STRIPS, "stripRowsKernel"), (MAP_TILES, "tiledScanKernel")):
        for slices, height, width in sizes:
            inputs = prop2d_inputs(
                (1, slices, height, width), True, torch.float32, "none", False, "cpu"
            )
            emulated.take_kernels(library)
            with emulated.by_directions():
                prop2d(*inputs, "none", library=library)
            kernels = emulated.take_templates(library)
            what = (slices, height, width)
            assert kernels == ["stripColumnsKernel"] * 2 + [expected] * 2, what


def test_strips_take_every_other_scan_that_they_can(opener: Opener) -> None:
    for size, old in ((1, 64, 8), "stripColumnsKernel"), ((1, 520, 8), "scanTransposedKernel"):
        assert line_scan_kernels(opener("fastest"), size, "left_to_right") == ["stripColumnsKernel"]
        assert line_scan_kernels(opener("old"), size, "left_to_right") == [old]
    assert line_scan_kernels(opener("old"), (1, 2, 264), "top_to_bottom") == ["stripRowsKernel"]


def test_clusters_read_rows_and_other_paths_planes(opener: Opener) -> None:
    planes, block, cluster = "layOutPlanesKernel", "prop2dBlockKernel", "prop2dClusterKernel"
    library = opener("fastest")
    for size in ((1, 2, 14, 14), (34, 2, 7, 7), (30, 4, 8, 8), (3, 1, 1, 1), (1, 2, 16, 12)):
        assert rows_kernels(library, size) == [cluster], size
    assert rows_kernels(library, (34, 2, 7, 7), between=1) == [planes, cluster]  # odd pairs
    assert rows_kernels(library, (34, 2, 14, 14)) == [planes, block]
    for size in ((1, 2, 17, 7), (1, 2, 7, 20), (1, 2, 96, 24)):
        assert rows_kernels(library, size) == [planes, cluster], size
    assert rows_kernels(opener("old"), (1, 2, 14, 14)) == [planes, block]
    for choice, size in itertools.product(CHOICES, ((1, 2, 136, 24), (1, 2, 24, 136))):
        first, *others = rows_kernels(opener(choice), size)
        inputs = prop2d_inputs(size, False, torch.float16, "sigmoid", False, "cpu")
        prop2d(*inputs, library=opener(choice))
        assert (first, others) == (planes, emulated.take_templates(opener(choice))), (choice, size)
    assert set(rows_kernels(opener("generic"), (1, 2, 14, 14))) <= {planes, *GENERIC}


# N, C, H, W of large maps, and what takes them on a device of SMALL_MULTIPROCESSORS.
LARGE_MAPS = (
    ((1, 2, 64, 96), torch.float16, "whole"),
    ((1, 2, 80, 96), torch.float16, "ring"),
    ((1, 2, 8, 136), torch.float16, "ring"),
    ((1, 3, 128, 192), torch.float32, "ring"),
    ((1, 4, 128, 192), torch.float32, "strips"),
    ((1, 2, 128, 256), torch.float16, "ring"),
    ((1, 1, 136, 256), torch.float16, "strips"),
    ((1, 1, 136, 255), torch.float16, "ring"),  # rows are no whole accesses, which strips need
    ((1, 1, 140, 252), torch.float16, "ring"),
    ((1, 42, 68, 68), torch.float16, "whole"),
    ((1, 42, 68, 72), torch.float16, "strips"),
    ((125, 1, 8, 96), torch.float32, "whole"),
    ((126, 1, 8, 96), torch.float32, "strips"),
    ((126, 1, 8, 97), torch.float32, "whole"),
    ((1, 1, 256, 256), torch.float16, "strips"),
    ((1, 1, 8, 264), torch.float16, "strips"),
)


@pytest.mark.parametrize(("size", "dtype", "expected"), LARGE_MAPS, ids=str)
def test_large_maps_are_on_chip_where_they_are_few(
    opener: Opener, size: tuple[int, int, int, int], dtype: torch.dtype, expected: str
) -> None:
    library = opener("small")
    inputs = prop2d_inputs(size, False, dtype, "none", False, "cpu")
    emulated.take_kernels(library)
    out = prop2d(*inputs, "none", library=library)
    kernels = emulated.take_kernels(library)
    if expected == "strips":
        assert emulated.kernel_template(kernels[0]) == "stripColumnsKernel"
    else:
        (kernel,) = kernels
        assert emulated.kernel_template(kernel) == "prop2dClusterKernel"
        assert kernel.endswith("true>" if expected == "ring" else "false>"), kernel
    assert_close(out, scan_reference.prop2d(*inputs, "none"), FORWARD[dtype], expected)


def test_slices_with_a_multiprocessor_each_take_blocks(opener: Opener) -> None:
    library = opener("fastest")
    block, cluster = "prop2dBlockKernel", "prop2dClusterKernel"
    cases = ((132, 14, block), (67, 14, block), (66, 14, cluster), (133, 14, cluster),
             (265, 14, block), (132, 7, cluster))  # fmt: skip
    for channels, side, expected in cases:
        inputs = prop2d_inputs(
            (1, channels, side, side), False, torch.float16, "none", False, "cpu"
        )
        emulated.take_kernels(library)
        prop2d(*inputs, "none", library=library)
        kernels = emulated.take_templates(library)
        assert kernels == [expected], (channels, side)
