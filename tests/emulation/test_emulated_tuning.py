"""Plans from the environment, as benchmarks/sweep_plans.py sets them, on the emulated device."""

from __future__ import annotations

import ctypes

import emulated
import layer_reference
import pytest
import scan_reference
import torch
from conftest import Opener
from kernel_calls import (
    NCHW,
    NHWC8,
    channel_norm,
    channel_norm_inputs,
    depthwise,
    depthwise_inputs,
    depthwise_norm,
    depthwise_norm_inputs,
    line_scan,
    line_scan_inputs,
    prop2d,
    prop2d_inputs,
)
from tolerances import FORWARD, assert_close

HORIZONTAL, VERTICAL = "left_to_right", "top_to_bottom"


@pytest.fixture
def library(opener: Opener) -> ctypes.CDLL:
    return opener("fastest")


def check_scan(
    library: ctypes.CDLL, extent: tuple[int, int], direction: str, normalize: str = "sigmoid"
) -> list[str]:
    inputs = line_scan_inputs((1, 2, *extent), True, torch.float32, normalize, "cpu")
    emulated.take_kernels(library)
    out = line_scan(*inputs, direction, normalize, library=library)
    kernels = emulated.take_kernels(library)
    expected = scan_reference.line_scan(*inputs, direction, normalize)
    assert_close(out, expected, FORWARD[torch.float32], f"{extent} {direction}")
    return kernels


@pytest.mark.parametrize(
    ("extent", "direction", "plan"),
    [
        ((40, 24), HORIZONTAL, "2,1,2,1"),
        ((40, 24), HORIZONTAL, "2,2,4,2"),
        ((200, 16), HORIZONTAL, "2,5,3,2"),
        ((200, 40), HORIZONTAL, "2,1,2,4"),
        ((500, 24), HORIZONTAL, "2,2,2,3"),
        ((6, 520), VERTICAL, "2,8,2,1"),
        ((6, 520), VERTICAL, "4,3,3,1"),
    ],
)
def test_a_strip_plan_is_taken(
    library: ctypes.CDLL, extent: tuple[int, int], direction: str, plan: str
) -> None:
    before = library.gspn2_tuned_plans()
    with emulated.environment(GSPN2_STRIP_PLAN=plan):
        (kernel,) = check_scan(library, extent, direction)
    assert "strip" in kernel
    assert not emulated.has_wide_pieces(kernel)
    assert library.gspn2_tuned_plans() > before


@pytest.mark.parametrize("direction", [HORIZONTAL, "right_to_left"])
@pytest.mark.parametrize(
    ("extent", "plan"),
    [
        ((40, 24), "2,1,2,1,1"),
        ((200, 68), "2,2,2,4,1"),
        ((200, 100), "2,2,2,2,1"),
        ((90, 32), "2,1,3,3,1"),
        ((144, 260), "2,1,2,4,1"),
    ],
)
def test_pieces_are_wide(
    library: ctypes.CDLL, extent: tuple[int, int], plan: str, direction: str
) -> None:
    with emulated.environment(GSPN2_STRIP_PLAN=plan):
        (kernel,) = check_scan(library, extent, direction, "none")
    assert emulated.has_wide_pieces(kernel)


@pytest.mark.parametrize(
    ("dtype", "normalize"), [(torch.float16, "none"), (torch.float32, "sigmoid")]
)
def test_wide_pieces_are_of_float32_without_normalisation(
    library: ctypes.CDLL, dtype: torch.dtype, normalize: str
) -> None:
    inputs = line_scan_inputs((1, 2, 40, 24), True, dtype, normalize, "cpu")
    before = library.gspn2_tuned_plans()
    with emulated.environment(GSPN2_STRIP_PLAN="2,1,2,1,1"):
        out = line_scan(*inputs, HORIZONTAL, normalize, library=library)
    assert library.gspn2_tuned_plans() == before
    expected = scan_reference.line_scan(*inputs, HORIZONTAL, normalize)
    assert_close(out, expected, FORWARD[dtype], "left as it was")


# Slices, extent, clusters, segments' steps: whole slices alone, parts of slices, one to a cluster
# and two, a last tile that is not whole, cuts in the middle of a segment, lines that one block has,
# slices of one run and of three.
TOURS = (
    (5, (200, 40), "2,1", 0),
    (5, (200, 12), "2,1", 0),
    (7, (200, 24), "3,0", 16),
    (16, (192, 260), "7,1", 0),
    (17, (200, 264), "5,1", 100),
    (23, (192, 300), "7,1", 7),
    (9, (128, 40), "4,1", 0),
)


