"""Write the cases that ``face_proof`` and ``engine_proof`` run and compare on a GPU machine.

PYTHONPATH=tests python tests/trt/prepare_proof.py OUT

``ops_fp32``, ``ops_fp16`` and ``ops_bf16`` hold every form of both ops in one network, every extent
dynamic, against the float64 reference of tests/reference.py; by themselves those whose prediction
holds x take it in every format. ``layers_fp32`` and so on hold the layers beside them, without a
network (proof_layers.py). Needs no GPU and no TensorRT.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (gives NumPy bfloat16)
import numpy as np
import onnx
import reference
from case_writer import PRECISIONS, Array, CaseWriter, text
from onnx import TensorProto, helper
from proof_layers import write_layers

from gspn2_deploy.spec import (
    DEFAULT_NORMALIZE,
    DIRECTIONS,
    LINE_SCAN,
    ONNX_DOMAIN,
    PACKED_CHANNELS,
    PACKED_GROUPS,
    PACKED_OFFSETS,
    PACKED_ORDER,
    PROP2D,
)
from gspn2_deploy.validate.tolerances import OP_TOLERANCES

OPSET = 17
ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}

_FREE = 7  # an extent that no shape fixes
# N, C, H, W; the last does not go on chip.
SIZES = (
    (1, 1, 1, 1), (2, 4, 16, 16), (3, 3, 9, 33), (1, 8, 40, 24), (2, 5, 6, 136), (2, 3, 6, 264),
)  # fmt: skip
PROFILE = ((1, 1, 1, 1), (2, 4, 16, 16), (4, 8, 48, 264))
# Which inputs and attributes each GspnProp2D node has. "wc" has weights per channel.
PROP2D_NODES: tuple[tuple[str, tuple[str, ...], str, int], ...] = (
    ("w", (), "sigmoid", 0),
    ("w", ("d",), "softmax", 0),
    ("w", ("m",), "none", 0),
    ("w", ("d", "m"), "sigmoid", 4),
    ("wc", (), "softmax", 5),
    ("wc", ("d", "m"), "sigmoid", 0),
)


@dataclass(frozen=True)
class PackedNode:
    """A GspnProp2D node that takes its gates and affinities from one prediction, and perhaps x.

    Args:
        x: Its features; None where the prediction holds them, which then has three.
        prediction: The tensor that holds the rest, with a channel between the parts.
        groups: G. Weights per channel fix the number of channels, too.
        parts: What the prediction holds, in this order.
        optional: Further inputs.
        normalize: As above.
        chunk: As above.
    """

    x: str | None
    prediction: str
    groups: int
    parts: tuple[str, ...]
    optional: tuple[str, ...] = ()
    normalize: str = DEFAULT_NORMALIZE
    chunk: int = 0

    @property
    def offsets(self) -> tuple[int, ...]:
        """The parts' first channels as the plugin takes them, with room for the most channels."""
        room = MAX_CHANNELS if self.groups == 1 and self.x else FIXED_CHANNELS
        first, found = 1, dict.fromkeys(PACKED_ORDER, -1)
        for part in self.parts:
            found[part] = first
            first += 1 + int(np.prod(self._inner(part, room)))
        return tuple(found.values())

    @property
    def inputs(self) -> tuple[str, ...]:
        """In their order."""
        return (*([self.x] if self.x else []), self.prediction, *self.optional)

    @property
    def fields(self) -> dict[str, Any]:
        """The attributes."""
        channels = {} if self.x else {PACKED_CHANNELS: FIXED_CHANNELS}
        packing = {PACKED_OFFSETS: self.offsets, PACKED_GROUPS: self.groups, **channels}
        return {"normalize": self.normalize, "chunk": self.chunk, **packing}

    def _inner(self, part: str, channels: int) -> tuple[int, ...]:
        """A part's axes between N and H."""
        inner = {"x": (channels,), "w": (4, 3, self.groups)}
        return inner.get(part, (4, channels))

    def unpack(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The arguments of the reference."""
        prediction = inputs[self.prediction]
        n, _, *map_ = prediction.shape
        channels = inputs[self.x].shape[1] if self.x else FIXED_CHANNELS
        found = {name: inputs[name] for name in self.optional}
        if self.x:
            found["x"] = inputs[self.x]
        for part, first in zip(PACKED_ORDER, self.offsets, strict=True):
            if first >= 0:
                inner = self._inner(part, channels)
                piece = prediction[:, first : first + int(np.prod(inner))]
                found[part] = piece.reshape(n, *inner, *map_)
        return found


MAX_CHANNELS, FIXED_CHANNELS = 8, 3
PACKED_NODES = (
    PackedNode("x", "all", 1, ("lam", "u", "d", "w"), ("m",)),
    PackedNode("x", "all", 1, ("lam", "u", "w"), (), "softmax", 4),
    PackedNode("x3", "all3", 3, ("w", "d", "u", "lam")),
    PackedNode(None, "x_and_all", 1, ("lam", "u", "d", "w", "x"), ("m",)),
    PackedNode(None, "x_and_all", 1, ("x", "lam", "w", "u"), (), "softmax", 4),
    PackedNode(None, "x_and_all", 3, ("w", "d", "x", "u", "lam"), ("m",)),
)
SHAPES = {
    "x": lambda n, c, h, w: (n, c, h, w),
    "lam": lambda n, c, h, w: (n, 4, c, h, w),
    "w": lambda n, c, h, w: (n, 4, 3, 1, h, w),
    "wc": lambda n, c, h, w: (n, 4, 3, c, h, w),
    "u": lambda n, c, h, w: (n, 4, c, h, w),
    "d": lambda n, c, h, w: (n, 4, c, h, w),
    "m": lambda n, c, h, w: (4,),
    "all": lambda n, c, h, w: (n, 3 * 4 * MAX_CHANNELS + 12 + 5, h, w),
    "x3": lambda n, c, h, w: (n, 3, h, w),
    "all3": lambda n, c, h, w: (n, 3 * 4 * 3 + 12 * 3 + 5, h, w),
    "x_and_all": lambda n, c, h, w: (n, 3 + 3 * 4 * 3 + 12 * 3 + 6, h, w),
    "lam1": lambda n, c, h, w: (n, c, h, w),
    "w1": lambda n, c, h, w: (n, 3, 1, h, w),
}


def ops_model(dtype: str) -> onnx.ModelProto:
    """Every form of both ops, without function bodies; N, C, H and W are dynamic."""
    nodes = []
    for index, (weights, optional, normalize, chunk) in enumerate(PROP2D_NODES):
        nodes.append(
            helper.make_node(
                PROP2D,
                ["x", "lam", weights, "u", *optional],
                [f"y{index}"],
                name=f"{PROP2D}_{index}",
                domain=ONNX_DOMAIN,
                normalize=normalize,
                chunk=chunk,
            )
        )
    nodes += [
        helper.make_node(
            PROP2D,
            node.inputs,
            [f"packed{index}"],
            name=f"{PROP2D}_packed{index}",
            domain=ONNX_DOMAIN,
            **node.fields,
        )
        for index, node in enumerate(PACKED_NODES)
    ]
    nodes += [
        helper.make_node(
            LINE_SCAN,
            ["x", "lam1", "w1"],
            [f"h_{direction.value}"],
            name=f"{LINE_SCAN}_{direction.value}",
            domain=ONNX_DOMAIN,
            direction=direction.value,
        )
        for direction in DIRECTIONS
    ]
    element = ELEMENT_TYPES[dtype]
    inputs = []
    for name, shape in SHAPES.items():
        extents = [None if extent == _FREE else extent for extent in shape(*[_FREE] * 4)]
        inputs.append(helper.make_tensor_value_info(name, element, extents))
    outputs = [helper.make_tensor_value_info(node.output[0], element, [None] * 4) for node in nodes]
    graph = helper.make_graph(nodes, "ops", inputs, outputs)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(ONNX_DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def write_ops(folder: Path, dtype: str) -> None:
    """Write the case of every form of both ops in one dtype."""
    writer = CaseWriter(
        folder, PRECISIONS[dtype], len(PROP2D_NODES) + len(PACKED_NODES) + len(DIRECTIONS)
    )
    for name, shape in SHAPES.items():
        if name != "m":
            writer.profile(name, [shape(*sizes) for sizes in PROFILE])
    for index, (weights, optional, normalize, chunk) in enumerate(PROP2D_NODES):
        inputs = ("x", "lam", weights, "u", *optional)
        writer.node(PROP2D, f"y{index}", {"normalize": normalize, "chunk": chunk}, *inputs)
    for index, node in enumerate(PACKED_NODES):
        writer.node(PROP2D, f"packed{index}", node.fields, *node.inputs)
        if node.x is None and dtype != "float32":
            writer.node(PROP2D, f"packed{index}", node.fields, *node.inputs, vectorised=True)
    for direction in DIRECTIONS:
        name = direction.value
        fields = {"direction": name, "normalize": DEFAULT_NORMALIZE, "chunk": 0}
        writer.node(LINE_SCAN, f"h_{name}", fields, "x", "lam1", "w1")
    for sizes in SIZES:
        random = np.random.default_rng(sum(sizes))
        inputs = {}
        for name, shape in SHAPES.items():
            values = random.standard_normal(shape(*sizes))
            # Without normalisation three weights must not sum to more than 1, or states grow.
            inputs[name] = (values * (0.2 if name == "w" else 1.0)).astype(np.dtype(dtype))
        outputs = {}
        for index, (weights, optional, normalize, chunk) in enumerate(PROP2D_NODES):
            extra = {name: inputs[name] for name in optional}
            outputs[f"y{index}"] = reference.prop2d(
                *(inputs[name] for name in ("x", "lam", weights, "u")),
                **extra,
                normalize=normalize,
                chunk=chunk,
            )
        for index, node in enumerate(PACKED_NODES):
            outputs[f"packed{index}"] = reference.prop2d(
                **node.unpack(inputs), normalize=node.normalize, chunk=node.chunk
            )
        for direction in DIRECTIONS:
            outputs[f"h_{direction.value}"] = reference.line_scan(
                inputs["x"], inputs["lam1"], inputs["w1"], direction.value
            )
        writer.sample(f"n{text(sizes)}", inputs, outputs, OP_TOLERANCES[dtype])
    writer.save(ops_model(dtype).SerializeToString())


def main() -> None:
    """Write the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for dtype, precision in PRECISIONS.items():
        write_ops(out / f"ops_{precision}", dtype)
        write_layers(out / f"layers_{precision}", dtype)


if __name__ == "__main__":
    main()
