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


# Rows that a cluster holds, and whose last vector is not whole.
HELD_SIZES = (
    (1, 1, 4, 5), (3, 4, 7, 7), (2, 20, 6, 6), (1, 37, 9, 5), (1, 156, 12, 9), (2, 180, 7, 8),
    (1, 300, 8, 8), (1, 513, 5, 7), (1, 1023, 4, 4), (1, 156, 24, 24),
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


def take_held(library: ctypes.CDLL) -> None:
    kernels = emulated.take_templates(library)
    assert kernels == ["normHeldKernel"]


@pytest.mark.parametrize("proxies", [0, 1, 2])
@pytest.mark.parametrize("dtype", PROJECTED)
@pytest.mark.parametrize("size", HELD_SIZES, ids=str)
def test_rows_are_held_whose_last_vector_is_not_whole(
    opener: Opener, size: tuple[int, int, int, int], dtype: torch.dtype, proxies: int
) -> None:
    library = opener("fastest")
    x, *rest = channel_norm_inputs(size, dtype, True, "cpu")
    projection = projection_inputs(x, proxies) if proxies else None
    expected = layer_reference.channel_norm(x, *rest, projection=projection)
    tolerances = PROJECTED if proxies else FORWARD
    for move in (torch.clone, misaligned):
        moved = None if projection is None else tuple(move(value) for value in projection)
        parameters = [move(value) for value in rest]
        emulated.take_kernels(library)
        out = channel_norm(x, *parameters, projection=moved, layout=NHWC8, library=library)
        take_held(library)
        assert_close(out, expected, tolerances[dtype], f"{size} {proxies} {move.__name__}")


@pytest.mark.parametrize("channels", [156, 160])
def test_rows_are_held_that_leave_no_room_for_a_second_block(opener: Opener, channels: int) -> None:
    library = opener("fastest")
    x, *rest = channel_norm_inputs((17, channels, 56, 56), torch.float16, True, "cpu")
    emulated.take_kernels(library)
    out = channel_norm(x, *rest, layout=NHWC8, library=library)
    take_held(library)
    assert_close(out, layer_reference.channel_norm(x, *rest), FORWARD[torch.float16])


@pytest.mark.parametrize("channels", [24, 156])
@pytest.mark.parametrize("moved", range(6))
def test_rows_are_held_whose_parameters_are_misaligned(
    opener: Opener, channels: int, moved: int
) -> None:
    library = opener("fastest")
    x, *rest = channel_norm_inputs((2, channels, 6, 5), torch.float16, True, "cpu")
    proxy, *weights = projection_inputs(x, 2)
    expected = layer_reference.channel_norm(x, *rest, projection=(proxy, *weights))
    tensors = [*rest, *weights]
    tensors[moved] = misaligned(tensors[moved])
    emulated.take_kernels(library)
    projection = (proxy, tensors[4], tensors[5])
    out = channel_norm(x, *tensors[:4], projection=projection, layout=NHWC8, library=library)
    take_held(library)
    assert_close(out, expected, PROJECTED[torch.float16])


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


@pytest.mark.parametrize("channels", [72, 156])
@pytest.mark.parametrize("layout", [NCHW, NHWC8])
def test_the_same_bits_whatever_the_schedule(opener: Opener, layout: int, channels: int) -> None:
    inputs = channel_norm_inputs((2, channels, 9, 16), torch.float16, True, "cpu")
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


@pytest.mark.parametrize("proxies", [0, 2])
def test_nan_stays_in_its_batch_item(opener: Opener, proxies: int) -> None:
    # Of it every channel's mean square is NaN; behind the last channel there is 0 all the same.
    x, *rest = channel_norm_inputs((3, 20, 6, 6), torch.float16, True, "cpu")
    x[1, 3, 2, 4] = torch.nan
    projection = projection_inputs(x, proxies) if proxies else None
    out = channel_norm(x, *rest, projection=projection, layout=NHWC8, library=opener("fastest"))
    assert out[1].isnan().all()
    assert not out[::2].isnan().any()


def fenced_copies(
    fenced: emulated.Fenced, at_end: bool, *values: torch.Tensor
) -> list[torch.Tensor]:
    copies = [value for value in fenced.copies(*values, at_end=at_end) if value is not None]
    assert len(copies) == len(values)
    return copies


@pytest.mark.parametrize("channels", [24, 37, 156])
@pytest.mark.parametrize("layout", [NCHW, NHWC8])
def test_reads_nothing_past_the_inputs(opener: Opener, layout: int, channels: int) -> None:
    library = opener("fastest")
    for at_end in (True, False):
        with emulated.Fenced(library) as fenced:
            inputs = channel_norm_inputs((1, channels, 5, 7), torch.float16, True, "cpu")
            copies = fenced_copies(fenced, at_end, *inputs)
            out = channel_norm(*copies, layout=layout, library=library)
            assert_close(out, layer_reference.channel_norm(*inputs), FORWARD[torch.float16])


@pytest.mark.parametrize("channels", [24, 37, 156])
def test_reads_nothing_past_a_projection(opener: Opener, channels: int) -> None:
    library = opener("fastest")
    for at_end in (True, False):
        with emulated.Fenced(library) as fenced:
            x, *rest = channel_norm_inputs((1, channels, 5, 7), torch.float16, True, "cpu")
            projection = projection_inputs(x, 2)
            expected = layer_reference.channel_norm(x, *rest, projection=projection)
            copies = fenced_copies(fenced, at_end, *rest)
            proxy, weight, bias = fenced_copies(fenced, at_end, *projection)
            given = {"projection": (proxy, weight, bias), "layout": NHWC8, "library": library}
            assert_close(channel_norm(x, *copies, **given), expected, PROJECTED[torch.float16])


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
