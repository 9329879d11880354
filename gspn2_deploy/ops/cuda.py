"""The CUDA implementation: both operators through ``libgspn2_kernels.so`` and its C ABI.

The library knows nothing of PyTorch; this module hands it raw pointers and PyTorch's current
stream. Calls allocate through PyTorch only and never synchronise, so they can be captured in a
CUDA graph.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

import torch
from torch import Tensor

import gspn2_deploy
from gspn2_deploy.errors import KernelLibraryError, ShapeError
from gspn2_deploy.spec import DIRECTIONS, Direction, Normalize

LIBRARY_VARIABLE = "GSPN2_KERNELS_LIBRARY"
ABI_VERSION = 5

_LIBRARY_NAME = "libgspn2_kernels.so"
_BUILD_HINT = (
    "pip install a checkout on a machine with nvcc, or: "
    "cmake -S plugins -B build && cmake --build build && "
    f"export {LIBRARY_VARIABLE}=$PWD/build/libgspn2_kernels.so"
)
_SUCCESS = 0
_DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_NORMALIZE = {Normalize.NONE: 0, Normalize.SIGMOID: 1, Normalize.SOFTMAX: 2}


class Problem(ctypes.Structure):
    """``gspn2_problem_t``."""

    _fields_ = (
        ("n", ctypes.c_int64),
        ("c", ctypes.c_int64),
        ("h", ctypes.c_int64),
        ("w", ctypes.c_int64),
        ("g", ctypes.c_int64),
        ("chunk", ctypes.c_int64),
        ("dtype", ctypes.c_int),
        ("normalize", ctypes.c_int),
    )


class Strides(ctypes.Structure):
    """``gspn2_strides_t``."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("x", "gates", "w", "position"))


