"""No order of threads and copies changes a bit."""

from __future__ import annotations

import emulated
import layer_reference
import pytest
import scan_reference
import torch
from conftest import FULL, Opener
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
    prop2d,
    prop2d_inputs,
)
from test_emulated_paths import NORM_CLUSTERS, NORM_LAUNCHES
from tolerances import FORWARD, assert_close

SEEDS = range(40) if FULL else range(4)


@pytest.mark.parametrize("choice", ["fastest", "old"])
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize(
    "extent", [(64, 64), (136, 72), (72, 136), (264, 72), (72, 264), (16, 520)], ids=str
)
def test_any_schedule_of_a_line_scan(
    opener: Opener, extent: tuple[int, int], direction: str, choice: str
) -> None:
    library = opener(choice)
    for dtype in DTYPES if FULL else (DTYPES[1 + extent[0] // 8 % 2], torch.float32):
        inputs = line_scan_inputs((1, 2, *extent), True, dtype, "sigmoid", "cpu")
        expected = scan_reference.line_scan(*inputs, direction, "sigmoid", 11)
        first: torch.Tensor | None = None
        for seed in SEEDS:
            with emulated.seeded(seed):
                out = line_scan(*inputs, direction, "sigmoid", 11, library=library)
            assert_close(out, expected, FORWARD[dtype], f"{dtype}, seed {seed}")
            first = out if first is None else first
            assert torch.equal(out, first), f"{dtype}: seed {seed} gives other bits"


def test_no_schedule_stops_a_warp_that_loads_nothing(opener: Opener) -> None:
    """Of four producer warps three have no step in the last group of a scan of 17."""
    inputs = line_scan_inputs((1, 2, 17, 512), False, torch.float16, "none", "cpu")
    for seed in range(40):
        with emulated.seeded(seed):
            line_scan(*inputs, "top_to_bottom", "none", library=opener("fastest"))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize(
    "extent",
    [(7, 7), (33, 31), (32, 40), (64, 64), (136, 40), (72, 104), (104, 184), (24, 264), (9, 520)],
    ids=str,
)
def test_any_schedule_of_prop2d(opener: Opener, extent: tuple[int, int], options: bool) -> None:
    library = opener("fastest")
    for dtype in DTYPES if FULL else (DTYPES[1 + extent[0] % 2], torch.float32):
        inputs = prop2d_inputs((1, 3, *extent), False, dtype, "sigmoid", options, "cpu")
        expected = scan_reference.prop2d(*inputs, "sigmoid", 11)
        first: torch.Tensor | None = None
        for seed in SEEDS:
            with emulated.seeded(seed):
                out = prop2d(*inputs, "sigmoid", 11, library=library)
            assert_close(out, expected, FORWARD[dtype], f"{dtype}, seed {seed}")
            first = out if first is None else first
            assert torch.equal(out, first), f"{dtype}: seed {seed} gives other bits"


@pytest.mark.parametrize(
    ("size", "vector", "channels"),
    [((1, 2, 16, 12), 4, 1), ((2, 2, 14, 14), 1, 1), ((34, 4, 8, 12), 4, 2), ((34, 2, 7, 7), 1, 2)],
    ids=str,
)
def test_any_schedule_of_rows(
    opener: Opener, size: tuple[int, int, int, int], vector: int, channels: int
) -> None:
    """Of columns to a load and channels to a cluster."""
    library = opener("fastest")
    inputs = prop2d_inputs(size, False, torch.float16, "sigmoid", True, "cpu")
    expected = prop2d(*inputs, library=library)
    parts = packed(*inputs, move=in_rows, with_x=True, between=2)
    for seed in SEEDS:
        emulated.take_kernels(library)
        with emulated.seeded(seed):
            out = prop2d(*parts, library=library)
        (instance,) = emulated.take_kernels(library)
        assert emulated.kernel_template(instance) == "prop2dClusterKernel"
        assert f", 2, {vector}, {channels}, (gspn2_layout_t){NHWC8}, false>" in instance, instance
        assert torch.equal(out, expected), f"seed {seed} gives other bits"


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize("layout", [NCHW, NHWC8])
def test_any_schedule_of_a_norm(opener: Opener, layout: int, response: bool) -> None:
    dtypes = DTYPES[1:] if layout == NHWC8 else DTYPES
    for i, size in enumerate((*NORM_CLUSTERS[layout], *NORM_LAUNCHES[layout])):
        for dtype in dtypes if FULL else (dtypes[i % len(dtypes)],):
            inputs = channel_norm_inputs(size, dtype, response, "cpu")
            expected = layer_reference.channel_norm(*inputs)
            first: torch.Tensor | None = None
            for seed in SEEDS:
                with emulated.seeded(seed):
                    out = channel_norm(*inputs, layout=layout, library=opener("fastest"))
                assert_close(out, expected, FORWARD[dtype], f"{size} {dtype}, seed {seed}")
                first = out if first is None else first
                assert torch.equal(out, first), f"{size} {dtype}: seed {seed} gives other bits"


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", [(1, 40, 7, 7), (2, 8, 5, 3), (1, 72, 15, 16)], ids=str)
@pytest.mark.parametrize("tensor_cores", ["0", "1"])
def test_any_schedule_of_a_depthwise_convolution(
    opener: Opener,
    monkeypatch: pytest.MonkeyPatch,
    tensor_cores: str,
    size: tuple[int, int, int, int],
    kernel: int,
) -> None:
    monkeypatch.setenv("GSPN2_DEPTHWISE_MMA", tensor_cores)
    for dtype in DTYPES[1:] if FULL else (DTYPES[1 + kernel // 2 % 2],):
        inputs = depthwise_inputs(size, kernel, dtype, "cpu")
        expected = layer_reference.depthwise(*inputs, silu=True, residual=True)
        first: torch.Tensor | None = None
        for seed in SEEDS:
            with emulated.seeded(seed):
                out = depthwise(*inputs, silu=True, residual=True, library=opener("fastest"))
            assert_close(out, expected, FORWARD[dtype], f"{dtype}, seed {seed}")
            first = out if first is None else first
            assert torch.equal(out, first), f"{dtype}: seed {seed} gives other bits"


@pytest.mark.parametrize("size", [(1, 40, 7, 7), (2, 8, 5, 3), (1, 264, 3, 4)], ids=str)
def test_any_schedule_of_a_depthwise_convolution_with_its_norm(
    opener: Opener, size: tuple[int, int, int, int]
) -> None:
    for dtype in DTYPES[1:]:
        inputs = depthwise_norm_inputs(size, dtype, "cpu")
        first: tuple[torch.Tensor, ...] = ()
        for seed in SEEDS:
            with emulated.seeded(seed):
                outs = depthwise_norm(*inputs, residual=True, library=opener("fastest"))
            expected = layer_reference.channel_norm(outs[0], *inputs[3:])
            assert_close(outs[1], expected, FORWARD[dtype], f"{dtype}, seed {seed}")
            first = first or outs
            for out, same in zip(outs, first, strict=True):
                assert torch.equal(out, same), f"{dtype}: seed {seed} gives other bits"
