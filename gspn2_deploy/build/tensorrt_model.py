"""What TensorRT's parser is given: the file without its function bodies, in an opset it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gspn2_deploy.build.casts import drop_input_casts
from gspn2_deploy.build.depthwise import fuse_depthwise
from gspn2_deploy.build.depthwise_norms import join_norms
from gspn2_deploy.build.gelus import simplify_gelus
from gspn2_deploy.build.graph_view import attributes_of
from gspn2_deploy.build.norms import fuse_norms
from gspn2_deploy.build.packing import pack_predictions
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.export import strip_functions
from gspn2_deploy.spec import ONNX_DOMAIN

STRONGLY_TYPED_MAJOR = 10  # of TensorRT: from it on, networks keep the file's types
_OLD_OPSET = 17  # the newest that TensorRT 8.6's parser knows
_LOWERED_OPSET = 18  # the one that is rewritten for it
_OLD_IR_VERSION = 8
_PAD_INPUTS = 3  # data, pads, value; opset 18 adds axes
_LAST = int(np.iinfo(np.int64).max)
_WHOLE = slice(0, None)
_CONSTANT_TYPES = {  # the type of a Constant by its attribute's name
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}
_MAP_AXES = [2, 3]  # rows and columns of (N, C, H, W)
# From opset 18 on their axes are an input. TensorRT 8's parser does not look at it and reduces
# over every axis, without a word.
_REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
)


@dataclass(frozen=True)
class PluginModel:
    """An ONNX file as the plugin path parses it.

    Args:
        content: The serialized model. Weights in external data stay where they are.
        plugins: The op type by the name of each node that must become a plugin layer.
        tensor_types: The element type by tensor name, as far as the file says it.
        node_types: The element type of the first output by node name, likewise.
        packed: Those of the plugins that take a prediction unsplit.
        fused: Those that stand for standard ops of the file.
        cast: The inputs that are float16 in the model and float32 in the file, whose cast the
            engine is to do as it copies them.
    """

    content: bytes
    plugins: Mapping[str, str]
    tensor_types: Mapping[str, str] = field(default_factory=dict)
    node_types: Mapping[str, str] = field(default_factory=dict)
    packed: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()
    cast: tuple[str, ...] = ()


def prepare_model(path: Path, tensorrt_major: int, *, fuse: bool = False) -> PluginModel:
    """Read an exported file for TensorRT's parser.

    Args:
        path: The ONNX file.
        tensorrt_major: TensorRT's major version.
        fuse: Whether the plugin is to compute norms over channels and depthwise convolutions,
            joined where a norm is of a convolution's result, and propagations are to take a
            prediction unsplit where they can. Before TensorRT 10 GELUs in float16 are to be said by
            a sigmoid besides, and inputs to be cast as they are copied.

    Returns:
        The model without the bodies of the propagation ops, each of their nodes under a name of
        its own; for TensorRT before 10 in opset 17.

    Raises:
        EngineLibraryError: The file holds no propagation, or uses what opset 17 cannot say.
    """
    model = onnx.load(path, load_external_data=False)
    strip_functions(model)
    plugins = _name_plugins(model.graph)
    if not plugins:
        raise EngineLibraryError(
            "the file holds no propagation, so there is nothing for the plugin to run",
            got=path,
            hint="use a file that gspn2-deploy export wrote",
        )
    constants = _constants(model.graph)
    packed: tuple[str, ...] = ()
    fused: dict[str, str] = {}
    if fuse:
        packed = pack_predictions(model.graph, constants)
        given = model.graph, constants, tensor_types(model.graph)
        fused = fuse_norms(*given) | fuse_depthwise(*given)
        fused = join_norms(model.graph, constants, fused)
    cast: tuple[str, ...] = ()
    if tensorrt_major < STRONGLY_TYPED_MAJOR:
        if fuse:
            simplify_gelus(model.graph, constants, tensor_types(model.graph))
            cast = drop_input_casts(model.graph)
        lower_opset(model)
    types = tensor_types(model.graph)
    nodes = {
        node.name: types[node.output[0]]
        for node in model.graph.node
        if node.name and node.output and node.output[0] in types
    }
    content = model.SerializeToString()
    return PluginModel(content, plugins | fused, types, nodes, packed, tuple(fused), cast)


def _name_plugins(graph: onnx.GraphProto) -> dict[str, str]:
    used = {node.name for node in graph.node}
    plugins: dict[str, str] = {}
    for node in graph.node:
        if node.domain != ONNX_DOMAIN:
            continue
        if not node.name or node.name in plugins:
            stem = node.name or node.op_type
            numbered = (f"{stem}_{number}" for number in range(len(graph.node) + 1))
            node.name = next(name for name in numbered if name not in used)
            used.add(node.name)
        plugins[node.name] = node.op_type
    return plugins


def tensor_types(graph: onnx.GraphProto) -> dict[str, str]:
    """Return NumPy's name of the element type by tensor name, as far as a graph says it."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return {
        name: str(helper.tensor_dtype_to_np_dtype(kind)) for name, kind in types.items() if kind
    }