@pytest.mark.parametrize("direction", [HORIZONTAL, "right_to_left"])
@pytest.mark.parametrize(
    ("dtype", "normalize", "wide"),
    [
        (torch.float32, "none", False),
        (torch.float32, "none", True),
        (torch.float16, "sigmoid", False),
        (torch.bfloat16, "none", False),
    ],
)
def test_clusters_share_slices(
    library: ctypes.CDLL, dtype: torch.dtype, normalize: str, wide: bool, direction: str
) -> None:
    for slices, (height, width), tour, chunk in TOURS:
        steps = 8 * (width * 4 // dtype.itemsize // 8)
        inputs = line_scan_inputs((1, slices, height, steps), True, dtype, normalize, "cpu")
        outs = []
        for value in ("0,0", tour):
            before = library.gspn2_tuned_plans()
            plan = f"2,{2 if height > 128 else 1},2,4,1" if wide else ""
            emulated.take_kernels(library)
            with emulated.environment(GSPN2_STRIP_TOUR=value, GSPN2_STRIP_PLAN=plan):
                outs.append(line_scan(*inputs, direction, normalize, chunk, library=library))
            assert library.gspn2_tuned_plans() > before
            assert {
                emulated.has_wide_pieces(kernel) for kernel in emulated.take_kernels(library)
            } == {wide}
        assert torch.equal(*outs), (slices, height, steps, tour)
        expected = scan_reference.line_scan(*inputs, direction, normalize, chunk)
        assert_close(outs[1], expected, FORWARD[dtype], f"{tour} {direction}")


@pytest.mark.parametrize("plan", ["4,4", "8,3", "12,2"])
def test_a_tiled_plan_is_taken(library: ctypes.CDLL, plan: str) -> None:
    before = library.gspn2_tuned_plans()
    with emulated.environment(GSPN2_TILED_PLAN=plan):
        (kernel,) = check_scan(library, (50, 136), VERTICAL)
    assert "tiled" in kernel
    assert library.gspn2_tuned_plans() > before


def test_a_plan_that_no_block_holds_is_left(library: ctypes.CDLL) -> None:
    before = library.gspn2_tuned_plans()
    with emulated.environment(GSPN2_STRIP_PLAN="1,1,4,1"):  # some 40 warps
        (kernel,) = check_scan(library, (1000, 8), HORIZONTAL)
    assert "strip" not in kernel
    assert library.gspn2_tuned_plans() == before


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("0,1,0", "prop2dClusterKernel"),
        ("0,2,96", "prop2dClusterKernel"),
        ("1,1,0", "prop2dBlockKernel"),
        ("1,2,512", "prop2dBlockKernel"),
    ],
)
def test_an_onchip_plan_is_taken(library: ctypes.CDLL, plan: str, expected: str) -> None:
    inputs = prop2d_inputs((1, 4, 20, 24), False, torch.float16, "sigmoid", True, "cpu")
    emulated.take_kernels(library)
    before = library.gspn2_tuned_plans()
    with emulated.environment(GSPN2_ONCHIP_PLAN=plan):
        out = prop2d(*inputs, library=library)
    (kernel,) = emulated.take_kernels(library)
    assert emulated.kernel_template(kernel) == expected
    assert library.gspn2_tuned_plans() > before
    assert_close(out, scan_reference.prop2d(*inputs), FORWARD[torch.float16], plan)


@pytest.mark.parametrize("layout", [NCHW, NHWC8])
@pytest.mark.parametrize("cluster", ["0", "1"])
def test_norms_with_and_without_clusters(library: ctypes.CDLL, cluster: str, layout: int) -> None:
    for size in ((1, 24, 7, 7), (17, 16, 9, 8), (1, 40, 30, 34)):
        inputs = channel_norm_inputs(size, torch.float16, True, "cpu")
        before = library.gspn2_tuned_plans()
        with emulated.environment(GSPN2_NORM_CLUSTER=cluster):
            out = channel_norm(*inputs, layout=layout, library=library)
        assert library.gspn2_tuned_plans() > before
        assert_close(out, layer_reference.channel_norm(*inputs), FORWARD[torch.float16])


@pytest.mark.parametrize("few", ["0", "1"])
def test_depthwise_blocks(library: ctypes.CDLL, few: str) -> None:
    for size in ((1, 8, 5, 6), (1, 40, 15, 29)):
        inputs = depthwise_inputs(size, 7, torch.float16, "cpu")
        emulated.take_kernels(library)
        before = library.gspn2_tuned_plans()
        with emulated.environment(GSPN2_DEPTHWISE_FEW=few, GSPN2_OVERLAPS="0"):
            out = depthwise(*inputs, silu=True, library=library)
        (kernel,) = emulated.take_kernels(library)
        assert kernel.endswith(", true>" if few == "1" else ", false>")
        assert library.gspn2_tuned_plans() > before
        expected = layer_reference.depthwise(*inputs, silu=True)
        assert_close(out, expected, FORWARD[torch.float16])


@pytest.mark.parametrize("mma", ["0", "1"])
def test_depthwise_convolutions_with_and_without_tensor_cores(
    library: ctypes.CDLL, mma: str
) -> None:
    for size, kernel in (((1, 8, 5, 6), 3), ((64, 528, 1, 1), 7)):
        inputs = depthwise_inputs(size, kernel, torch.float16, "cpu")
        emulated.take_kernels(library)
        before = library.gspn2_tuned_plans()
        with emulated.environment(GSPN2_DEPTHWISE_MMA=mma):
            out = depthwise(*inputs, residual=True, library=library)
        (instance,) = emulated.take_kernels(library)
        expected = "depthwiseBandKernel" if mma == "1" else "depthwiseKernel"
        assert emulated.kernel_template(instance) == expected
        assert library.gspn2_tuned_plans() > before
        assert_close(out, layer_reference.depthwise(*inputs, residual=True), FORWARD[torch.float16])


@pytest.mark.parametrize(
    ("plan", "channels", "is_taken"),
    [
        *(("5,7", 40, True), ("10,14", 1024, True), ("0,0", 40, True)),
        *(("5,7", 1024, False), ("5,8", 40, False), ("3,7", 40, False), ("0,7", 40, False)),
    ],
)
def test_a_depthwise_norm_plan_that_there_is_not_is_left(
    library: ctypes.CDLL, plan: str, channels: int, is_taken: bool
) -> None:
    inputs = depthwise_norm_inputs((1, channels, 2, 3), torch.float16, "cpu")
    emulated.take_kernels(library)
    before = library.gspn2_tuned_plans()
    with emulated.environment(GSPN2_DEPTHWISE_NORM=plan):
        depthwise_norm(*inputs, library=library)
    assert library.gspn2_tuned_plans() - before == is_taken
    launches = 1 if is_taken and plan != "0,0" else 2
    assert len(emulated.take_kernels(library)) == launches
