"""gspn2_depthwise on the emulated device, against float64."""

from __future__ import annotations

import emulated
import layer_reference
import pytest
import torch
from conftest import Opener
from kernel_calls import DTYPES, depthwise, depthwise_inputs, misaligned
from tolerances import FORWARD, assert_close

# N, C, H, W: few blocks, then many.
SIZES = (
    (1, 8, 1, 1), (2, 16, 7, 7), (1, 136, 9, 15), (3, 40, 14, 5), (1, 264, 3, 8),
    (133, 40, 2, 8), (133, 40, 3, 2),
)  # fmt: skip


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_against_float64(
    opener: Opener, size: tuple[int, int, int, int], dtype: torch.dtype, kernel: int
) -> None:
    inputs = depthwise_inputs(size, kernel, dtype, "cpu")
    for silu, residual, given in ((False, True, inputs), (True, False, inputs[:2])):
        out = depthwise(*given, silu=silu, residual=residual, library=opener("fastest"))
        expected = layer_reference.depthwise(*given, silu=silu, residual=residual)
        assert_close(out, expected, FORWARD[dtype], f"{silu=} {residual=}")


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_weights_begin_anywhere(opener: Opener, dtype: torch.dtype) -> None:
    for size, kernel in (((1, 40, 9, 15), 7), ((133, 40, 2, 8), 3)):
        x, weight, bias = depthwise_inputs(size, kernel, dtype, "cpu")
        given = (x, misaligned(weight), misaligned(bias))
        out = depthwise(*given, library=opener("fastest"))
        assert torch.equal(out, depthwise(x, weight, bias, library=opener("fastest")))


def test_reads_nothing_past_the_inputs(opener: Opener) -> None:
    library = opener("fastest")
    for at_end in (True, False):
        with emulated.Fenced(library) as fenced:
            x, *rest = depthwise_inputs((1, 24, 6, 9), 7, torch.float16, "cpu")
            # So laid out that the copy is what the kernel reads.
            copy = fenced.copy(x.movedim(1, -1).contiguous(), at_end).movedim(-1, 1)
            out = depthwise(copy, *fenced.copies(*rest, at_end=at_end), library=library)
            assert_close(out, layer_reference.depthwise(x, *rest), FORWARD[torch.float16])


def test_nan_reaches_its_neighbours_alone(opener: Opener) -> None:
    x, weight, bias = depthwise_inputs((1, 8, 9, 9), 3, torch.float16, "cpu")
    x[0, 2, 4, 4] = torch.nan
    out = depthwise(x, weight, bias, library=opener("fastest"))
    assert out[0, 2, 3:6, 3:6].isnan().all()
    assert int(out.isnan().sum()) == 9


def test_what_is_refused(opener: Opener) -> None:
    library = opener("fastest")
    for changes in ({"dtype": torch.float32}, {"kernel": 9}, {"size": (1, 12, 3, 3)}):
        given = {"size": (1, 8, 3, 3), "kernel": 3, "dtype": torch.float16} | changes
        with pytest.raises(AssertionError, match="expected float16 or bfloat16, c a multiple of 8"):
            depthwise(*depthwise_inputs(**given, device="cpu"), library=library)
    inputs = depthwise_inputs((1, 8, 3, 3), 3, torch.float16, "cpu")
    with pytest.raises(AssertionError, match="multiples of 16 bytes"):
        depthwise(*inputs, offset=1, library=library)
