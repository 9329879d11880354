"""How paths cut their work up, by the heuristics, on a device of SMALL_MULTIPROCESSORS."""

from __future__ import annotations

import emulated
import pytest
import scan_reference
import torch
from conftest import Opener
from kernel_calls import line_scan, line_scan_inputs
from tolerances import FORWARD, assert_close

# Slices, extent of horizontal float32 scans, and whether their pieces are wide: not of few slices,
# of short parts and rows.
WIDE = (
    ((7, 256, 256), True),
    ((5, 256, 264), False),
    ((13, 128, 256), True),
    ((7, 224, 256), False),
    ((7, 256, 248), False),
)


@pytest.mark.parametrize(("size", "expected"), WIDE, ids=str)
def test_pieces_are_wide_where_slices_are_many(
    opener: Opener, size: tuple[int, int, int], expected: bool
) -> None:
    library = opener("small")
    slices, height, width = size
    for normalize, wide in (("none", expected), ("sigmoid", False)):
        inputs = line_scan_inputs(
            (1, slices, height, width), False, torch.float32, normalize, "cpu"
        )
        emulated.take_kernels(library)
        out = line_scan(*inputs, "right_to_left", normalize, library=library)
        (kernel,) = emulated.take_kernels(library)
        assert emulated.has_wide_pieces(kernel) == wide, (normalize, kernel)
        reference = scan_reference.line_scan(*inputs, "right_to_left", normalize)
        assert_close(out, reference, FORWARD[torch.float32], normalize)


@pytest.mark.parametrize(
    ("dtype", "normalize", "line", "parts"),
    [
        (torch.float16, "none", 1000, 8),
        (torch.float16, "sigmoid", 1000, 6),
        (torch.bfloat16, "softmax", 1024, 6),
        (torch.float16, "sigmoid", 640, 5),  # four parts would leave their warps' last ones empty
        (torch.float16, "sigmoid", 512, 2),
        (torch.float32, "sigmoid", 1000, 8),
    ],
)
def test_blocks_that_share_a_line(
    opener: Opener, dtype: torch.dtype, normalize: str, line: int, parts: int
) -> None:
    library = opener("small")
    inputs = line_scan_inputs((1, 7, line, 16), False, dtype, normalize, "cpu")
    emulated.take_clusters(library)
    out = line_scan(*inputs, "left_to_right", normalize, library=library)
    assert emulated.take_clusters(library) == [parts]
    reference = scan_reference.line_scan(*inputs, "left_to_right", normalize)
    assert_close(out, reference, FORWARD[dtype], normalize)
