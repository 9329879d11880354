"""gspn2_depthwise_norm against float64 on fresh random data."""

from __future__ import annotations

import layer_reference
import pytest
import torch
from kernel_calls import DTYPES, depthwise_norm, depthwise_norm_inputs, misaligned
from tolerances import FORWARD, assert_close

pytestmark = pytest.mark.gpu

# N, C, H, W: those of GSPN-2's models at batch 1 and with many blocks; odd ones, of up to sixteen
# blocks to a cluster, and of two launches.
SIZES = (
    (1, 80, 56, 56), (1, 160, 28, 28), (1, 320, 14, 14), (1, 640, 7, 7), (64, 80, 56, 56),
    (64, 160, 28, 28), (64, 320, 14, 14), (64, 640, 7, 7), (64, 120, 14, 14), (1, 960, 7, 7),
    (70, 416, 7, 7), (1, 8, 1, 1), (1, 136, 9, 15), (3, 40, 113, 5), (1, 1024, 7, 6),
    (2, 512, 40, 31), (1, 16, 3, 4001), (5, 8, 300, 301),
)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size(size: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    x, weight, bias, scale, shift = depthwise_norm_inputs(size, dtype)
    for options in ({"residual": True}, {"silu": True}):
        y, z = depthwise_norm(x, weight, bias, scale, shift, **options)
        expected = layer_reference.depthwise(x, weight, bias, **options)
        assert_close(y, expected, FORWARD[dtype], f"y {options}")
        # y is rounded ahead of the norm: from this very y.
        assert_close(z, layer_reference.channel_norm(y, scale, shift), FORWARD[dtype], str(options))
        again = depthwise_norm(x, weight, bias, scale, shift, **options)
        for out, same in zip(again, (y, z), strict=True):
            assert torch.equal(out, same), "other bits the second time"


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_misaligned_parameters(dtype: torch.dtype) -> None:
    """Two launches: the same convolution, whose norm adds up in another order."""
    x, *rest = depthwise_norm_inputs((2, 320, 14, 14), dtype)
    y, z = depthwise_norm(x, *(misaligned(value) for value in rest))
    joined, _ = depthwise_norm(x, *rest)
    assert torch.equal(y, joined)
    assert_close(z, layer_reference.channel_norm(y, *rest[2:]), FORWARD[dtype], "z")
