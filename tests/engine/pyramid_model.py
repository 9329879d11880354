"""Propagations behind one, two and three strided convolutions, sizes free, as torch exports them.

Extents after a stride are formulas over the model's input, and the annotations name them so. It
is the smallest file found that makes TensorRT for RTX 1.7.1 recurse without end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from engine_models import save
from gspn2_deploy.export.functions import Variant, build_function
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from gspn2_deploy.spec import PROP2D, Normalize

WIDTH = 4
PROXY = 2
MAPS = {"lam": (4, PROXY), "w": (4, 3, 1), "u": (4, PROXY)}


class _Pyramid:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.annotations: list[ValueInfoProto] = []

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: object) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def conv(self, source: str, channels: tuple[int, int], output: str, stride: int = 1) -> str:
        edge = 3 if stride > 1 else 1
        weights = self.rng.standard_normal((*channels, edge, edge)).astype(np.float32) * 0.3
        inputs = [source, self.constant(f"{output}_weight", weights)]
        return self.add("Conv", inputs, output, strides=[stride] * 2, pads=[edge // 2] * 4)

    def annotate(self, name: str, extents: tuple[int, ...], level: int) -> None:
        free = [f"((({edge} - 1)//{2**level})) + 1" for edge in ("height", "width")]
        shape = ["batch", *extents, *free]
        self.annotations.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def extent(self, axis: int, level: int) -> str:
        """1 + (extent - 1) // 2**level of the model's input."""
        stem = f"extent{axis}_{level}"
        whole = self.add("Shape", ["images"], f"{stem}_whole", start=axis, end=axis + 1)
        less = self.add("Sub", [whole, "one"], f"{stem}_less")
        part = self.add("Div", [less, self.constant(f"{stem}_by", [2**level])], f"{stem}_part")
        return self.add("Add", [part, "one"], stem)

    def level(self, source: str, level: int) -> str:
        """One stride and one propagation, added to what came in."""
        source = self.conv(source, (WIDTH, 3 if level == 1 else WIDTH), f"down{level}", stride=2)
        batch = self.add("Shape", ["images"], f"batch{level}", start=0, end=1)
        edges = [self.extent(2, level), self.extent(3, level)]
        inputs = [self.conv(source, (PROXY, WIDTH), f"x{level}")]
        for name, extents in MAPS.items():
            channels = int(np.prod(extents))
            flat = self.conv(source, (channels, WIDTH), f"{name}{level}_flat")
            self.annotate(flat, (channels,), level)
            fixed = self.constant(f"{name}{level}_extents", list(extents))
            shape = self.add("Concat", [batch, fixed, *edges], f"{name}{level}_shape", axis=0)
            inputs.append(self.add("Reshape", [flat, shape], f"{name}{level}"))
            self.annotate(inputs[-1], extents, level)
        y = self.add(PROP2D, inputs, f"y{level}", domain="gspn2", normalize="sigmoid", chunk=0)
        return self.add(
            "Add", [self.conv(y, (WIDTH, PROXY), f"back{level}"), source], f"sum{level}"
        )


def pyramid_model(path: Path, levels: int = 3) -> Path:
    """Write the model: ``images`` (batch, 3, height, width) to ``sum{levels}``."""
    made = _Pyramid()
    made.constant("one", [1])
    output = "images"
    for level in range(1, levels + 1):
        output = made.level(output, level)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        made.nodes,
        "pyramid",
        [value("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [value(output, TensorProto.FLOAT, ["batch", WIDTH, "rows", "columns"])],
        made.weights,
        value_info=made.annotations,
    )
    body = build_function(Variant(PROP2D, Normalize.SIGMOID), PROP2D, 20)
    save(graph, path, functions=[body])
    return path
