"""Join the plugin's depthwise convolutions with its norms of their results.

Each of a model's blocks has two such pairs. At batch 1 an engine takes as long as its launches, of
which a pair then has one; at larger batches the map is read once less.

A convolution that the kernel for both does not take stays as it is, and so does a norm with a
response or a projection. Whatever else uses the convolution's result goes on doing so.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper

from gspn2_deploy.build.graph_view import GraphView, attributes_of, put_plugins
from gspn2_deploy.spec import (
    CHANNEL_NORM,
    CHANNEL_NORM_INPUTS,
    DEPTHWISE,
    DEPTHWISE_INPUTS,
    DEPTHWISE_NORM,
    DEPTHWISE_NORM_KERNEL,
    DEPTHWISE_NORM_MAX_CHANNELS,
)

_HALF_BYTES = 2  # of an element of the types that the plugin convolves


def join_norms(
    graph: onnx.GraphProto,
    constants: Mapping[str, onnx.TensorProto],
    fused: Mapping[str, str],
) -> dict[str, str]:
    """Put one GspnDepthwiseNorm in the place of each GspnDepthwise and its norm, in place.

    Of those alone that the plugin has been given: nodes of its ops that the file itself holds stay.

    Args:
        graph: A model's main graph.
        constants: Its initializers and constants by name.
        fused: The op type by the name of each node that the plugin has been given so far.

    Returns:
        The same behind this.
    """
    file = GraphView(graph, constants)
    found = {}
    second = {}
    for conv in graph.node:
        norm = _norm_of(file, conv, fused)
        if norm is None:
            continue
        output = conv.output[0]
        inputs = list(conv.input)
        if len(inputs) < len(DEPTHWISE_INPUTS):
            inputs.append(_add_zeros(file, f"{output}_bias", file.constants[conv.input[1]]))
        attributes = attributes_of(conv) | attributes_of(norm)
        stem = conv.name.removeprefix(f"{DEPTHWISE}_")
        found[output] = stem, [*inputs, *norm.input[1:]], attributes
        second[output] = norm.output[0]
    new = put_plugins(graph, DEPTHWISE_NORM, found, second)
    left = {node.name for node in graph.node}
    return {name: kind for name, kind in fused.items() if name in left} | new


def _norm_of(
    file: GraphView, conv: onnx.NodeProto, fused: Mapping[str, str]
) -> onnx.NodeProto | None:
    """The first norm of a convolution that can be joined with it; None where there is none."""
    weight = file.constants.get(conv.input[1]) if fused.get(conv.name) == DEPTHWISE else None
    if weight is None:
        return None
    channels, _, *size = weight.dims
    if channels > DEPTHWISE_NORM_MAX_CHANNELS or size != [DEPTHWISE_NORM_KERNEL] * 2:
        return None
    norms = [
        user
        for user in file.users.get(conv.output[0], [])
        if fused.get(user.name) == CHANNEL_NORM and _is_alone(file, user)
    ]
    return norms[0] if norms else None


def _is_alone(file: GraphView, norm: onnx.NodeProto) -> bool:
    """Whether a norm has nothing with it, and its parameters are there wherever a node is put."""
    return len(norm.input) == len(CHANNEL_NORM_INPUTS) and not any(
        name in file.producers for name in norm.input[1:]
    )


def _add_zeros(file: GraphView, name: str, weight: onnx.TensorProto) -> str:
    """The name of a bias that changes nothing."""
    channels = weight.dims[0]
    zeros = bytes(_HALF_BYTES * channels)
    tensor = helper.make_tensor(name, weight.data_type, [channels], zeros, raw=True)
    return file.add_constant(name, tensor)
