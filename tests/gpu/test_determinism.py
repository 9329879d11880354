"""The same inputs give the same bits, run after run and within other traffic on the GPU."""

from __future__ import annotations

import pytest
import torch
from kernel_calls import DIRECTION_NAMES, DTYPES, line_scan, line_scan_inputs, prop2d, prop2d_inputs

pytestmark = pytest.mark.gpu

EXTENTS = ((7, 7), (33, 65), (64, 64), (128, 192), (200, 224), (64, 1024), (1024, 1024), (1030, 40))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extent", EXTENTS, ids=str)
def test_runs_are_identical(extent: tuple[int, int], dtype: torch.dtype) -> None:
    scan = line_scan_inputs((2, 4, *extent), True, dtype, "sigmoid")
    merged = prop2d_inputs((2, 4, *extent), False, dtype, "sigmoid", True)
    first = [line_scan(*scan, direction) for direction in DIRECTION_NAMES]
    first.append(prop2d(*merged))
    other = torch.randn(2048, 2048, device="cuda")
    stream = torch.cuda.Stream()
    for _ in range(6):
        with torch.cuda.stream(stream):
            other = other @ other / 2048
        again = [line_scan(*scan, direction) for direction in DIRECTION_NAMES]
        again.append(prop2d(*merged))
        for was, now in zip(first, again, strict=True):
            assert torch.equal(was.view(torch.int8), now.view(torch.int8))
    assert not first[0].isnan().any()
