"""A 16-bit ONNX model rewritten to float32, for executors without bfloat16 arithmetic.

onnxruntime's CPU provider has no bfloat16 convolution, product or sum, and no cast is inserted for
them as it is for float16. Every bfloat16 value is a float32 value, so widening the stored weights
and the declared types keeps the graph and its weights exactly as they are; only the roundings
between the nodes fall away. What is then compared is the graph, not the rounding. The same holds
for float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

_TYPE_ATTRIBUTES = ("to", "dtype", "stash_type", "output_datatype", "output_dtype")


def uses_bfloat16(model: onnx.ModelProto) -> bool:
    """Whether any weight, input, output or cast of a model is bfloat16."""
    graph = model.graph
    return (
        any(tensor.data_type == TensorProto.BFLOAT16 for tensor in graph.initializer)
        or any(_is_bfloat16(value) for value in (*graph.input, *graph.output))
        or any(_casts_to_bfloat16(node) for node in _all_nodes(model))
    )


def widen(model: onnx.ModelProto, types: Sequence[int] = (TensorProto.BFLOAT16,)) -> None:
    """Turn every tensor and type of some types of a model into float32, in place.

    Args:
        model: A model with its external data loaded.
        types: Of ``TensorProto``: bfloat16, float16, or both.
    """
    for graph in _all_graphs(model):
        for tensor in graph.initializer:
            _widen_tensor(tensor, types)
        for value in (*graph.input, *graph.output, *graph.value_info):
            _widen_value(value, types)
    for function in model.functions:
        for value in function.value_info:
            _widen_value(value, types)
    for node in _all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen_tensor(attribute.t, types)
            for tensor in attribute.tensors:
                _widen_tensor(tensor, types)
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in types:
                attribute.i = TensorProto.FLOAT


def _is_bfloat16(value: onnx.ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type == TensorProto.BFLOAT16


def _casts_to_bfloat16(node: onnx.NodeProto) -> bool:
    return any(
        attribute.name in _TYPE_ATTRIBUTES and attribute.i == TensorProto.BFLOAT16
        for attribute in node.attribute
    )


def _widen_tensor(tensor: TensorProto, types: Sequence[int]) -> None:
    if tensor.data_type in types:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _widen_value(value: onnx.ValueInfoProto, types: Sequence[int]) -> None:
    if value.type.tensor_type.elem_type in types:
        value.type.tensor_type.elem_type = TensorProto.FLOAT


def _subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            graphs = list(attribute.graphs)
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            for graph in graphs:
                yield graph
                yield from _subgraphs(graph.node)


def _all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield model.graph
    yield from _subgraphs(model.graph.node)
    for function in model.functions:
        yield from _subgraphs(function.node)


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _all_graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node
