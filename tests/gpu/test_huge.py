"""More than 2^31 elements: every offset that a 32-bit integer would wrap."""

from __future__ import annotations

import pytest
import scan_reference
import torch
from kernel_calls import DIRECTION_NAMES, line_scan, prop2d
from tolerances import FORWARD, assert_close
from torch import Tensor

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

LIMIT = 2**31
DTYPE = torch.float16


@pytest.fixture(autouse=True)
def _needs_memory() -> None:
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    if free < 40 * 2**30:
        pytest.skip(f"needs 40 GiB of GPU memory, {free / 2**30:.0f} GiB are free")


def normal(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=DTYPE, device="cuda").normal_()


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
def test_large_batch(direction: str) -> None:
    size = (3, 700, 1024, 1024)
    assert torch.Size(size).numel() > LIMIT
    x, lam, w = normal(*size), normal(*size), normal(3, 3, 1, 1024, 1024)
    h = line_scan(x, lam, w, direction)
    for n, c in ((0, 0), (1, 348), (2, 647), (2, 648), (2, 699)):  # 2^31 lies in (2, 648)
        at = (slice(n, n + 1), slice(c, c + 1))
        expected = scan_reference.line_scan(x[at], lam[at], w[n : n + 1], direction)
        assert_close(h[at], expected, FORWARD[DTYPE], f"slice {n}, {c}")
    assert not h.isnan().any()


@pytest.mark.parametrize("direction", ["right_to_left", "top_to_bottom"])
def test_large_affinity(direction: str) -> None:
    size = (2, 400, 1024, 1000)
    x, lam, w = normal(*size), normal(*size), normal(2, 3, 400, 1024, 1000)
    assert w.numel() > LIMIT
    h = line_scan(x, lam, w, direction)
    for n, c in ((0, 399), (1, 0), (1, 399)):
        at = (slice(n, n + 1), slice(c, c + 1))
        expected = scan_reference.line_scan(x[at], lam[at], w[n : n + 1, :, c : c + 1], direction)
        assert_close(h[at], expected, FORWARD[DTYPE], f"slice {n}, {c}")
    assert not h.isnan().any()


@pytest.mark.parametrize("direction", DIRECTION_NAMES)
def test_large_plane(direction: str) -> None:
    """One slice past 2^31 elements; segments of one step make the reference a product."""
    size = (1, 1, 32769, 65537)
    assert torch.Size(size).numel() > LIMIT
    x, lam = normal(*size), normal(*size)
    w = torch.zeros((1, 3, 1, 32769, 65537), dtype=DTYPE, device="cuda")
    h = line_scan(x, lam, w, direction, chunk=1)
    for start in range(0, size[2], 4096):
        rows = slice(start, start + 4096)
        product = (x[0, 0, rows].float() * lam[0, 0, rows].float()).to(DTYPE)
        assert torch.equal(h[0, 0, rows], product)


def test_large_prop2d() -> None:
    size = (2, 270, 1024, 1000)
    gates = (2, 4, 270, 1024, 1000)
    assert torch.Size(gates).numel() > LIMIT
    x, lam, u = normal(*size), normal(*gates), normal(*gates)
    w = normal(2, 4, 3, 1, 1024, 1000)
    y = prop2d(x, lam, w, u)
    for n, c in ((0, 0), (1, 249), (1, 269)):
        at = (slice(n, n + 1), slice(c, c + 1))
        gate = (slice(n, n + 1), slice(None), slice(c, c + 1))
        expected = scan_reference.prop2d(x[at], lam[gate], w[n : n + 1], u[gate])
        assert_close(y[at], expected, FORWARD[DTYPE], f"slice {n}, {c}")
    assert not y.isnan().any()
