"""Write the cases that ``face_proof`` and ``engine_proof`` run and compare on a GPU machine.

PYTHONPATH=tests python tests/trt/prepare_proof.py OUT

``ops_fp32``, ``ops_fp16`` and ``ops_bf16`` hold every form of both ops in one network, every extent
dynamic, against the float64 reference of tests/reference.py. Needs no GPU, no TensorRT and no
PyTorch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes  # noqa: F401  (gives NumPy bfloat16)
import numpy as np
import onnx
import reference
from numpy.typing import NDArray
from onnx import TensorProto, helper

from gspn2_deploy.spec import DEFAULT_NORMALIZE, DIRECTIONS, LINE_SCAN, ONNX_DOMAIN, PROP2D
from gspn2_deploy.validate.tolerances import OP_TOLERANCES, Tolerance

Array = NDArray[np.floating]

OPSET = 17
ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}

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

    def node(
        self, op_type: str, output: str, normalize: str, chunk: int, direction: str, *inputs: str
    ) -> None:
        """Add what a plugin layer is, for proofs without a network."""
        self.lines.append(
            f"node {op_type} {output} {normalize} {chunk} {direction or '-'} {' '.join(inputs)}"
        )

    def sample(
        self,
        name: str,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        tolerance: Tolerance,
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
            atol = tolerance.atol * _scale(value, tolerance)
            self.lines.append(
                f"output {key} {_text(value.shape)} {file} {tolerance.rtol!r} {atol!r}"
            )

    def save(self, model: bytes) -> None:
        """Write the model and the case file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "model.onnx").write_bytes(model)
        head = ["model model.onnx", f"precision {self.precision}", f"plugins {self.plugins}"]
        (self.folder / "case.txt").write_text("\n".join([*head, *self.lines]) + "\n")


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _scale(value: Array, tolerance: Tolerance) -> float:
    wide = np.abs(value.astype(np.float64))
    return float(wide.max() if tolerance.scale == "max" else np.sqrt(np.mean(wide**2)))


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
    for index, (weights, optional, normalize, chunk) in enumerate(PROP2D_NODES):
        writer.node(PROP2D, f"y{index}", normalize, chunk, "", "x", "lam", weights, "u", *optional)
    for direction in DIRECTIONS:
        name = direction.value
        writer.node(LINE_SCAN, f"h_{name}", DEFAULT_NORMALIZE, 0, name, "x", "lam1", "w1")
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
        for direction in DIRECTIONS:
            outputs[f"h_{direction.value}"] = reference.line_scan(
                inputs["x"], inputs["lam1"], inputs["w1"], direction.value
            )
        writer.sample(f"n{_text(sizes)}", inputs, outputs, OP_TOLERANCES[dtype])
    writer.save(ops_model(dtype).SerializeToString())


def main() -> None:
    """Write the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    for dtype, precision in PRECISIONS.items():
        write_ops(out / f"ops_{precision}", dtype)


if __name__ == "__main__":
    main()
