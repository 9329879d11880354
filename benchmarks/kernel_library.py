"""Calls of the kernel library and of the baseline library on preallocated buffers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gspn2_deploy.ops import cuda
from gspn2_deploy.spec import Normalize

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_NORMALIZE = {Normalize.NONE: 0, Normalize.SIGMOID: 1, Normalize.SOFTMAX: 2}
Size = tuple[int, int, int, int]
Call = Callable[[], None]


@dataclass(frozen=True)
class LibraryCall:
    """A call of the kernel library on buffers of its own.

    Args:
        launch: Launches it.
        output: What it writes.
    """

    launch: Call
    output: Tensor

    def __call__(self) -> None:
        """Launch it."""
        self.launch()


def _stream() -> int:
    return int(torch.cuda.current_stream().cuda_stream)


def _random(shape: tuple[int, ...], dtype: torch.dtype, offset: int = 0) -> Tensor:
    """Normal values; `offset` elements off the allocation's alignment."""
    count = torch.Size(shape).numel()
    whole = torch.empty(count + offset, dtype=dtype, device="cuda").normal_()
    return whole[offset:].view(shape)


def _check(library: ctypes.CDLL, status: int) -> None:
    if status != 0:
        raise RuntimeError(library.gspn2_last_error().decode())


def line_scan_bytes(size: Size, g: int, dtype: torch.dtype) -> int:
    """The fewest bytes: x, lam and the three weights read once, h written once."""
    n, c, h, w = size
    return (3 * n * c + 3 * n * g) * h * w * dtype.itemsize


def prop2d_bytes(size: Size, g: int, dtype: torch.dtype) -> int:
    """The fewest bytes: x, lam, u and the weights read once, y written once."""
    n, c, h, w = size
    return (10 * n * c + 12 * n * g) * h * w * dtype.itemsize


def line_scan_call(
    size: Size,
    g: int,
    dtype: torch.dtype,
    direction: int,
    normalize: Normalize,
    chunk: int = 0,
    offset: int = 0,
) -> LibraryCall:
    """A call of gspn2_line_scan on buffers of its own, filled with fresh random data.

    With an `offset` the pointers are that many elements off their alignment, which only the generic
    kernels take.
    """
    n, _, h, w = size
    library = cuda.load_library()
    problem = cuda.Problem(*size, g, chunk, _CODES[dtype], _NORMALIZE[normalize])
    x, lam, out = (_random(size, dtype, offset) for _ in range(3))
    affinity = _random((n, 3, g, h, w), dtype, offset)
    if normalize is Normalize.NONE:
        affinity.mul_(0.3)
    need = ctypes.c_size_t()
    _check(library, library.gspn2_line_scan_workspace(problem, direction, need))
    workspace = torch.empty(need.value, dtype=torch.uint8, device="cuda")

    def call() -> None:
        pointers = [value.data_ptr() for value in (x, lam, affinity, out, workspace)]
        _check(
            library,
            library.gspn2_line_scan(problem, direction, *pointers, need.value, _stream()),
        )

    return LibraryCall(call, out)


def prop2d_call(
    size: Size,
    g: int,
    dtype: torch.dtype,
    normalize: Normalize,
    chunk: int = 0,
    offset: int = 0,
) -> LibraryCall:
    """A call of gspn2_prop2d without skip and merge weights, on buffers of its own."""
    n, c, h, w = size
    library = cuda.load_library()
    problem = cuda.Problem(*size, g, chunk, _CODES[dtype], _NORMALIZE[normalize])
    x, y = (_random(size, dtype, offset) for _ in range(2))
    lam, u = (_random((n, 4, c, h, w), dtype, offset) for _ in range(2))
    affinity = _random((n, 4, 3, g, h, w), dtype, offset)
    need = ctypes.c_size_t()
    _check(library, library.gspn2_prop2d_workspace(problem, None, 0, need))
    workspace = torch.empty(need.value, dtype=torch.uint8, device="cuda")

    def call() -> None:
        inputs = [value.data_ptr() for value in (x, lam, affinity, u)]
        outputs = [y.data_ptr(), workspace.data_ptr()]
        _check(
            library,
            library.gspn2_prop2d(
                problem, None, *inputs, None, None, *outputs, need.value, _stream()
            ),
        )

    return LibraryCall(call, y)


class Baseline:
    """``libgspn2_baseline.so``: a scan of one launch per step, and two latency floors."""

    def __init__(self) -> None:
        path = cuda.library_path().parent / "baseline" / "libgspn2_baseline.so"
        self._library = ctypes.CDLL(str(Path(path)))
        pointer, int64 = ctypes.c_void_p, ctypes.c_int64
        integers = [int64] * 4 + [ctypes.c_int] * 2
        self._library.gspn2_baseline_per_step.argtypes = [*integers, *[pointer] * 5]
        self._library.gspn2_baseline_empty.argtypes = [pointer]
        self._library.gspn2_baseline_chain.argtypes = [pointer, ctypes.c_int, ctypes.c_int, pointer]

    def per_step_call(self, size: Size, dtype: torch.dtype, horizontal: bool) -> Call:
        """One direction with per-channel weights, one launch per step."""
        n, c, h, w = size
        x, lam, out = (_random(size, dtype) for _ in range(3))
        affinity = _random((n, 3, c, h, w), dtype).mul_(0.3)

        def call() -> None:
            status = self._library.gspn2_baseline_per_step(
                *size,
                int(horizontal),
                int(dtype == torch.float16),
                *(value.data_ptr() for value in (x, lam, affinity, out)),
                _stream(),
            )
            if status != 0:
                raise RuntimeError(f"CUDA error {status}")

        return call

    def empty_call(self) -> Call:
        """An empty kernel."""
        return lambda: self._library.gspn2_baseline_empty(_stream())

    def chain_call(self, line: int, steps: int) -> Call:
        """The bare recurrence on one line in shared memory, without loads."""
        out = torch.empty(line, device="cuda")
        return lambda: self._library.gspn2_baseline_chain(out.data_ptr(), line, steps, _stream())
