"""Write the cases that ``engine_proof`` builds, runs and compares on a GPU machine.

python tests/tensorrt/prepare_proof.py OUT [--model ONNX GOLDEN]...

Always writes ``ops_fp32`` and ``ops_fp16``: every form of both ops in one network, every extent
dynamic, against the float64 reference of tests/reference.py. ``--model`` adds an exported model with
golden samples. Needs no GPU and no TensorRT.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parents[1]))
import reference

from gspn2_deploy.spec import DIRECTIONS, LINE_SCAN, ONNX_DOMAIN, PROP2D

Array = NDArray[np.floating]

OPSET = 17
# Of the result, and of its largest element. Half a unit in float16's last place is 2^-11.
TOLERANCES = {"float32": (1e-5, 5e-6), "float16": (2.0**-11 * 1.02, 1e-5)}
ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
PRECISIONS = {"float32": "fp32", "float16": "fp16"}

SIZES = ((1, 1, 1, 1), (2, 4, 16, 16), (3, 3, 9, 33), (1, 8, 40, 24))  # N, C, H, W
PROFILE = ((1, 1, 1, 1), (2, 4, 16, 16), (4, 8, 48, 48))
# Which inputs and attributes each GspnProp2D node has. "wc" has weights per channel.
PROP2D_NODES: tuple[tuple[str, tuple[str, ...], str, int], ...] = (
    ("w", (), "sigmoid", 0),
    ("w", ("d",), "softmax", 0),
    ("w", ("m",), "none", 0),
    ("w", ("d", "m"), "sigmoid", 4),
    ("wc", (), "softmax", 5),
    ("wc", ("d", "m"), "sigmoid", 0),
)
SHAPES = {
    "x": lambda n, c, h, w: (n, c, h, w),
    "lam": lambda n, c, h, w: (n, 4, c, h, w),
    "w": lambda n, c, h, w: (n, 4, 3, 1, h, w),
    "wc": lambda n, c, h, w: (n, 4, 3, c, h, w),
    "u": lambda n, c, h, w: (n, 4, c, h, w),
    "d": lambda n, c, h, w: (n, 4, c, h, w),
    "m": lambda n, c, h, w: (4,),
    "lam1": lambda n, c, h, w: (n, c, h, w),
    "w1": lambda n, c, h, w: (n, 3, 1, h, w),
}


@dataclass
class CaseWriter:
    """Collects one case and writes its folder.

    Args:
        folder: Where it goes.
        precision: As the case file names it.
        plugins: Plugin layers in the network.
    """

    folder: Path
    precision: str
    plugins: int
    lines: list[str] = field(default_factory=list)

    def profile(self, name: str, shapes: Sequence[Sequence[int]]) -> None:
        """Add the smallest, the tuned and the largest shape of an input."""
        self.lines.append(f"profile {name} " + " ".join(map(_text, shapes)))

    def sample(
        self,
        name: str,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        tolerance: tuple[float, float],
    ) -> None:
        """Add a sample: inputs in the engine's dtypes, outputs in any."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lines.append(f"sample {name}")
        for key, value in inputs.items():
            file = f"{name}_{key}.bin"
            (self.folder / file).write_bytes(np.ascontiguousarray(value).tobytes())
            self.lines.append(f"input {key} {_text(value.shape)} {file}")
        for key, value in outputs.items():
            file = f"{name}_{key}_expected.bin"
            (self.folder / file).write_bytes(value.astype(np.float32).tobytes())
            rtol, atol = tolerance
            self.lines.append(f"output {key} {_text(value.shape)} {file} {rtol!r} {atol!r}")

    def save(self, model: onnx.ModelProto) -> None:
        """Write the model and the case file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        onnx.save(model, self.folder / "model.onnx")
        head = ["model model.onnx", f"precision {self.precision}", f"plugins {self.plugins}"]
        (self.folder / "case.txt").write_text("\n".join([*head, *self.lines]) + "\n")


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def ops_model(dtype: str) -> onnx.ModelProto:
    """Every form of both ops, without function bodies; every extent is dynamic."""
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
    for direction in DIRECTIONS:
        nodes.append(
            helper.make_node(
                LINE_SCAN,
                ["x", "lam1", "w1"],
                [f"h_{direction.value}"],
                name=f"{LINE_SCAN}_{direction.value}",
                domain=ONNX_DOMAIN,
                direction=direction.value,
            )
        )
    element = ELEMENT_TYPES[dtype]
    fixed = {"m": (4,), "w": (None, 4, 3, 1, None, None), "w1": (None, 3, 1, None, None)}
    inputs = []
    for name, shape in SHAPES.items():
        example = fixed.get(name) or tuple(
            4 if extent == 4 and axis == 1 else 3 if extent == 3 else None
            for axis, extent in enumerate(shape(7, 7, 7, 7))
        )
        inputs.append(helper.make_tensor_value_info(name, element, example))
    outputs = [helper.make_tensor_value_info(node.output[0], element, [None] * 4) for node in nodes]
    graph = helper.make_graph(nodes, "ops", inputs, outputs)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(ONNX_DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def write_ops(folder: Path, dtype: str) -> None:
    """Write the case of every form of both ops in one dtype."""
    writer = CaseWriter(folder, PRECISIONS[dtype], len(PROP2D_NODES) + len(DIRECTIONS))
    for name, shape in SHAPES.items():
        if name != "m":
            writer.profile(name, [shape(*sizes) for sizes in PROFILE])
    for sizes in SIZES:
        random = np.random.default_rng(sum(sizes))
        inputs = {}
        for name, shape in SHAPES.items():
            values = random.standard_normal(shape(*sizes))
            # Without normalisation three weights must not sum to more than 1, or states grow.
            inputs[name] = (values * (0.2 if name == "w" else 1.0)).astype(dtype)
        outputs = {}
        for index, (weights, optional, normalize, chunk) in enumerate(PROP2D_NODES):
            extra = {name: inputs[name] for name in optional}
            outputs[f"y{index}"] = reference.prop2d(
                *(inputs[name] for name in ("x", "lam", weights, "u")),
                **extra,
                normalize=normalize,
                chunk=chunk,
            )
        for direction in DIRECTIONS:
            outputs[f"h_{direction.value}"] = reference.line_scan(
                inputs["x"], inputs["lam1"], inputs["w1"], direction.value
            )
        writer.sample(f"n{_text(sizes)}", inputs, outputs, TOLERANCES[dtype])
    writer.save(ops_model(dtype))


def main() -> None:
    """Write the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for dtype in TOLERANCES:
        write_ops(out / f"ops_{PRECISIONS[dtype]}", dtype)


if __name__ == "__main__":
    main()
