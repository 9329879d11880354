"""Calls of the C ABI that watch over memory, and the random inputs they are fed.

Every output is filled with NaN before the call and stands between two guard bands that must come
back untouched; a workspace likewise. The calls follow their tensors: CUDA ones go to the package's
kernel library; CPU ones need a library that takes host pointers, that of ``tests/emulation``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

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
_VECTOR = 8  # channels of NHWC8


class GuardedBuffer:
    """A tensor full of NaN between two guard bands, `offset` elements off its alignment."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        offset: int = 0,
        device: torch.device | str = "cuda",
    ) -> None:
        count = torch.Size(shape).numel()
        whole = torch.full((count + 3 * _GUARD,), _SENTINEL, dtype=dtype, device=device)
        skipped = -whole.data_ptr() % (_GUARD * dtype.itemsize) // dtype.itemsize
        self._whole = whole[skipped : skipped + count + 2 * _GUARD]
        self._start, self._stop = _GUARD + offset, _GUARD + offset + count
        self.tensor = self._whole[self._start : self._stop].view(shape)
        self.tensor.fill_(torch.nan)

    def check(self, what: str) -> None:
        before, after = self._whole[: self._start], self._whole[self._stop :]
        assert bool((before == _SENTINEL).all()), f"{what}: wrote before its start"
        assert bool((after == _SENTINEL).all()), f"{what}: wrote past its end"


def misaligned(value: Tensor, offset: int = 1) -> Tensor:
    """A copy of `value` whose first element is `offset` elements off a 16-byte boundary, or more.

    An allocation starts at a multiple of 512 bytes on CUDA and of 64 on the CPU.
    """
    storage = torch.empty(value.numel() + offset, dtype=value.dtype, device=value.device)
    return storage[offset:].view(value.shape).copy_(value)


