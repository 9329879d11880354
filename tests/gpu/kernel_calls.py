"""Calls of the C ABI that watch over memory, and the random inputs they are fed.

Every output is filled with NaN before the call and stands between two guard bands that must come
back untouched; a workspace likewise.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from gspn2_deploy.ops import cuda
from gspn2_deploy.spec import DIRECTIONS, Direction, Normalize

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DTYPE_CODES = {dtype: code for code, dtype in enumerate(DTYPES)}
NORMALIZE_CODES = {"none": 0, "sigmoid": 1, "softmax": 2}
DIRECTION_NAMES = tuple(direction.value for direction in DIRECTIONS)

_GUARD = 512  # elements on either side; a multiple of every alignment the kernels care about
_SENTINEL = 97.0  # exact in every dtype


class GuardedBuffer:
    """A tensor full of NaN between two guard bands, `offset` elements off its alignment."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, offset: int = 0) -> None:
        count = torch.Size(shape).numel()
        self._whole = torch.full((count + 2 * _GUARD,), _SENTINEL, dtype=dtype, device="cuda")
        self._start, self._stop = _GUARD + offset, _GUARD + offset + count
        self.tensor = self._whole[self._start : self._stop].view(shape)
        self.tensor.fill_(torch.nan)

    def check(self, what: str) -> None:
        before, after = self._whole[: self._start], self._whole[self._stop :]
        assert bool((before == _SENTINEL).all()), f"{what}: wrote before its start"
        assert bool((after == _SENTINEL).all()), f"{what}: wrote past its end"


def misaligned(value: Tensor, offset: int = 1) -> Tensor:
    """A copy of `value` whose first element is `offset` elements off a 512-byte boundary."""
    storage = torch.empty(value.numel() + offset, dtype=value.dtype, device=value.device)
    return storage[offset:].view(value.shape).copy_(value)


def problem_of(x: Tensor, g: int, normalize: str, chunk: int) -> cuda.Problem:
    return cuda.Problem(*x.shape, g, chunk, DTYPE_CODES[x.dtype], NORMALIZE_CODES[normalize])


def line_scan(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    direction: str,
    normalize: str = "sigmoid",
    chunk: int = 0,
    offset: int = 0,
) -> Tensor:
    """h (N, C, H, W) by gspn2_line_scan, into a guarded output `offset` elements off alignment."""
    library = cuda.load_library()
    problem = problem_of(x, w.shape[2], normalize, chunk)
    code = DIRECTIONS.index(Direction(direction))
    size = ctypes.c_size_t()
    assert library.gspn2_line_scan_workspace(problem, code, size) == 0, last_error(library)
    out = GuardedBuffer(tuple(x.shape), x.dtype, offset)
    workspace = GuardedBuffer((-(-size.value // 4),), torch.float32)
    status = library.gspn2_line_scan(
        problem,
        code,
        *(value.data_ptr() for value in (x, lam, w, out.tensor)),
        workspace.tensor.data_ptr() if size.value else None,
        size.value,
        torch.cuda.current_stream().cuda_stream,
    )
    assert status == 0, last_error(library)
    out.check("h")
    workspace.check("workspace")
    return out.tensor


def prop2d(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    d: Tensor | None = None,
    m: Tensor | None = None,
    normalize: str = "sigmoid",
    chunk: int = 0,
    offset: int = 0,
) -> Tensor:
    """y (N, C, H, W) by gspn2_prop2d, into a guarded output `offset` elements off alignment."""
    library = cuda.load_library()
    problem = problem_of(x, w.shape[3], normalize, chunk)
    size = ctypes.c_size_t()
    status = library.gspn2_prop2d_workspace(problem, int(d is not None), size)
    assert status == 0, last_error(library)
    out = GuardedBuffer(tuple(x.shape), x.dtype, offset)
    workspace = GuardedBuffer((-(-size.value // 4),), torch.float32)
    status = library.gspn2_prop2d(
        problem,
        *(None if value is None else value.data_ptr() for value in (x, lam, w, u, d, m)),
        out.tensor.data_ptr(),
        workspace.tensor.data_ptr() if size.value else None,
        size.value,
        torch.cuda.current_stream().cuda_stream,
    )
    assert status == 0, last_error(library)
    out.check("y")
    workspace.check("workspace")
    return out.tensor


def last_error(library: ctypes.CDLL) -> str:
    return str(library.gspn2_last_error().decode())


def affinity(shape: tuple[int, ...], axis: int, dtype: torch.dtype, normalize: str) -> Tensor:
    """Random affinities; for "none" they keep the scan's magnitude: sum |w| = 1 over `axis`."""
    raw = torch.randn(shape, device="cuda")
    if normalize == Normalize.NONE.value:
        raw /= raw.abs().sum(axis, keepdim=True)
    return raw.to(dtype)


def line_scan_inputs(
    size: tuple[int, int, int, int], per_channel: bool, dtype: torch.dtype, normalize: str
) -> tuple[Tensor, Tensor, Tensor]:
    """x, lam (N, C, H, W) and w (N, 3, G, H, W)."""
    n, c, height, width = size
    x = torch.randn(size, device="cuda").to(dtype)
    lam = torch.rand(size, device="cuda").to(dtype)
    shape = (n, 3, c if per_channel else 1, height, width)
    return x, lam, affinity(shape, 1, dtype, normalize)


def prop2d_inputs(
    size: tuple[int, int, int, int],
    per_channel: bool,
    dtype: torch.dtype,
    normalize: str,
    options: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """x (N, C, H, W), lam, u, d (N, 4, C, H, W), w (N, 4, 3, G, H, W), m (4,)."""
    n, c, height, width = size
    x = torch.randn(size, device="cuda").to(dtype)
    lam = torch.rand((n, 4, c, height, width), device="cuda").to(dtype)
    u = torch.randn((n, 4, c, height, width), device="cuda").to(dtype)
    w = affinity((n, 4, 3, c if per_channel else 1, height, width), 2, dtype, normalize)
    if not options:
        return x, lam, w, u, None, None
    return x, lam, w, u, torch.randn_like(u), torch.randn(4, device="cuda").to(dtype)
