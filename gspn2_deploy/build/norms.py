"""Let the plugin compute the layer norms over channels, and what stands around them.

That is the response norms behind them, and ahead of them the projections of a few channels that are
added to what they normalise.

The models normalise (N, C, H, W) over C. ONNX normalises over the last axes, so exports have a
transpose on either side; TensorRT 8.6 makes one kernel of the three that reaches a quarter of the
memory's bandwidth, and with a response norm (GRN) behind them a twelfth. The plugin's kernel reads
the map as it lies.

A mixer adds to its features what a 1x1 convolution makes of the propagation's few channels, for
which alone TensorRT reads and writes the features once.

A norm stays as it is where something else uses what lies within it, or where its scale and shift
are not of its own type; a projection where something else uses it or the sum, or where it has more
channels than the plugin takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from gspn2_deploy.build.graph_view import GraphView, attributes_of, is_op, pairs, put_plugins
from gspn2_deploy.build.pointwise import read_pointwise
from gspn2_deploy.spec import CHANNEL_NORM, HALF_TYPES, PROJECTION_MAX_CHANNELS

_TO_LAST = [0, 2, 3, 1]
_FROM_LAST = [0, 3, 1, 2]
_EPSILON = 1e-5  # where a LayerNormalization says none
_CHANNELS = [1]
_MAP = [2, 3]
_MAP_RANK = 4
_NORM_INPUTS = 3  # x, scale, shift


@dataclass(frozen=True)
class _Response:
    """A response norm: y = z (1 + scale r / mean(r)) + shift."""

    output: str
    scale: str
    shift: str
    epsilon: float


def fuse_norms(
    graph: onnx.GraphProto,
    constants: Mapping[str, onnx.TensorProto],
    types: Mapping[str, str],
) -> dict[str, str]:
    """Put one GspnChannelNorm in the place of each norm over channels, in place.

    Args:
        graph: A model's main graph.
        constants: Its initializers and constants by name.
        types: The element type by tensor name, as far as the file says it.

    Returns:
        The op type by the name of each new node.
    """
    file = GraphView(graph, constants)
    found = {}
    for norm in graph.node:
        output = _transposed_back(file, norm)
        if output is None or not _all_of(types, norm.input[0], norm.input[1:]):
            continue
        x, projection = _split_projection(file, file.producers[norm.input[0]].input[0], types)
        inputs = [x, *norm.input[1:]]
        attributes = {"epsilon": attributes_of(norm).get("epsilon", _EPSILON)}
        response = _find_response(file, output)
        if response is not None and _all_of(types, output, (response.scale, response.shift)):
            inputs += [file.as_vector(response.scale), file.as_vector(response.shift)]
            attributes["response_epsilon"] = response.epsilon
            output = response.output
        inputs += projection
        found[output] = norm.name or norm.output[0], inputs, attributes
    return put_plugins(graph, CHANNEL_NORM, found)


def _transposed_back(file: GraphView, norm: onnx.NodeProto) -> str | None:
    """The output of the transpose behind a layer norm over channels; None where it is no such."""
    if not is_op(norm, "LayerNormalization") or len(norm.input) < _NORM_INPUTS:
        return None
    if not norm.input[2] or any(file.rank(name) != 1 for name in norm.input[1:]):
        return None
    if attributes_of(norm).get("axis", -1) not in (-1, _MAP_RANK - 1) or any(norm.output[1:]):
        return None
    before = file.producer(norm.input[0], "Transpose")
    behind = file.only_user(norm.output[0], "Transpose")
    if before is None or behind is None:
        return None
    permutations = [attributes_of(node).get("perm") for node in (before, behind)]
    return behind.output[0] if permutations == [_TO_LAST, _FROM_LAST] else None


def _split_projection(file: GraphView, x: str, types: Mapping[str, str]) -> tuple[str, list[str]]:
    """What a projection is added to, with its proxy, weight and bias; x alone without one."""
    if types.get(x) not in HALF_TYPES or file.uses[x] != 1:
        return x, []
    for projected, features in pairs(file.producer(x, "Add")):
        conv = read_pointwise(file, projected)
        if conv is None or conv.weight.shape[1] > PROJECTION_MAX_CHANNELS:
            continue
        has_shape = file.shapes.get(x) is not None
        if not has_shape or file.shapes.get(features) != file.shapes[x]:  # no broadcast
            continue
        proxy, weight, *bias = filter(None, conv.node.input)
        if not _all_of(types, x, (features, proxy, weight, *bias)):
            continue
        columns = np.ascontiguousarray(conv.weight[..., 0, 0].T)
        return features, [
            proxy,
            file.add_constant(f"{weight}_columns", numpy_helper.from_array(columns)),
            file.add_constant(f"{projected}_bias", numpy_helper.from_array(conv.added)),
        ]
    return x, []


def _all_of(types: Mapping[str, str], name: str, others: tuple[str, ...]) -> bool:
    """Whether the file says that all have one type."""
    return name in types and all(types.get(other) == types[name] for other in others)


def _find_response(file: GraphView, z: str) -> _Response | None:
    """The response norm of z, of which it is all that uses z."""
    for product in file.users.get(z, []):
        for factor in _others(product, "Mul", z):
            shifted = file.only_user(product.output[0], "Add")
            for shift in _others(shifted, "Add", product.output[0]):
                found = _read_factor(file, factor, z)
                if found is None or not _is_column(file, shift) or shifted is None:
                    continue
                scale, epsilon, inner = found
                once = all(file.uses[name] == count for name, count in inner.items())
                # z: twice in its square, once in the product.
                if once and file.uses[z] == 3 and file.uses[factor] == 1:
                    return _Response(shifted.output[0], scale, shift, epsilon)
    return None


def _read_factor(file: GraphView, name: str, z: str) -> tuple[str, float, dict[str, int]] | None:
    """Scale and epsilon of 1 + scale r / mean(r); how often each tensor within may be used."""
    for scaled in _beside_number(file, name, "Add", 1.0):
        for ratio, scale in pairs(file.producer(scaled, "Mul")):
            quotient = file.producer(ratio, "Div")
            if quotient is None or not _is_column(file, scale):
                continue
            root, mean = quotient.input
            squared = _reduced(file, mean, _CHANNELS)
            response = file.producer(root, "Sqrt")
            if squared != root or response is None:
                continue
            found = _read_square(file, response.input[0], z)
            if found is None:
                continue
            epsilon, inner = found
            inner |= {scaled: 1, ratio: 1, root: 2, mean: 1, response.input[0]: 1}
            return scale, epsilon, inner
    return None


def _read_square(file: GraphView, name: str, z: str) -> tuple[float, dict[str, int]] | None:
    """Epsilon of mean(z z) + epsilon over the map."""
    total = file.producer(name, "Add")
    for mean, added in pairs(total):
        value = _number(file, added)
        square = _reduced(file, mean, _MAP)
        if value is None or square is None:
            continue
        product = file.producer(square, "Mul")
        if product is not None and list(product.input) == [z, z]:
            return value, {mean: 1, square: 1}
    return None


def _reduced(file: GraphView, name: str, axes: list[int]) -> str | None:
    """What a tensor is the mean of over these axes of a map, which it keeps."""
    node = file.producer(name, "ReduceMean")
    if node is None:
        return None
    given = attributes_of(node)
    found = given.get("axes") or file.integers(node, 1)
    if not given.get("keepdims", 1) or found is None:
        return None
    return node.input[0] if sorted(axis % _MAP_RANK for axis in found) == axes else None


def _others(node: onnx.NodeProto | None, op_type: str, name: str) -> Iterator[str]:
    """The other input of a node of this type that has this one."""
    for one, other in pairs(node if is_op(node, op_type) else None):
        if one == name and other != name:
            yield other


def _beside_number(file: GraphView, name: str, op_type: str, number: float) -> Iterator[str]:
    """What this op gives a tensor of, with this number."""
    for one, other in pairs(file.producer(name, op_type)):
        if _number(file, other) == number:
            yield one


def _number(file: GraphView, name: str) -> float | None:
    values = file.constant(name)
    return float(values.ravel()[0]) if values is not None and values.size == 1 else None


def _is_column(file: GraphView, name: str) -> bool:
    """Whether a constant has a value for each channel: (C, 1, 1) or (1, C, 1, 1)."""
    tensor = file.constants.get(name)
    if tensor is None:
        return False
    extents = [1] * (_MAP_RANK - len(tensor.dims)) + list(tensor.dims)
    return len(tensor.dims) >= _MAP_RANK - 1 and extents == [1, int(np.prod(extents)), 1, 1]