def lower_opset(model: onnx.ModelProto) -> None:
    """Rewrite a model's main graph, in place, in the opset that TensorRT 8.6's parser knows.

    Raises:
        EngineLibraryError: It is of too new an opset, or uses what opset 17 cannot say.
    """
    version = next(item for item in model.opset_import if item.domain == "")
    if version.version > _LOWERED_OPSET:
        raise EngineLibraryError(
            "the file's opset is too new for TensorRT 8 and 9",
            got=f"opset {version.version}",
            expected=f"opset {_LOWERED_OPSET} or older, and no bfloat16",
            hint=f"export in fp32 or fp16 with opset {_LOWERED_OPSET}, or use TensorRT 10 or later",
        )
    if version.version > _OLD_OPSET:
        constants = _constants(model.graph)
        for node in model.graph.node:
            if node.domain == "" and node.op_type in _REDUCTIONS:
                _axes_to_attribute(node, constants)
            elif node.domain == "" and node.op_type == "Split":
                _drop_attribute(node, "num_outputs")
            elif node.domain == "" and node.op_type == "Pad" and len(node.input) > _PAD_INPUTS:
                raise EngineLibraryError(
                    "TensorRT 8 takes no axes for Pad",
                    got=node.name,
                    hint="use TensorRT 10 or later, or pad every axis in the model",
                )
        version.version = _OLD_OPSET
    write_constants_as_tensors(model.graph)
    _cut_shapes(model.graph)
    _split_map_means(model.graph)
    model.ir_version = min(model.ir_version, _OLD_IR_VERSION)


def _axes_to_attribute(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> None:
    keeps_all = next((a.i for a in node.attribute if a.name == "noop_with_empty_axes"), 0)
    _drop_attribute(node, "noop_with_empty_axes")
    name = node.input[1] if len(node.input) > 1 else ""
    if name and name not in constants:
        raise EngineLibraryError(
            f"TensorRT 8 takes only constant axes for {node.op_type}",
            got=f"{node.name}: axes from {name}",
            hint="use TensorRT 10 or later, or fix the axes in the model",
        )
    axes = [int(axis) for axis in numpy_helper.to_array(constants[name])] if name else []
    if not axes and keeps_all:
        raise EngineLibraryError(
            f"TensorRT 8 has no {node.op_type} over no axes",
            got=node.name,
            hint="use TensorRT 10 or later, or leave the node out of the model",
        )
    del node.input[1:]
    if axes:
        node.attribute.append(helper.make_attribute("axes", axes))


def write_constants_as_tensors(graph: onnx.GraphProto) -> None:
    """Give a graph's Constants tensors: TensorRT 8 reads their integer attributes as 0."""
    for node in graph.node:
        if node.op_type != "Constant" or node.attribute[0].name not in _CONSTANT_TYPES:
            continue
        given = node.attribute[0]
        value = np.array(helper.get_attribute_value(given), _CONSTANT_TYPES[given.name])
        node.CopyFrom(constant(node.output[0], value, node.name))


def constant(output: str, value: NDArray[Any], name: str = "") -> onnx.NodeProto:
    """Return a node that gives a tensor."""
    tensor = numpy_helper.from_array(value)
    return helper.make_node("Constant", [], [output], name=name or output, value=tensor)


def shape_bounds(node: onnx.NodeProto) -> slice:
    """Return which axes a Shape tells."""
    given = {item.name: item.i for item in node.attribute}
    return slice(given.get("start", 0), given.get("end"))


def _cut_shapes(graph: onnx.GraphProto) -> None:
    """Take the whole of a shape first, and the part of it that is asked for then.

    TensorRT 8's parser takes no notice of where a Shape starts and ends.
    """
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        bounds = shape_bounds(node) if node.op_type == "Shape" else _WHOLE
        if bounds == _WHOLE:
            nodes.append(node)
            continue
        output = node.output[0]
        whole = f"{output}_whole"
        parts = {"start": bounds.start, "end": bounds.stop, "axis": 0}
        for what, part in parts.items():
            value = np.array([_LAST if part is None else part], np.int64)
            nodes.append(constant(f"{output}_{what}", value))
        nodes.append(helper.make_node("Shape", list(node.input), [whole], name=whole))
        names = [f"{output}_{what}" for what in parts]
        nodes.append(helper.make_node("Slice", [whole, *names], [output], name=node.name or output))
    del graph.node[:]
    graph.node.extend(nodes)


def _split_map_means(graph: onnx.GraphProto) -> None:
    """Take means over a map's rows and columns one axis after the other.

    TensorRT 8.6 reduces both axes at once with one thread to a channel, and puts the norm before
    them into the same kernel: such a layer took 0.83 ms for 64x120x56x56 in float16 on an H100,
    and 0.50 ms with its mean in two steps.
    """
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if node.domain or node.op_type != "ReduceMean":
            continue
        attributes = attributes_of(node)
        if sorted(attributes.get("axes", ())) != _MAP_AXES or not attributes.get("keepdims", 1):
            continue
        name = node.name or node.output[0]
        columns = helper.make_node(
            "ReduceMean", list(node.input), [f"{node.output[0]}_columns"], name=f"{name}_columns"
        )
        rows = helper.make_node("ReduceMean", list(columns.output), list(node.output), name=name)
        for part, axis in ((columns, _MAP_AXES[1]), (rows, _MAP_AXES[0])):
            part.attribute.extend([helper.make_attribute("axes", [axis])])
        nodes[-1:] = [columns, rows]
        if kind := kinds.get(node.output[0]):
            between = helper.make_tensor_value_info(columns.output[0], kind, None)
            graph.value_info.append(between)
    del graph.node[:]
    graph.node.extend(nodes)


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    found.update(_constant_nodes(graph))
    return found


def _constant_nodes(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for node in graph.node:
        if node.op_type != "Constant":
            continue
        for attribute in node.attribute:
            if attribute.name == "value":
                yield node.output[0], attribute.t
            elif attribute.name == "value_ints":
                values = onnx.TensorProto(
                    data_type=onnx.TensorProto.INT64,
                    dims=[len(attribute.ints)],
                    int64_data=attribute.ints,
                )
                yield node.output[0], values


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
