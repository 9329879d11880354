"""gspn2_channel_norm against float64 on fresh random data."""

from __future__ import annotations

import layer_reference
import pytest
import torch
from kernel_calls import (
    NCHW,
    NHWC8,
    NORM_LAYOUTS,
    channel_norm,
    channel_norm_inputs,
    misaligned,
    projection_inputs,
)
from tolerances import FORWARD, PROJECTED, assert_close

pytestmark = pytest.mark.gpu

# N, C, H, W: those of GSPN-2-tiny and of base's widest map, odd ones, and more than a warp holds;
# then rows that a cluster holds and whose last vector is not whole.
SIZES = (
    (2, 80, 56, 56), (3, 120, 56, 56), (2, 240, 28, 28), (5, 480, 14, 14), (64, 960, 7, 7),
    (1, 40, 112, 112), (1, 1440, 7, 7), (1, 2048, 3, 3), (1, 1, 1, 1), (2, 3, 5, 7),
    (1, 513, 65, 3), (1, 2500, 4, 4), (300, 8, 2, 2), (1, 16, 1, 70_001), (1, 120, 56, 56),
    (8, 480, 14, 14), (2, 1024, 14, 32), (2, 1024, 16, 32), (40, 120, 56, 56),
    (1, 1024, 24, 32), (1, 512, 44, 44), (8, 120, 56, 56),
    (64, 156, 56, 56), (2, 180, 56, 56), (1, 156, 56, 56), (3, 4, 7, 7), (2, 20, 6, 6),
    (5, 37, 9, 5), (9, 300, 14, 14), (1, 1023, 16, 32),
)  # fmt: skip


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize(("layout", "dtype"), NORM_LAYOUTS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size(
    size: tuple[int, int, int, int], layout: int, dtype: torch.dtype, response: bool
) -> None:
    if layout == NHWC8 and size[1] > 2048:
        with pytest.raises(AssertionError, match="at most 2048 channels"):
            channel_norm(*channel_norm_inputs(size, dtype, response), layout=layout)
        return
    x, *rest = channel_norm_inputs(size, dtype, response)
    expected = layer_reference.channel_norm(x, *rest)
    out = channel_norm(x, *rest, layout=layout)
    assert_close(out, expected, FORWARD[dtype], f"{size}")
    assert torch.equal(channel_norm(x, *rest, layout=layout), out), "other bits the second time"
    if layout == NCHW:
        out = channel_norm(misaligned(x), *rest, offset=1)
        assert_close(out, expected, FORWARD[dtype], f"{size}, misaligned")


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize("dtype", PROJECTED)
@pytest.mark.parametrize("size", [size for size in SIZES if size[1] <= 2048], ids=str)
def test_a_projection(size: tuple[int, int, int, int], dtype: torch.dtype, response: bool) -> None:
    x, *rest = channel_norm_inputs(size, dtype, response)
    for proxies in (1, 2):
        projection = projection_inputs(x, proxies)
        expected = layer_reference.channel_norm(x, *rest, projection=projection)
        out = channel_norm(x, *rest, projection=projection, layout=NHWC8)
        assert_close(out, expected, PROJECTED[dtype], f"{size} {proxies}")
        again = channel_norm(x, *rest, projection=projection, layout=NHWC8)
        assert torch.equal(again, out), "other bits the second time"
        moved = tuple(misaligned(value) for value in projection)
        out = channel_norm(x, *rest, projection=moved, layout=NHWC8)
        assert_close(out, expected, PROJECTED[dtype], f"{size} {proxies}, misaligned")


@pytest.mark.parametrize("layout", [NCHW, NHWC8])
def test_a_graph_replays_it(layout: int) -> None:
    x, *rest = channel_norm_inputs((4, 120, 28, 28), torch.float16, True)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        channel_norm(x, *rest, layout=layout)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        # The guard bands are looked at behind the capture, which allows no synchronisation.
        out = channel_norm(x, *rest, layout=layout, check=False)
    for _ in range(3):
        x.copy_(3 + 2 * torch.randn_like(x))
        graph.replay()
        expected = layer_reference.channel_norm(x, *rest)
        assert_close(out, expected, FORWARD[torch.float16])
