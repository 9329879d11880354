"""gspn2_depthwise on the emulated device, against float64."""

from __future__ import annotations

import itertools

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
# For tensor cores: 16, four or one map to a block, of which there may be fewer; one octet of
# channels and an odd number of them; tiles of several sizes.
BAND_SIZES = (
    (1, 8, 1, 1), (18, 24, 7, 7), (3, 16, 5, 2), (5, 24, 14, 13), (1, 40, 3, 8), (1, 24, 28, 28),
    (1, 8, 15, 33), (2, 16, 29, 9), (1, 8, 2, 65), (1, 8, 57, 30),
)  # fmt: skip
TENSOR_CORES = {"GSPN2_DEPTHWISE_MMA": "1"}


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


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("size", BAND_SIZES, ids=str)
@pytest.mark.parametrize("choice", ["fastest", "old"])
def test_tensor_cores_against_float64(
    opener: Opener, choice: str, size: tuple[int, int, int, int], dtype: torch.dtype, kernel: int
) -> None:
    inputs = depthwise_inputs(size, kernel, dtype, "cpu")
    library = opener(choice)
    for silu, residual, given in (
        *((False, True, inputs), (True, False, inputs[:2]), (True, True, inputs)),
    ):
        emulated.take_kernels(library)
        with emulated.environment(**TENSOR_CORES):
            out = depthwise(*given, silu=silu, residual=residual, library=library)
        (instance,) = emulated.take_kernels(library)
        assert emulated.kernel_template(instance) == "depthwiseBandKernel"
        expected = layer_reference.depthwise(*given, silu=silu, residual=residual)
        assert_close(out, expected, FORWARD[dtype], f"{silu=} {residual=}")


@pytest.mark.parametrize("forced", [{}, TENSOR_CORES], ids=["", "tensor cores"])
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_weights_begin_anywhere(opener: Opener, dtype: torch.dtype, forced: dict[str, str]) -> None:
    for size, kernel in (((1, 40, 9, 15), 7), ((133, 40, 2, 8), 3)):
        x, weight, bias = depthwise_inputs(size, kernel, dtype, "cpu")
        given = (x, misaligned(weight), misaligned(bias))
        with emulated.environment(**forced):
            out = depthwise(*given, library=opener("fastest"))
            assert torch.equal(out, depthwise(x, weight, bias, library=opener("fastest")))


@pytest.mark.parametrize("forced", [{}, TENSOR_CORES], ids=["", "tensor cores"])
def test_reads_nothing_past_the_inputs(opener: Opener, forced: dict[str, str]) -> None:
    library = opener("fastest")
    sizes = ((1, 24, 6, 9), (1, 24, 5, 7), (1, 24, 30, 33)) if forced else ((1, 24, 6, 9),)
    for size, at_end in itertools.product(sizes, (True, False)):
        with emulated.Fenced(library) as fenced, emulated.environment(**forced):
            x, *rest = depthwise_inputs(size, 7, torch.float16, "cpu")
            # So laid out that the copy is what the kernel reads.
            copy = fenced.copy(x.movedim(1, -1).contiguous(), at_end).movedim(-1, 1)
            out = depthwise(copy, *fenced.copies(*rest, at_end=at_end), library=library)
            assert_close(out, layer_reference.depthwise(x, *rest), FORWARD[torch.float16])


@pytest.mark.parametrize("forced", [{}, TENSOR_CORES], ids=["", "tensor cores"])
def test_nan_reaches_its_neighbours_alone(opener: Opener, forced: dict[str, str]) -> None:
    x, weight, bias = depthwise_inputs((1, 8, 9, 9), 3, torch.float16, "cpu")
    x[0, 2, 4, 4] = torch.nan
    with emulated.environment(**forced):
        out = depthwise(x, weight, bias, library=opener("fastest"))
    assert out[0, 2, 3:6, 3:6].isnan().all()
    assert int(out.isnan().sum()) == 9


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", [(17, 16, 7, 6), (5, 24, 13, 14), (1, 16, 30, 33)], ids=str)
def test_what_is_not_finite_reaches_its_neighbours_alone_on_tensor_cores(
    opener: Opener, size: tuple[int, int, int, int], kernel: int, dtype: torch.dtype, value: float
) -> None:
    """Its products with the zeros beside a band are NaN, and belong to no result."""
    inputs = depthwise_inputs(size, kernel, dtype, "cpu")
    finite = layer_reference.depthwise(*inputs, residual=True)
    x = inputs[0]
    items, _, height, width = size
    places = ((0, 0, 0, 0), (items - 1, 9, height - 1, width - 1), (0, 3, height // 2, width // 2))
    reach = kernel // 2
    reached = torch.zeros(size, dtype=torch.bool)
    for item, channel, row, column in places:
        x[item, channel, row, column] = value
        rows = slice(max(row - reach, 0), row + reach + 1)
        reached[item, channel, rows, max(column - reach, 0) : column + reach + 1] = True
    with emulated.environment(**TENSOR_CORES):
        out = depthwise(*inputs, residual=True, library=opener("fastest"))
    assert torch.equal(out.isfinite(), ~reached)
    expected = torch.where(reached, 0.0, finite)
    assert_close(torch.where(reached, 0.0, out), expected, FORWARD[dtype])
    with emulated.environment(GSPN2_DEPTHWISE_MMA="0"):
        same = depthwise(*inputs, residual=True, library=opener("fastest"))
    assert torch.equal(out[reached].nan_to_num(), same[reached].nan_to_num())


@pytest.mark.parametrize("silu", [False, True])
def test_an_overflow_stays_what_it_is_on_tensor_cores(opener: Opener, silu: bool) -> None:
    x, weight, bias = depthwise_inputs((1, 8, 9, 9), 7, torch.float16, "cpu")
    x[0, 5] = 60000.0
    weight[5] = 1.0
    outs = []
    for forced in ("0", "1"):
        with emulated.environment(GSPN2_DEPTHWISE_MMA=forced):
            outs.append(depthwise(x, weight, bias, silu=silu, library=opener("fastest")))
    assert bool((outs[1][0, 5] == torch.inf).all())
    assert torch.equal(outs[0].isfinite(), outs[1].isfinite())


def test_what_is_refused(opener: Opener) -> None:
    library = opener("fastest")
    for changes in ({"dtype": torch.float32}, {"kernel": 9}, {"size": (1, 12, 3, 3)}):
        given = {"size": (1, 8, 3, 3), "kernel": 3, "dtype": torch.float16} | changes
        with pytest.raises(AssertionError, match="expected float16 or bfloat16, c a multiple of 8"):
            depthwise(*depthwise_inputs(**given, device="cpu"), library=library)
    inputs = depthwise_inputs((1, 8, 3, 3), 3, torch.float16, "cpu")
    with pytest.raises(AssertionError, match="multiples of 16 bytes"):
        depthwise(*inputs, offset=1, library=library)