def library_path() -> Path:
    """Where the kernel library is: the environment variable's path, or the installed package's.

    Raises:
        KernelLibraryError: There is no such file.
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    # An editable installation spreads the package: the sources here, what was compiled there.
    folders = [Path(folder) / "lib" for folder in gspn2_deploy.__path__]
    places = [Path(named)] if named else [folder / _LIBRARY_NAME for folder in folders]
    for path in places:
        if path.is_file():
            return path
    raise KernelLibraryError(
        "the CUDA kernel library is missing",
        got=f"no file at {' or '.join(map(str, places))}"
        + (f" ({LIBRARY_VARIABLE})" if named else ""),
        expected=_LIBRARY_NAME,
        hint=_BUILD_HINT,
    )


@functools.cache
def load_library() -> ctypes.CDLL:
    """Load the kernel library and declare its functions. Needs no GPU.

    Raises:
        KernelLibraryError: The library is missing, does not load, or has another ABI version.
    """
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
        version = int(library.gspn2_kernels_abi_version())
    except (OSError, AttributeError) as error:
        raise KernelLibraryError(
            f"{path} does not load as the CUDA kernel library", got=error, hint=_BUILD_HINT
        ) from error
    if version != ABI_VERSION:
        raise KernelLibraryError(
            f"{path} has another ABI version than this package",
            got=version,
            expected=ABI_VERSION,
            hint=_BUILD_HINT,
        )
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    problem, size_out = ctypes.POINTER(Problem), ctypes.POINTER(ctypes.c_size_t)
    library.gspn2_last_error.restype = ctypes.c_char_p
    library.gspn2_line_scan_workspace.argtypes = [problem, ctypes.c_int, size_out]
    library.gspn2_line_scan.argtypes = [problem, ctypes.c_int, *[pointer] * 5, size, pointer]
    strides = ctypes.POINTER(Strides)
    library.gspn2_prop2d_workspace.argtypes = [problem, strides, ctypes.c_int, size_out]
    library.gspn2_prop2d.argtypes = [problem, strides, *[pointer] * 8, size, pointer]
    return library


def line_scan(
    x: Tensor, lam: Tensor, w: Tensor, direction: Direction, normalize: Normalize, chunk: int
) -> Tensor:
    """Scan one direction on the GPU, on PyTorch's current stream.

    Args:
        x: Features, (N, C, H, W), float32, float16 or bfloat16, CUDA; made contiguous if it
            is not, as every argument.
        lam: Input gate, (N, C, H, W).
        w: Affinities, (N, 3, G, H, W), G = 1 or C.
        direction: The scan direction.
        normalize: How affinities become weights.
        chunk: Steps per segment, 0 for the whole line.

    Returns:
        The states h, (N, C, H, W), contiguous.

    Raises:
        ShapeError: The dtype is not one of the kernels'.
        KernelLibraryError: The library is missing or refused the call.
    """
    library = load_library()
    x, lam, w = x.contiguous(), lam.contiguous(), w.contiguous()
    h = torch.empty_like(x, memory_format=torch.contiguous_format)
    if h.numel() == 0:
        return h
    problem = _problem("line_scan", x, w.shape[2], normalize, chunk)
    code = DIRECTIONS.index(direction)
    with torch.cuda.device(x.device):
        required = ctypes.c_size_t()
        _check(library, library.gspn2_line_scan_workspace(problem, code, required))
        workspace = _workspace(required.value, x.device)
        _check(
            library,
            library.gspn2_line_scan(
                problem,
                code,
                *_pointers(x, lam, w, h, workspace),
                required.value,
                torch.cuda.current_stream().cuda_stream,
            ),
        )
    return h


def prop2d(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    d: Tensor | None,
    m: Tensor | None,
    normalize: Normalize,
    chunk: int,
) -> Tensor:
    """Scan all four directions and merge them, on PyTorch's current stream.

    Args:
        x: Features, (N, C, H, W), float32, float16 or bfloat16, CUDA; made contiguous if it
            is not, as every argument. Features, gates and affinities may be parts of one tensor
            (N, P, H, W), side by side on its axis 1: such parts are read where they are.
        lam: Input gates, (N, 4, C, H, W).
        w: Affinities, (N, 4, 3, G, H, W), G = 1 or C.
        u: Output gates, (N, 4, C, H, W).
        d: Skip gates, (N, 4, C, H, W), or None.
        m: Merge weights, (4,), or None for 1.
        normalize: How affinities become weights.
        chunk: Steps per segment, 0 for the whole line.

    Returns:
        y, (N, C, H, W), contiguous.

    Raises:
        ShapeError: The dtype is not one of the kernels'.
        KernelLibraryError: The library is missing or refused the call.
    """
    library = load_library()
    m = None if m is None else m.contiguous()
    (x,), between_features = _items(x)
    gates, between_gates = _items(lam, u) if d is None else _items(lam, u, d)
    (w,), between_affinities = _items(w)
    lam, u, *skip = gates
    d = skip[0] if skip else None
    strides = Strides(between_features, between_gates, between_affinities)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    if y.numel() == 0:
        return y
    problem = _problem("prop2d", x, w.shape[3], normalize, chunk)
    with torch.cuda.device(x.device):
        required = ctypes.c_size_t()
        _check(
            library,
            library.gspn2_prop2d_workspace(problem, strides, int(d is not None), required),
        )
        workspace = _workspace(required.value, x.device)
        _check(
            library,
            library.gspn2_prop2d(
                problem,
                strides,
                *_pointers(x, lam, w, u, d, m, y, workspace),
                required.value,
                torch.cuda.current_stream().cuda_stream,
            ),
        )
    return y


def _items(*tensors: Tensor) -> tuple[list[Tensor], int]:
    """Tensors of one shape with dense batch items, and the elements from one item to the next.

    They are as they were where their items are dense and equally far apart; otherwise those that
    are not contiguous are copied.
    """
    first = tensors[0]
    between = first.stride(0)
    plane = first.shape[-2] * first.shape[-1]
    apart = plane > 0 and between % plane == 0 and between >= first[:1].numel()
    if apart and all(value.stride(0) == between and value[:1].is_contiguous() for value in tensors):
        return list(tensors), between
    return [value.contiguous() for value in tensors], 0


def _problem(op: str, x: Tensor, g: int, normalize: Normalize, chunk: int) -> Problem:
    if x.dtype not in _DTYPES:
        raise ShapeError(
            f"{op}: the CUDA kernels have no {x.dtype}",
            got=x.dtype,
            expected=", ".join(str(dtype) for dtype in _DTYPES),
            hint="cast the inputs, or run float64 on the CPU",
        )
    return Problem(*x.shape, g, chunk, _DTYPES[x.dtype], _NORMALIZE[normalize])


def _workspace(size: int, device: torch.device) -> Tensor | None:
    return torch.empty(size, dtype=torch.uint8, device=device) if size else None


def _pointers(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def _check(library: ctypes.CDLL, status: int) -> None:
    if status != _SUCCESS:
        raise KernelLibraryError(
            "the CUDA kernel library refused a call",
            got=library.gspn2_last_error().decode(errors="replace"),
        )
