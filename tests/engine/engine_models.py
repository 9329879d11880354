"""Small ONNX files made by hand: what the builder sees, without an exporter."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from gspn2_deploy.export import metadata as meta
from gspn2_deploy.export.check import tensor_info
from onnx import TensorProto, helper, numpy_helper

from gspn2_deploy.build.backend import BuildRequest
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import Profile

CHANNELS = 4
SIZE = 16
OP_TYPE = "GspnProp2D"
NAMES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16"}
NUMPY = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


def conv_model(
    path: Path,
    *,
    dtype: int = TensorProto.FLOAT,
    batch: int | str = "batch",
    size: int | str = SIZE,
    body: bool = True,
    metadata: dict[str, str] | None = None,
    external: bool = False,
) -> Path:
    """Write conv -> one propagation op (a stand-in body) -> pool -> logits, as an export of ours.

    Args:
        path: The file.
        dtype: Of everything in it.
        batch: The batch's extent.
        size: Height and width.
        body: Whether the op's function body is there.
        metadata: Additions to what every export has.
        external: Whether the weights go into a file beside it.
    """
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((CHANNELS, 3, 3, 3)).astype(NUMPY[dtype])
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], pads=[1] * 4),
        helper.make_node(OP_TYPE, ["c"], ["p"], domain="gspn2", name="propagation"),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("images", dtype, [batch, 3, size, size])],
        [helper.make_tensor_value_info("logits", dtype, [batch, CHANNELS])],
        [numpy_helper.from_array(weights, "w")],
    )
    function = helper.make_function(
        "gspn2",
        OP_TYPE,
        ["a"],
        ["b"],
        [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Add", ["t", "a"], ["b"])],
        [helper.make_opsetid("", 20)],
    )
    ours = {
        meta.PACKAGE_VERSION: "0.1.0",
        meta.OP_VERSION: "1",
        meta.PRECISION: NAMES[dtype],
        meta.SOURCE_SHA256: "0" * 64,
        meta.OP_COUNTS: json.dumps({OP_TYPE: 1}),
    }
    if external:
        data = path.with_name(f"{path.name}.data")
        save(graph, path, functions=[function], external=True)
        entry = {"bytes": data.stat().st_size, "sha256": sha256_of(data)}
        ours[meta.EXTERNAL_DATA] = json.dumps({data.name: entry})
        data.unlink()
    ours |= metadata or {}
    save(graph, path, functions=[function] if body else [], metadata=ours, external=external)
    return path


def op_model(
    path: Path,
    op_type: str,
    *,
    dtype: int = TensorProto.FLOAT,
    output_dtype: int | None = None,
    output_rank: int = 4,
) -> Path:
    """Write a model of one op from ``x`` to ``y``."""
    output = dtype if output_dtype is None else output_dtype
    axes = [f"axis{axis}" for axis in range(output_rank)]
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x"], ["y"])],
        "model",
        [helper.make_tensor_value_info("x", dtype, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", output, axes)],
    )
    save(graph, path)
    return path


def mixed_types_model(path: Path) -> Path:
    """Write a model that adds float16 to float32."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
            helper.make_node("Add", ["x", "h"], ["y"], name="sum"),
        ],
        "model",
        [value("x", TensorProto.FLOAT, ["batch", 3])],
        [value("y", TensorProto.FLOAT, ["batch", 3])],
    )
    save(graph, path)
    return path


def baked_batch_model(path: Path) -> Path:
    """Write a model whose input looks dynamic while a Reshape fixes its batch to 2."""
    value = helper.make_tensor_value_info
    shape = numpy_helper.from_array(np.array([2, 12], np.int64), "shape")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "model",
        [value("x", TensorProto.FLOAT, ["batch", 3, 4])],
        [value("y", TensorProto.FLOAT, [2, 12])],
        [shape],
    )
    save(graph, path)
    return path


def save(
    graph: onnx.GraphProto,
    path: Path,
    *,
    functions: list[onnx.FunctionProto] | None = None,
    metadata: dict[str, str] | None = None,
    external: bool = False,
) -> None:
    """Write a graph as a model of opset 20."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("gspn2", 1)]
    model = helper.make_model(graph, functions=functions or [], opset_imports=opsets, ir_version=10)
    helper.set_model_props(model, metadata or {})
    if external:
        onnx.save(
            model,
            path,
            save_as_external_data=True,
            location=f"{path.name}.data",
            size_threshold=0,
        )
    else:
        onnx.save(model, path)


def request_for(path: Path, profiles: tuple[Profile, ...] = ()) -> BuildRequest:
    """Describe any ONNX file as the builder would, without asking whether it is one of ours."""
    model = onnx.load(path, load_external_data=False)
    calls = Counter(node.op_type for node in model.graph.node if node.domain == "gspn2")
    return BuildRequest(
        onnx_path=path,
        plan_path=path.with_suffix(".plan"),
        inputs=tuple(tensor_info(item) for item in model.graph.input),
        outputs=tuple(tensor_info(item) for item in model.graph.output),
        precision=None,
        propagations=dict(calls),
        profiles=profiles,
        compute_capabilities=("8.9",),
    )
