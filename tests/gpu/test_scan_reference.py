"""The fast float64 reference of the GPU tests against the element-by-element one. Needs no GPU."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from scan_reference import DIRECTIONS, line_scan, prop2d


def assert_same(actual: torch.Tensor, expected: np.ndarray) -> None:
    """Sums cancel: an element near 0 keeps the rounding of the terms that it came from."""
    np.testing.assert_allclose(
        actual.numpy(), expected, rtol=1e-12, atol=1e-13 * np.abs(expected).max()
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize(("chunk", "channels_w"), [(0, 1), (3, 2)])
def test_line_scan(direction: str, normalize: str, chunk: int, channels_w: int) -> None:
    x, lam = torch.randn(2, 2, 2, 4, 7, dtype=torch.float64)
    w = torch.randn(2, 3, channels_w, 4, 7, dtype=torch.float64)
    expected = reference.line_scan(x.numpy(), lam.numpy(), w.numpy(), direction, normalize, chunk)
    assert_same(line_scan(x, lam, w, direction, normalize, chunk), expected)


@pytest.mark.parametrize("options", [False, True])
def test_prop2d(options: bool) -> None:
    x = torch.randn(2, 2, 5, 3, dtype=torch.float64)
    lam, u, d = torch.randn(3, 2, 4, 2, 5, 3, dtype=torch.float64)
    w = torch.randn(2, 4, 3, 1, 5, 3, dtype=torch.float64)
    m = torch.randn(4, dtype=torch.float64)
    extra = (d, m) if options else (None, None)
    expected = reference.prop2d(
        *(None if value is None else value.numpy() for value in (x, lam, w, u, *extra))
    )
    assert_same(prop2d(x, lam, w, u, *extra), expected)
