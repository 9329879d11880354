"""gspn2_depthwise against float64 on fresh random data."""

from __future__ import annotations

import layer_reference
import pytest
import torch
from kernel_calls import DTYPES, depthwise, depthwise_inputs, misaligned
from tolerances import FORWARD, assert_close

pytestmark = pytest.mark.gpu

# N, C, H, W: those of GSPN-2-tiny, and odd ones; the last four, and 64x960x7x7, for tensor cores.
SIZES = (
    (2, 80, 56, 56), (3, 120, 56, 56), (2, 240, 28, 28), (5, 480, 14, 14), (64, 960, 7, 7),
    (1, 8, 1, 1), (1, 136, 9, 15), (3, 40, 113, 5), (1, 1440, 7, 6), (1, 16, 3, 4001),
    (50, 1064, 7, 6), (64, 248, 14, 13), (9, 264, 31, 45), (64, 120, 56, 56),
)  # fmt: skip


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size(size: tuple[int, int, int, int], dtype: torch.dtype, kernel: int) -> None:
    inputs = depthwise_inputs(size, kernel, dtype)
    for silu, residual, given in ((False, True, inputs), (True, False, inputs[:2])):
        out = depthwise(*given, silu=silu, residual=residual)
        expected = layer_reference.depthwise(*given, silu=silu, residual=residual)
        assert_close(out, expected, FORWARD[dtype], f"{silu=} {residual=}")
        again = depthwise(*given, silu=silu, residual=residual)
        assert torch.equal(again, out), "other bits the second time"


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_weights_begin_anywhere(dtype: torch.dtype) -> None:
    for size, kernel in (((1, 40, 9, 15), 7), ((64, 80, 28, 28), 3)):
        x, weight, bias = depthwise_inputs(size, kernel, dtype)
        out = depthwise(x, misaligned(weight), misaligned(bias))
        assert torch.equal(out, depthwise(x, weight, bias))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("size", [(1, 40, 30, 33), (64, 960, 7, 7), (66, 64, 28, 30)], ids=str)
def test_what_is_not_finite_reaches_its_neighbours_alone(
    size: tuple[int, int, int, int], dtype: torch.dtype, value: float
) -> None:
    x, weight, bias = depthwise_inputs(size, 7, dtype)
    item, channel, row, column = size[0] - 1, 9, 4, 5
    x[item, channel, row, column] = value
    out = depthwise(x, weight, bias, residual=True)
    reached = torch.zeros_like(out, dtype=torch.bool)
    reached[item, channel, row - 3 : row + 4, column - 3 : column + 4] = True
    assert torch.equal(out.isfinite(), ~reached)
