"""Calls behind one another on a stream, each of which reads what the one before has just written.

Kernels may start while the one before them ends (programmatic dependent launch), and must read
nothing before that: not the map, and no weight or parameter either, which here lie in it too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
import torch
from kernel_calls import (
    DTYPE_CODES,
    NHWC8,
    Depthwise,
    Norm,
    Projection,
    last_error,
    problem_of,
    stream_of,
)
from torch import Tensor

from gspn2_deploy.ops import cuda

pytestmark = pytest.mark.gpu

# C and the side of a map: large and small clusters, one and several vectors to a lane; the last of
# these is not on chip, so that its propagation has four directions that run side by side.
SIZES = ((64, 28), (128, 14), (24, 56), (16, 96), (16, 264))
PROXIES = 2
DTYPE = torch.bfloat16  # float16 would not hold products of several results
REPLAYS = 20
SEED = 0
_ALIGNMENT = 256  # of a workspace, in bytes


class Chain:
    """The calls, and a buffer for what each of them writes.

    Args:
        channels: Of the maps, a multiple of 8.
        side: Their height and width.
        device: Where they are.
        library: The kernels.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        device: str = "cuda",
        library: ctypes.CDLL | None = None,
    ) -> None:
        self.library = library or cuda.load_library()
        self.channels, self.side = channels, side
        count = channels * side * side
        self.first = torch.empty(count, dtype=DTYPE, device=device)
        self.results = [torch.empty_like(self.first) for _ in range(8)]
        self.convolved = torch.empty_like(self.first)  # ahead of its norm, in one call
        sizes = [ctypes.c_size_t(), ctypes.c_size_t()]
        norm = ctypes.byref(self._norm())
        self._call("channel_norm_workspace", norm, 1, ctypes.byref(sizes[0]))
        self._call("prop2d_workspace", self._problem(), None, 0, ctypes.byref(sizes[1]))
        largest = max(size.value for size in sizes)
        whole = torch.empty(largest + _ALIGNMENT, dtype=torch.uint8, device=device)
        self.workspace = whole[-whole.data_ptr() % _ALIGNMENT :][:largest]

    def run(self, between: Callable[[], None] = lambda: None) -> None:
        """Make the calls; `between` is called behind each."""
        steps: list[Callable[[Tensor, Tensor], None]] = [
            lambda x, y: self._convolve(x, 7, y),
            lambda x, y: self._normalise(x, y),
            self._convolve_and_normalise,
            lambda x, y: self._convolve(x, 3, y),
            lambda x, y: self._respond(x, x, y),
            self._propagate,  # its results grow: no squares of them behind it
            lambda given, y: self._respond(self.results[4], given, y),
            lambda x, y: self._normalise(x, y),
        ]
        sources = (self.first, *self.results)
        for step, source, target in zip(steps, sources[:-1], self.results, strict=True):
            step(source, target)
            between()

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self.library, f"gspn2_{name}")(*arguments)
        assert status == 0, last_error(self.library)

    def _stream(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(stream_of(self.first))

    def _norm(self) -> Norm:
        size = (1, self.channels, self.side, self.side)
        return Norm(*size, DTYPE_CODES[self.first.dtype], NHWC8, 1e-6, 1e-6)

    def _problem(self) -> cuda.Problem:
        plane = self.side * self.side
        x = self.first[: PROXIES * plane].view(1, PROXIES, self.side, self.side)
        return problem_of(x, 1, "sigmoid", 0)

    def _parameters(self, source: Tensor) -> list[ctypes.c_void_p]:
        """Six tensors (C,), the last of (P, C), in the first 3 C elements of `source`."""
        c = self.channels
        starts = (0, c, 8, c - 8, 16, c)
        return [ctypes.c_void_p(source[start:].data_ptr()) for start in starts]

    def _convolve(self, x: Tensor, kernel: int, y: Tensor) -> None:
        size = (1, self.channels, self.side, self.side)
        conv = Depthwise(*size, DTYPE_CODES[x.dtype], kernel, 0, 0)
        tensors = (x, x[self.channels :], x, y)  # weights and a bias of the map's own
        pointers = [ctypes.c_void_p(value.data_ptr()) for value in tensors]
        self._call("depthwise", ctypes.byref(conv), *pointers, self._stream())

    def _convolve_and_normalise(self, x: Tensor, z: Tensor) -> None:
        size = (1, self.channels, self.side, self.side)
        conv = ctypes.byref(Depthwise(*size, DTYPE_CODES[x.dtype], 3, 0, 1))
        scale, shift, *_ = self._parameters(x)
        tensors = [ctypes.c_void_p(value.data_ptr()) for value in (x, x[self.channels :], x)]
        outputs = [ctypes.c_void_p(value.data_ptr()) for value in (self.convolved, z)]
        given = (conv, ctypes.c_float(1e-6), *tensors, scale, shift, *outputs)
        self._call("depthwise_norm", *given, self._stream())

    def _normalise(self, x: Tensor, y: Tensor) -> None:
        scale, shift, *_ = self._parameters(x)
        tensors = (scale, shift, None, None, ctypes.c_void_p(y.data_ptr()))
        norm, x_at = ctypes.byref(self._norm()), ctypes.c_void_p(x.data_ptr())
        size = ctypes.c_size_t(0)
        self._call("channel_norm", norm, x_at, None, *tensors, None, size, self._stream())

    def _respond(self, x: Tensor, given: Tensor, y: Tensor) -> None:
        *parameters, bias, weight = self._parameters(given)
        projection = Projection(PROXIES, given.data_ptr(), weight.value, bias.value)
        self._call(
            "channel_norm",
            ctypes.byref(self._norm()),
            ctypes.c_void_p(x.data_ptr()),
            ctypes.byref(projection),
            *parameters,
            ctypes.c_void_p(y.data_ptr()),
            ctypes.c_void_p(self.workspace.data_ptr()),
            ctypes.c_size_t(self.workspace.numel()),
            self._stream(),
        )

    def _propagate(self, source: Tensor, y: Tensor) -> None:
        """Of two proxies: x, lam, w and u, which overlap."""
        plane = self.side * self.side
        pointers = [source[i * PROXIES * plane :].data_ptr() for i in range(4)]
        size = self.workspace.numel()
        arguments = (*pointers, None, None, y.data_ptr(), self.workspace.data_ptr(), size)
        self._call("prop2d", self._problem(), None, *arguments, stream_of(source))


@pytest.mark.parametrize(("channels", "side"), SIZES, ids=str)
def test_nothing_is_read_before_it_is_written(channels: int, side: int) -> None:
    torch.manual_seed(SEED)
    chain, serial = (Chain(channels, side) for _ in range(2))
    chain.run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        chain.run()
    for _ in range(REPLAYS):
        serial.first.normal_(std=0.1)
        chain.first.copy_(serial.first)
        for result in (*chain.results, *serial.results):
            result.fill_(torch.nan)
        graph.replay()
        torch.cuda.synchronize()
        serial.run(torch.cuda.synchronize)
        for i, (result, expected) in enumerate(zip(chain.results, serial.results, strict=True)):
            assert expected.nan_to_num(0).any(), f"call {i} gave nothing"
            assert torch.equal(result.nan_to_num(7), expected.nan_to_num(7)), f"call {i}"
