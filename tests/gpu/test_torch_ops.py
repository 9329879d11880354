"""The torch operators on CUDA tensors: values, gradients, graphs, streams, compilation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import scan_reference
import torch
from kernel_calls import DIRECTION_NAMES, DTYPES, line_scan_inputs, packed, prop2d_inputs
from tolerances import FORWARD, GRADIENT, assert_close
from torch import Tensor

from gspn2_deploy import ops
from gspn2_deploy.errors import ShapeError

pytestmark = pytest.mark.gpu

Inputs = tuple[Tensor | None, ...]


def gradients(function: Callable[..., Tensor], inputs: Inputs, upstream: Tensor) -> list[Tensor]:
    leaves = [None if v is None else v.detach().clone().requires_grad_() for v in inputs]
    out = function(*leaves)
    return list(
        torch.autograd.grad(out, [v for v in leaves if v is not None], upstream.to(out.dtype))
    )


def check_gradients(
    op: Callable[..., Tensor], reference: Callable[..., Tensor], inputs: Inputs
) -> None:
    dtype = inputs[0].dtype
    upstream = torch.randn_like(inputs[0])
    wide = tuple(None if value is None else value.double() for value in inputs)
    expected = gradients(reference, wide, upstream.double())
    got = gradients(op, inputs, upstream)
    assert len(got) == len(expected) > 0
    for i, (out, ref) in enumerate(zip(got, expected, strict=True)):
        assert_close(out, ref, GRADIENT[dtype], f"gradient of input {i}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", DIRECTION_NAMES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
def test_line_scan_gradients(direction: str, dtype: torch.dtype, normalize: str) -> None:
    for chunk, per_channel in ((0, True), (5, False)):
        inputs = line_scan_inputs((2, 3, 12, 19), per_channel, dtype, normalize)
        arguments = {"direction": direction, "normalize": normalize, "chunk": chunk}
        check_gradients(
            lambda *v, kw=arguments: ops.line_scan(*v, **kw),
            lambda *v, kw=arguments: scan_reference.line_scan(*v, **kw),
            inputs,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", ["sigmoid", "softmax", "none"])
@pytest.mark.parametrize("options", [False, True])
def test_prop2d_gradients(dtype: torch.dtype, normalize: str, options: bool) -> None:
    for chunk, per_channel in ((0, False), (4, True)):
        inputs = prop2d_inputs((2, 3, 16, 24), per_channel, dtype, normalize, options)
        arguments = {"normalize": normalize, "chunk": chunk}
        check_gradients(
            lambda *v, kw=arguments: ops.prop2d(*v, **kw),
            lambda *v, kw=arguments: scan_reference.prop2d(*v, **kw),
            inputs,
        )


def test_gradients_of_a_wide_map() -> None:
    inputs = prop2d_inputs((1, 2, 64, 64), False, torch.float32, "sigmoid", True)
    check_gradients(ops.prop2d, scan_reference.prop2d, inputs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_non_contiguous_inputs(dtype: torch.dtype) -> None:
    x, lam, w, u, d, m = prop2d_inputs((2, 4, 24, 32), False, dtype, "sigmoid", True)
    expected = scan_reference.prop2d(x, lam, w, u, d, m)
    strided = x.contiguous(memory_format=torch.channels_last)
    wide = torch.cat([lam, lam], dim=-1)[..., : lam.shape[-1]]
    assert not strided.is_contiguous()
    assert not wide.is_contiguous()
    out = ops.prop2d(strided, wide, w, u, d, m)
    assert out.is_contiguous()
    assert_close(out, expected, FORWARD[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("with_x", [False, True])
def test_one_prediction_is_not_copied(dtype: torch.dtype, options: bool, with_x: bool) -> None:
    inputs = prop2d_inputs((2, 4, 96, 96), False, dtype, "sigmoid", options)
    views = packed(*inputs, with_x=with_x)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = ops.prop2d(*views)
    grown = torch.cuda.max_memory_allocated() - before
    assert_close(out, scan_reference.prop2d(*inputs), FORWARD[dtype])
    # y, room for x, each direction's sums, and weights; copies of the gates would be eight maps.
    maps = 96 * 96 * 2 * 4
    assert grown < maps * (2 * dtype.itemsize + 16) + 2 * 12 * 96 * 96 * 4 + 4096


def test_side_stream() -> None:
    x, lam, w = line_scan_inputs((4, 8, 256, 256), True, torch.float32, "sigmoid")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        x.mul_(2.0)  # late: a launch on another stream would read x before this
        out = ops.line_scan(x, lam, w, "top_to_bottom")
    torch.cuda.current_stream().wait_stream(stream)
    assert_close(out, scan_reference.line_scan(x, lam, w, "top_to_bottom"), FORWARD[torch.float32])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "size", [(1, 32, 64, 64), (2, 3, 33, 65), (1, 2, 256, 1024), (1, 1, 4, 12300)], ids=str
)
def test_cuda_graph(size: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    inputs = prop2d_inputs(size, False, dtype, "sigmoid", True)
    x, lam, w = inputs[0], inputs[1][:, 2].contiguous(), inputs[2][:, 2].contiguous()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = ops.prop2d(*inputs)
        h = ops.line_scan(x, lam, w, "top_to_bottom")
    for _ in range(2):
        for value in (*inputs, lam, w):
            value.copy_(torch.rand_like(value))
        y.fill_(torch.nan)
        h.fill_(torch.nan)
        graph.replay()
        assert_close(y, scan_reference.prop2d(*inputs), FORWARD[dtype])
        assert_close(h, scan_reference.line_scan(x, lam, w, "top_to_bottom"), FORWARD[dtype])


def test_compiled_without_graph_breaks() -> None:
    x, lam, w, u, *_ = prop2d_inputs((1, 2, 24, 32), False, torch.float32, "sigmoid", False)
    compiled = torch.compile(
        lambda *v: torch.relu(ops.prop2d(*v)) + 1.0, fullgraph=True, backend="aot_eager"
    )
    expected = scan_reference.prop2d(x, lam, w, u).relu() + 1.0
    assert_close(compiled(x, lam, w, u), expected, FORWARD[torch.float32])


def test_opcheck() -> None:
    x, lam, w = line_scan_inputs((1, 2, 6, 8), False, torch.float32, "sigmoid")
    leaves = tuple(value.requires_grad_() for value in (x, lam, w))
    torch.library.opcheck(torch.ops.gspn2.line_scan.default, leaves)
    merged = prop2d_inputs((1, 2, 6, 8), False, torch.float32, "sigmoid", True)
    torch.library.opcheck(
        torch.ops.gspn2.prop2d.default, tuple(value.requires_grad_() for value in merged)
    )


def test_float64_is_refused() -> None:
    x, lam, w = line_scan_inputs((1, 1, 2, 2), True, torch.float32, "sigmoid")
    with pytest.raises(ShapeError, match="float64"):
        ops.line_scan(x.double(), lam.double(), w.double())


def test_empty_batch() -> None:
    x = torch.empty(0, 2, 4, 4, device="cuda")
    out = ops.line_scan(x, x, torch.empty(0, 3, 1, 4, 4, device="cuda"))
    assert out.shape == x.shape
