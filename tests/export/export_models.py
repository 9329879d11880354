"""Small modules that propagate, and single-op ONNX models."""

from __future__ import annotations

import onnx
import torch
from gspn2_deploy.export.functions import build_function
from onnx import TensorProto, helper
from torch import nn

from gspn2_deploy import ops
from gspn2_deploy.spec import LINE_SCAN_SHAPES, ONNX_DOMAIN, PROP2D, PROP2D_SHAPES

ONNX_DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


class Propagate(nn.Module):
    """A 1x1 convolution that predicts everything, and one propagation of two channels."""

    default_size = (6, 7)

    def __init__(self, normalize="sigmoid", chunk=0, skip=True, merge=True):
        super().__init__()
        self.predict = nn.Conv2d(3, 2 + 4 * 2 * 3 + 4 * 3, 1)
        self.merge = nn.Parameter(torch.tensor([1.0, -0.5, 2.0, 0.25])) if merge else None
        self.normalize, self.chunk, self.skip = normalize, chunk, skip

    def forward(self, images):
        x, lam, u, d, w = self.predict(images).split([2, 8, 8, 8, 12], dim=1)
        lam, u, d = (value.unflatten(1, (4, 2)) for value in (lam, u, d))
        w = w.unflatten(1, (4, 3, 1))
        d = d if self.skip else None
        return ops.prop2d(x, lam, w, u, d, self.merge, self.normalize, self.chunk)


class Pair(nn.Module):
    """Two propagations one after the other."""

    default_size = (6, 7)

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second
        self.widen = nn.Conv2d(2, 3, 1)

    def forward(self, images):
        return self.second(self.widen(self.first(images)))


class FourScans(nn.Module):
    """One line scan per direction, per-channel weights: the shape of a GSPN-1 layer."""

    default_size = (5, 8)

    def __init__(self):
        super().__init__()
        self.predict = nn.Conv2d(3, 3 + 9, 1)

    def forward(self, images):
        lam, w = self.predict(images).split([3, 9], dim=1)
        w = w.unflatten(1, (3, 3))
        directions = ("left_to_right", "right_to_left", "top_to_bottom", "bottom_to_top")
        return sum(ops.line_scan(images, lam, w, name, "softmax", 3) for name in directions)


class Plain(nn.Module):
    """No propagation at all."""

    default_size = (6, 7)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, images):
        return self.conv(images)


def seeded(module, seed=0):
    """The module in eval mode, its weights and biases drawn from a seed.

    They are small: propagations multiply several of them, and float16 loses what grows.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1 or name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.eval()


def single_op(variant, *, chunk=0, dtype="float32", opset=18):
    """An ONNX model of one op whose every extent is free, with its function body."""
    prop2d = variant.op_type == PROP2D
    *inputs, output = shapes = PROP2D_SHAPES if prop2d else LINE_SCAN_SHAPES
    inputs = [name for name in inputs if name not in ("d", "m") or name in variant.optional]
    attributes = {"normalize": variant.normalize.value, "chunk": chunk}
    if variant.direction is not None:
        attributes["direction"] = variant.direction.value

    def info(name):
        axes = [int(axis) if axis.isdigit() else axis for axis in shapes[name]]
        return helper.make_tensor_value_info(name, ONNX_DTYPES[dtype], axes)

    node = helper.make_node(
        variant.op_type, inputs, [output], name="op", domain=ONNX_DOMAIN, **attributes
    )
    model = helper.make_model(
        helper.make_graph([node], "single", [info(name) for name in inputs], [info(output)]),
        functions=[build_function(variant, variant.op_type, opset)],
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(ONNX_DOMAIN, 1)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return model
