"""A hand-made ONNX file and the torch module that computes the same, for tests of the runners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.torch_runner import TorchRunner, to_array

CLASSES = 5
ONNX_DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


class TwoHeads(nn.Module):
    """images (N, 2, H, W) -> logits and aux, both (N, 5)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(torch.randn(2, CLASSES, generator=generator))
        self.aux = nn.Parameter(torch.randn(2, CLASSES, generator=generator))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = images.mean((2, 3))
        return pooled @ self.logits, pooled @ self.aux


def specs(dtype: str = "float32", batch: int | str = "batch") -> tuple[TensorInfo, ...]:
    return (TensorInfo("images", dtype, (batch, 2, "height", "width")),)


def torch_runner(model: nn.Module | None = None, dtype: str = "float32") -> TorchRunner:
    model = TwoHeads() if model is None else model
    return TorchRunner(model.to(getattr(torch, dtype)), specs(dtype), ("logits", "aux"))


def write_onnx(
    path: Path,
    model: TwoHeads | None = None,
    *,
    dtype: str = "float32",
    outputs: tuple[str, str] = ("logits", "aux"),
    batch: int | str = "batch",
) -> Path:
    """Write the ONNX twin of a TwoHeads model; `outputs` names (images @ logits, images @ aux)."""
    model = (TwoHeads() if model is None else model).to(getattr(torch, dtype))
    kind = ONNX_DTYPES[dtype]
    weights = [
        numpy_helper.from_array(to_array(model.logits.data), "logits_weight"),
        numpy_helper.from_array(to_array(model.aux.data), "aux_weight"),
        numpy_helper.from_array(np.array([2, 3]), "axes"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "logits_weight"], [outputs[0]]),
        helper.make_node("MatMul", ["pooled", "aux_weight"], [outputs[1]]),
    ]
    graph = helper.make_graph(
        nodes,
        "two_heads",
        [helper.make_tensor_value_info("images", kind, [batch, 2, "height", "width"])],
        [helper.make_tensor_value_info(name, kind, [batch, CLASSES]) for name in sorted(outputs)],
        weights,
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(file, full_check=True)
    onnx.save(file, path)
    return path


def images(n: int = 3, size: tuple[int, int] = (4, 6), dtype: str = "float32", seed: int = 0):
    values = np.random.default_rng(seed).standard_normal((n, 2, *size))
    return to_array(torch.from_numpy(values).to(getattr(torch, dtype)))