def packed(
    x: Tensor,
    lam: Tensor,
    w: Tensor,
    u: Tensor,
    d: Tensor | None = None,
    m: Tensor | None = None,
    move: Callable[[Tensor], Tensor] = lambda prediction: prediction,
    with_x: bool = False,
    between: int = 1,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """The same inputs, those with directions as views of one tensor (N, P, H, W) with NaN between.

    `move` has the last word on where that tensor lies, `with_x` says whether x is a view of it too,
    `between` how many channels of NaN there are ahead of each.
    """
    n, _, height, width = x.shape
    given = {"lam": lam, "u": u, "d": d, "w": w, "x": x if with_x else None}
    pieces = {name: piece for name, piece in given.items() if piece is not None}
    sections = [piece.shape[1:-2].numel() for piece in pieces.values()]
    gap = x.new_full((n, between, height, width), torch.nan)
    parts = [p for piece in pieces.values() for p in (gap, piece.reshape(n, -1, height, width))]
    whole = move(torch.cat([*parts, gap], 1))
    sizes = [size for section in sections for size in (between, section)]
    views = whole.split([*sizes, between], 1)[1::2]
    found = {
        name: view.unflatten(1, piece.shape[1:-2])
        for (name, piece), view in zip(pieces.items(), views, strict=True)
    }
    return found.get("x", x), found["lam"], found["w"], found["u"], found.get("d"), m


def in_rows(whole: Tensor, move: Callable[[Tensor], Tensor] = lambda rows: rows) -> Tensor:
    """The same (N, C, H, W) in NHWC8, NaN behind the last channel; `move` as above."""
    n, c, height, width = whole.shape
    rows = whole.new_full((n, height, width, -(-c // _VECTOR) * _VECTOR), torch.nan)
    rows[..., :c] = whole.movedim(1, -1)
    return move(rows).movedim(-1, 1)[:, :c]


def stream_of(x: Tensor) -> int | None:
    return torch.cuda.current_stream(x.device).cuda_stream if x.is_cuda else None


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
    library: ctypes.CDLL | None = None,
) -> Tensor:
    """h (N, C, H, W) by gspn2_line_scan, into a guarded output `offset` elements off alignment."""
    library = library or cuda.load_library()
    problem = problem_of(x, w.shape[2], normalize, chunk)
    code = DIRECTIONS.index(Direction(direction))
    size = ctypes.c_size_t()
    assert library.gspn2_line_scan_workspace(problem, code, size) == 0, last_error(library)
    out = GuardedBuffer(tuple(x.shape), x.dtype, offset, x.device)
    workspace = GuardedBuffer((-(-size.value // 4),), torch.float32, device=x.device)
    status = library.gspn2_line_scan(
        problem,
        code,
        *(value.data_ptr() for value in (x, lam, w, out.tensor)),
        workspace.tensor.data_ptr() if size.value else None,
        size.value,
        stream_of(x),
    )
    assert status == 0, last_error(library)
    out.check("h")
    workspace.check("workspace")
    return out.tensor


def strides_of(x: Tensor, lam: Tensor, w: Tensor) -> cuda.Strides:
    """How tensors lie that are not all dense: what `packed` gives, or `in_rows` with x as well."""
    position = lam.stride(-1)
    items = [value.stride(0) for value in (x, lam, w)]
    if position > 1 and len(x) == 1:  # a view of one item may have any stride
        items = [0, 0, 0]
    return cuda.Strides(*items, position)


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
    library: ctypes.CDLL | None = None,
) -> Tensor:
    """y (N, C, H, W) by gspn2_prop2d, into a guarded output `offset` elements off alignment.

    What `packed` gives is passed as it lies, what `in_rows` has moved with x among it.
    """
    library = library or cuda.load_library()
    problem = problem_of(x, w.shape[3], normalize, chunk)
    dense = all(value is None or value.is_contiguous() for value in (x, lam, w, u, d))
    strides = None if dense else strides_of(x, lam, w)
    size = ctypes.c_size_t()
    status = library.gspn2_prop2d_workspace(problem, strides, int(d is not None), size)
    assert status == 0, last_error(library)
    out = GuardedBuffer(tuple(x.shape), x.dtype, offset, x.device)
    workspace = GuardedBuffer((-(-size.value // 4),), torch.float32, device=x.device)
    status = library.gspn2_prop2d(
        problem,
        strides,
        *(None if value is None else value.data_ptr() for value in (x, lam, w, u, d, m)),
        out.tensor.data_ptr(),
        workspace.tensor.data_ptr() if size.value else None,
        size.value,
        stream_of(x),
    )
    assert status == 0, last_error(library)
    out.check("y")
    workspace.check("workspace")
    return out.tensor


class Norm(ctypes.Structure):
    """gspn2_norm_t."""

    _fields_ = (
        *((extent, ctypes.c_int64) for extent in "nchw"),
        ("dtype", ctypes.c_int),
        ("layout", ctypes.c_int),
        ("epsilon", ctypes.c_float),
        ("response_epsilon", ctypes.c_float),
    )


class Projection(ctypes.Structure):
    """gspn2_projection_t."""

    _fields_ = (
        ("c", ctypes.c_int64),
        *((tensor, ctypes.c_void_p) for tensor in ("proxy", "weight", "bias")),
    )


NCHW, NHWC8 = range(2)  # gspn2_layout_t
# In which layouts gspn2_channel_norm takes which types.
NORM_LAYOUTS = (
    *((NCHW, dtype) for dtype in DTYPES),
    *((NHWC8, dtype) for dtype in DTYPES if dtype != torch.float32),
)


def channel_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    response_scale: Tensor | None = None,
    response_shift: Tensor | None = None,
    *,
    projection: tuple[Tensor, Tensor, Tensor] | None = None,
    layout: int = NCHW,
    epsilon: float = 1e-6,
    response_epsilon: float = 1e-6,
    offset: int = 0,
    library: ctypes.CDLL | None = None,
    check: bool = True,
) -> Tensor:
    """y (N, C, H, W) by gspn2_channel_norm, into a guarded output `offset` elements off alignment.

    `projection`: proxy, weight and bias. For NHWC8 x is laid out anew, with NaN behind the last
    channel, and y laid out back.
    """
    library = library or cuda.load_library()
    n, c, height, width = x.shape
    norm = Norm(*x.shape, DTYPE_CODES[x.dtype], layout, epsilon, response_epsilon)
    source, shape = x, tuple(x.shape)
    if layout == NHWC8:
        shape = (n, height, width, -(-c // _VECTOR) * _VECTOR)
        source = in_rows(x)
    size = ctypes.c_size_t()
    response = int(response_scale is not None)
    status = library.gspn2_channel_norm_workspace(ctypes.byref(norm), response, ctypes.byref(size))
    assert status == 0, last_error(library)
    assert size.value % 4 == 0
    out = GuardedBuffer(shape, x.dtype, offset, x.device)
    workspace = GuardedBuffer((size.value // 4,), torch.float32, device=x.device)
    tensors = (scale, shift, response_scale, response_shift, out.tensor)
    projected = None
    if projection is not None:
        addresses = (value.data_ptr() for value in projection)
        projected = ctypes.byref(Projection(projection[0].shape[1], *addresses))
    status = library.gspn2_channel_norm(
        ctypes.byref(norm),
        ctypes.c_void_p(source.data_ptr()),
        projected,
        *(ctypes.c_void_p(None if value is None else value.data_ptr()) for value in tensors),
        ctypes.c_void_p(workspace.tensor.data_ptr() if size.value else None),
        size,
        ctypes.c_void_p(stream_of(x)),
    )
    assert status == 0, last_error(library)
    if check:
        out.check("y")
        workspace.check("workspace")
    if layout == NCHW:
        return out.tensor
    assert not check or not out.tensor[..., c:].any(), "behind the last channel is not 0"
    return out.tensor[..., :c].movedim(-1, 1)


def channel_norm_inputs(
    size: tuple[int, int, int, int], dtype: torch.dtype, response: bool, device: str = "cuda"
) -> tuple[Tensor, ...]:
    """x (N, C, H, W) far from centred, scale, shift (C,), and the response's where asked for.

    The channels of a position are never almost equal, as a few random ones are among many
    thousands: their mean, rounded to float32, would then be all that differs from float64.
    """
    spread = torch.linspace(-2, 2, size[1], device=device).view(-1, 1, 1)
    x = (3 + spread + 0.5 * torch.randn(size, device=device).clamp(-1, 1)).to(dtype)
    return x, *(torch.randn(size[1], device=device).to(dtype) for _ in range(4 if response else 2))


def projection_inputs(x: Tensor, proxies: int) -> tuple[Tensor, Tensor, Tensor]:
    """proxy (N, P, H, W), weight (P, C), bias (C,) of a projection onto x (N, C, H, W).

    Small enough to leave the channels of channel_norm_inputs apart.
    """
    n, c, *size = x.shape

    def draw(bound: float, *shape: int) -> Tensor:
        return (bound * torch.randn(shape, device=x.device).clamp(-1, 1)).to(x.dtype)

    return draw(1.0, n, proxies, *size), draw(0.2, proxies, c), draw(0.2, c)


class Depthwise(ctypes.Structure):
    """gspn2_depthwise_t."""

    _fields_ = (
        *((extent, ctypes.c_int64) for extent in "nchw"),
        ("dtype", ctypes.c_int),
        ("kernel", ctypes.c_int32),
        ("activation", ctypes.c_int),
        ("residual", ctypes.c_int32),
    )


def depthwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    silu: bool = False,
    residual: bool = False,
    offset: int = 0,
    library: ctypes.CDLL | None = None,
) -> Tensor:
    """y (N, C, H, W) by gspn2_depthwise; x is laid out anew, and y back."""
    library = library or cuda.load_library()
    conv = Depthwise(*x.shape, DTYPE_CODES[x.dtype], weight.shape[-1], int(silu), int(residual))
    source = x.movedim(1, -1).contiguous()
    out = GuardedBuffer(tuple(source.shape), x.dtype, offset, x.device)
    tensors = (source, weight, bias, out.tensor)
    status = library.gspn2_depthwise(
        ctypes.byref(conv),
        *(ctypes.c_void_p(None if value is None else value.data_ptr()) for value in tensors),
        ctypes.c_void_p(stream_of(x)),
    )
    assert status == 0, last_error(library)
    out.check("y")
    return out.tensor.movedim(-1, 1)


def depthwise_inputs(
    size: tuple[int, int, int, int], kernel: int, dtype: torch.dtype, device: str = "cuda"
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, C, H, W), weight (C, 1, K, K), bias (C,)."""
    c = size[1]
    x = torch.randn(size, device=device).to(dtype)
    weight = (torch.randn((c, 1, kernel, kernel), device=device) / kernel).to(dtype)
    return x, weight, torch.randn(c, device=device).to(dtype)


def depthwise_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    *,
    silu: bool = False,
    residual: bool = False,
    epsilon: float = 1e-6,
    offset: int = 0,
    library: ctypes.CDLL | None = None,
) -> tuple[Tensor, Tensor]:
    """y and z (N, C, H, W) by gspn2_depthwise_norm; x is laid out anew, and they back."""
    library = library or cuda.load_library()
    conv = Depthwise(*x.shape, DTYPE_CODES[x.dtype], weight.shape[-1], int(silu), int(residual))
    source = x.movedim(1, -1).contiguous()
    outs = [GuardedBuffer(tuple(source.shape), x.dtype, offset, x.device) for _ in range(2)]
    tensors = (source, weight, bias, scale, shift, *(out.tensor for out in outs))
    status = library.gspn2_depthwise_norm(
        ctypes.byref(conv),
        ctypes.c_float(epsilon),
        *(ctypes.c_void_p(None if value is None else value.data_ptr()) for value in tensors),
        ctypes.c_void_p(stream_of(x)),
    )
    assert status == 0, last_error(library)
    for name, out in zip("yz", outs, strict=True):
        out.check(name)
    y, z = (out.tensor.movedim(-1, 1) for out in outs)
    return y, z


def depthwise_norm_inputs(
    size: tuple[int, int, int, int], dtype: torch.dtype, device: str = "cuda"
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x (N, C, H, W), weight (C, 1, 3, 3), bias, scale and shift (C,).

    The bias keeps the channels of the convolution apart, as channel_norm_inputs those of x.
    """
    x, weight, _ = depthwise_inputs(size, 3, dtype, device)
    _, scale, shift = channel_norm_inputs(size, dtype, False, device)
    bias = torch.linspace(1, 5, size[1], device=device).to(dtype)
    return x, (weight / 3).to(dtype), bias, scale, shift


def powerless(extent: tuple[int, int], direction: str, chunk: int, device: str = "cuda") -> Tensor:
    """Where affinities have no influence: (3, 1, H, W), booleans."""
    height, width = extent
    mask = torch.zeros(3, 1, height, width, dtype=torch.bool, device=device)
    horizontal = direction in ("left_to_right", "right_to_left")
    line = -2 if horizontal else -1
    mask[0].select(line, 0).fill_(True)
    mask[2].select(line, -1).fill_(True)
    steps = width if horizontal else height
    for step in range(0, steps, chunk or steps):
        at = steps - 1 - step if direction in ("right_to_left", "bottom_to_top") else step
        mask.select(-1 if horizontal else -2, at).fill_(True)
    return mask


def assert_same_nonfinite(out: Tensor, expected: Tensor, what: str) -> None:
    assert expected.isnan().any() or expected.isinf().any(), f"{what}: nothing was planted"
    assert torch.equal(out.isnan(), expected.isnan()), f"{what}: NaN in other places"
    assert torch.equal(out.isposinf(), expected.isposinf()), f"{what}: +Inf in other places"
    assert torch.equal(out.isneginf(), expected.isneginf()), f"{what}: -Inf in other places"


def last_error(library: ctypes.CDLL) -> str:
    return str(library.gspn2_last_error().decode())


def affinity(
    shape: tuple[int, ...],
    axis: int,
    dtype: torch.dtype,
    normalize: str,
    device: str = "cuda",
) -> Tensor:
    """Random affinities; for "none" they keep the scan's magnitude: sum |w| = 1 over `axis`."""
    raw = torch.randn(shape, device=device)
    if normalize == Normalize.NONE.value:
        raw /= raw.abs().sum(axis, keepdim=True)
    return raw.to(dtype)


def line_scan_inputs(
    size: tuple[int, int, int, int],
    per_channel: bool,
    dtype: torch.dtype,
    normalize: str,
    device: str = "cuda",
) -> tuple[Tensor, Tensor, Tensor]:
    """x, lam (N, C, H, W) and w (N, 3, G, H, W)."""
    n, c, height, width = size
    x = torch.randn(size, device=device).to(dtype)
    lam = torch.rand(size, device=device).to(dtype)
    shape = (n, 3, c if per_channel else 1, height, width)
    return x, lam, affinity(shape, 1, dtype, normalize, device)


def prop2d_inputs(
    size: tuple[int, int, int, int],
    per_channel: bool,
    dtype: torch.dtype,
    normalize: str,
    options: bool,
    device: str = "cuda",
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """x (N, C, H, W), lam, u, d (N, 4, C, H, W), w (N, 4, 3, G, H, W), m (4,)."""
    n, c, height, width = size
    x = torch.randn(size, device=device).to(dtype)
    lam = torch.rand((n, 4, c, height, width), device=device).to(dtype)
    u = torch.randn((n, 4, c, height, width), device=device).to(dtype)
    w = affinity((n, 4, 3, c if per_channel else 1, height, width), 2, dtype, normalize, device)
    if not options:
        return x, lam, w, u, None, None
    return x, lam, w, u, torch.randn_like(u), torch.randn(4, device=device).to(dtype)
