"""An exported file for TensorRT 8's parser with its propagations' function bodies in their place.

That parser knows Scan and no model-local functions. It has no ``CastLike``, which is written
otherwise here, and integers that are known are computed, such as the extents of a map and the steps
of a segment. What floats are computed stays as it is.

Source: the parser's builtin_op_importers.cpp of TensorRT 8.6.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from gspn2_deploy.build.tensorrt_model import (
    PluginModel,
    constant,
    lower_opset,
    shape_bounds,
    tensor_types,
    write_constants_as_tensors,
)
from gspn2_deploy.spec import ONNX_DOMAIN

_MOST_FOLDED = 4096  # elements: masks and extents, not maps
_ROUNDS = 20  # of shape inference and folding; each opens the way for the next


def inline_bodies(path: Path) -> onnx.ModelProto:
    """Read a file, and return it without functions in the opset that TensorRT 8.6 knows.

    Args:
        path: An exported file; external data is read into the model.

    Returns:
        The model; it computes what the file computes in onnxruntime. Its types are known.

    Raises:
        EngineLibraryError: It uses what opset 17 cannot say.
    """
    model = onnx.inliner.inline_local_functions(onnx.load(path))
    kept = [item for item in model.opset_import if item.domain != ONNX_DOMAIN]
    del model.opset_import[:], model.functions[:]
    model.opset_import.extend(kept)
    for graph in graphs(model.graph):
        write_constants_as_tensors(graph)
    model = onnx.shape_inference.infer_shapes(model)
    _name_casts(model.graph)
    for _ in range(_ROUNDS):
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        if not _fold(model):
            break
    _drop_unused(model.graph)
    lower_opset(model)
    return onnx.shape_inference.infer_shapes(model)


def as_parsed(model: onnx.ModelProto) -> PluginModel:
    """Return a model with the types that a weakly typed network is told; it has no plugins."""
    types: dict[str, str] = {}
    nodes: dict[str, str] = {}
    for graph in graphs(model.graph):
        types = tensor_types(graph) | types
        for node in graph.node:
            if node.name and node.output and node.output[0] in types:
                nodes.setdefault(node.name, types[node.output[0]])
    return PluginModel(model.SerializeToString(), {}, types, nodes)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def _name_casts(graph: onnx.GraphProto) -> None:
    """Name the type of each CastLike."""
    kinds = {
        item.name: item.type.tensor_type.elem_type
        for item in (*graph.value_info, *graph.input, *graph.output)
    } | {item.name: item.data_type for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "CastLike":
            cast = helper.make_node(
                "Cast", [node.input[0]], list(node.output), name=node.name, to=kinds[node.input[1]]
            )
            node.CopyFrom(cast)


def _fold(model: onnx.ModelProto) -> bool:
    """Compute the integers and truth values that are known; says whether there were any."""
    graph = model.graph
    known = {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant"
    }
    infos = {item.name: item.type.tensor_type for item in (*graph.value_info, *graph.input)}
    nodes: list[onnx.NodeProto] = []
    folded = False
    for node in graph.node:
        values = None
        if node.op_type == "Shape":
            values = _known_extents(node, infos)
        elif _may_fold(node) and all(not name or name in known for name in node.input):
            values = _evaluate(node, known, model.opset_import)
        if values is None:
            nodes.append(node)
            continue
        folded = True
        for name, value in zip(node.output, values, strict=True):
            known[name] = value
            nodes.append(constant(name, value))
    del graph.node[:]
    graph.node.extend(nodes)
    return folded


def _may_fold(node: onnx.NodeProto) -> bool:
    return bool(node.input) and node.op_type != "ConstantOfShape"


def _known_extents(
    node: onnx.NodeProto, infos: dict[str, onnx.TypeProto.Tensor]
) -> list[np.ndarray] | None:
    info = infos.get(node.input[0])
    if info is None or not info.HasField("shape"):
        return None
    axes = list(info.shape.dim)[shape_bounds(node)]
    if not all(axis.HasField("dim_value") for axis in axes):
        return None
    return [np.array([axis.dim_value for axis in axes], np.int64)]


def _evaluate(
    node: onnx.NodeProto, known: dict[str, np.ndarray], imports: list[onnx.OperatorSetIdProto]
) -> list[np.ndarray] | None:
    names = [name for name in dict.fromkeys(node.input) if name]
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(known[name].dtype), None
        )
        for name in names
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output
    ]
    graph = helper.make_graph([node], "fold", inputs, outputs)
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(imports)))
    values = [
        np.asarray(item) for item in evaluator.run(None, {name: known[name] for name in names})
    ]
    whole = all(item.dtype.kind in "bi" and item.size <= _MOST_FOLDED for item in values)
    return values if whole else None


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Leave out what nothing takes any more."""
    wanted = {item.name for item in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    for inner in graphs(attribute.g):
                        wanted.update(name for item in inner.node for name in item.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    names = {name for node in kept for name in node.output}
    infos = [item for item in graph.value_info if item.name in names]
    del graph.value_info[:]
    graph.value_info.extend(infos)
