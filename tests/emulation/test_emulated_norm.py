"""gspn2_channel_norm on the emulated device, against float64."""

from __future__ import annotations

import ctypes

import emulated
import layer_reference
import pytest
import torch
from conftest import Opener
from kernel_calls import (
    DTYPES,
    NCHW,
    NHWC8,
    NORM_LAYOUTS,
    channel_norm,
    channel_norm_inputs,
    misaligned,
    projection_inputs,
)
from tolerances import FORWARD, PROJECTED, assert_close

# N, C, H, W: channels that one warp has, several, and more than they hold; tiles that end early.
SIZES = (
    (1, 1, 1, 1), (2, 3, 5, 7), (1, 80, 8, 8), (2, 120, 7, 7), (1, 513, 6, 6), (1, 600, 3, 5),
    (1, 1100, 2, 3), (3, 12, 48, 66), (5, 4, 62, 60), (1, 8, 96, 90), (264, 9, 2, 3),
    (2, 300, 9, 8),
)  # fmt: skip


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize(("layout", "dtype"), NORM_LAYOUTS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_against_float64(
    opener: Opener, size: tuple[int, int, int, int], layout: int, dtype: torch.dtype, response: bool
) -> None:
    inputs = channel_norm_inputs(size, dtype, response, "cpu")
    expected = layer_reference.channel_norm(*inputs)
    for choice in ("fastest", "old"):
        out = channel_norm(*inputs, layout=layout, library=opener(choice))
        assert_close(out, expected, FORWARD[dtype], f"{choice} {size}")


@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize("dtype", PROJECTED)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_projection(
    opener: Opener, size: tuple[int, int, int, int], dtype: torch.dtype, response: bool
) -> None:
    x, *rest = channel_norm_inputs(size, dtype, response, "cpu")
    for proxies in (1, 2):
        projection = projection_inputs(x, proxies)
        expected = layer_reference.channel_norm(x, *rest, projection=projection)
        for choice in ("fastest", "old"):
            given = {"projection": projection, "layout": NHWC8, "library": opener(choice)}
            out = channel_norm(x, *rest, **given)
            assert_close(out, expected, PROJECTED[dtype], f"{choice} {size} {proxies}")


def test_a_misaligned_projection(opener: Opener) -> None:
    x, *rest = channel_norm_inputs((2, 24, 6, 5), torch.float16, True, "cpu")
    projection = projection_inputs(x, 2)
    expected = layer_reference.channel_norm(x, *rest, projection=projection)
    moved = tuple(misaligned(value) for value in projection)
    out = channel_norm(x, *rest, projection=moved, layout=NHWC8, library=opener("fastest"))
    assert_close(out, expected, PROJECTED[torch.float16])


@pytest.mark.parametrize("dtype", DTYPES)
def test_misaligned(opener: Opener, dtype: torch.dtype) -> None:
    x, *rest = channel_norm_inputs((2, 10, 4, 8), dtype, True, "cpu")
    expected = layer_reference.channel_norm(x, *rest)
    out = channel_norm(misaligned(x), *rest, offset=1, library=opener("fastest"))
    assert_close(out, expected, FORWARD[dtype])


@pytest.mark.parametrize("layout", [NCHW, NHWC8])
def test_the_same_bits_whatever_the_schedule(opener: Opener, layout: int) -> None:
    inputs = channel_norm_inputs((2, 72, 9, 16), torch.float16, True, "cpu")
    results = []
    for seed in range(4):
        with emulated.seeded(seed):
            results.append(channel_norm(*inputs, layout=layout, library=opener("fastest")))
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("layout", [NCHW, NHWC8])
def test_nan_stays_at_its_position(opener: Opener, layout: int) -> None:
    x, *rest = channel_norm_inputs((2, 20, 6, 6), torch.float16, False, "cpu")
    x[1, 3, 2, 4] = torch.nan
    out = channel_norm(x, *rest, layout=layout, library=opener("fastest"))
    assert out[1, :, 2, 4].isnan().all()
    assert int(out.isnan().sum()) == 20


@pytest.mark.parametrize("layout", [NCHW, NHWC8])
def test_reads_nothing_past_the_inputs(opener: Opener, layout: int) -> None:
    library = opener("fastest")
    for at_end in (True, False):
        with emulated.Fenced(library) as fenced:
            inputs = channel_norm_inputs((1, 24, 5, 7), torch.float16, True, "cpu")
            copies = fenced.copies(*inputs, at_end=at_end)
            out = channel_norm(*copies, layout=layout, library=library)
            assert_close(out, layer_reference.channel_norm(*inputs), FORWARD[torch.float16])


def test_what_is_refused(opener: Opener) -> None:
    library: ctypes.CDLL = opener("fastest")
    x, *rest = channel_norm_inputs((1, 8, 2, 2), torch.float32, True, "cpu")
    with pytest.raises(AssertionError, match="layout NHWC8 with dtype 0"):
        channel_norm(x, *rest, layout=NHWC8, library=library)
    with pytest.raises(AssertionError, match="layout is 7"):
        channel_norm(x, *rest, layout=7, library=library)
    with pytest.raises(AssertionError, match="epsilon is -1"):
        channel_norm(x, *rest, epsilon=-1.0, library=library)
    half = [value.half() for value in (x, *rest)]
    with pytest.raises(AssertionError, match="multiples of 16 bytes"):
        channel_norm(*half, layout=NHWC8, offset=1, library=library)
    for proxies, layout in ((3, NHWC8), (1, NCHW)):
        projection = projection_inputs(half[0], proxies)
        with pytest.raises(AssertionError, match="expected 1 to 2 channels in layout 1"):
            channel_norm(*half, projection=projection, layout=layout, library=library)
    many = channel_norm_inputs((1, 2056, 1, 1), torch.float16, False, "cpu")
    with pytest.raises(AssertionError, match="at most 2048 channels"):
        channel_norm(*many, layout=NHWC8, library=library)
    with pytest.raises(AssertionError, match="one of response_scale and response_shift is null"):
        channel_norm(*half[:4], None, library=library)
