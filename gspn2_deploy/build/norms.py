"""Let the plugin compute the layer norms over channels, and the response norms behind them.

The models normalise (N, C, H, W) over C. ONNX normalises over the last axes, so exports have a
transpose on either side; TensorRT 8.6 makes one kernel of the three that reaches a quarter of the
memory's bandwidth, and with a response norm (GRN) behind them a twelfth. The plugin's kernel reads
the map as it lies.

A norm stays as it is where something else uses what lies within it, or where its scale and shift
are not of its own type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from gspn2_deploy.build.graph_view import GraphView, drop_unused
from gspn2_deploy.spec import CHANNEL_NORM, CHANNEL_NORM_ATTRIBUTES, ONNX_DOMAIN

_TO_LAST = [0, 2, 3, 1]
_FROM_LAST = [0, 3, 1, 2]
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
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    replaced: dict[str, onnx.NodeProto] = {}  # by the output that the new node gives
    names = {node.name for node in graph.node}
    for norm in graph.node:
        last = _transposed_back(file, norm, users)
        if last is None or not _has_own_type(norm, types):
            continue
        x = file.producers[norm.input[0]].input[0]
        response = _find_response(file, last, users)
        inputs = [x, *norm.input[1:]]
        attributes = {"epsilon": _attributes(norm).get("epsilon", 1e-5)}
        output = last
        if response is not None and _all_of(types, x, (response.scale, response.shift)):
            inputs += [file.as_vector(response.scale), file.as_vector(response.shift)]
            attributes["response_epsilon"] = response.epsilon
            output = response.output
        name = f"{CHANNEL_NORM}_{norm.name or norm.output[0]}"
        while name in names:
            name += "_"
        names.add(name)
        assert attributes.keys() <= CHANNEL_NORM_ATTRIBUTES.keys()
        replaced[output] = helper.make_node(
            CHANNEL_NORM, inputs, [output], name=name, domain=ONNX_DOMAIN, **attributes
        )
    old = [file.producers[output] for output in replaced]
    inner = [name for node in old for name in node.input]
    nodes = [replaced.get(node.output[0] if node.output else "", node) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph, inner)
    return {node.name: node.op_type for node in replaced.values()}


def _transposed_back(
    file: GraphView, norm: onnx.NodeProto, users: Mapping[str, list[onnx.NodeProto]]
) -> str | None:
    """The output of the transpose behind a layer norm over channels; None where it is no such."""
    if norm.domain or norm.op_type != "LayerNormalization" or len(norm.input) < _NORM_INPUTS:
        return None
    if not norm.input[2] or any(file.rank(name) != 1 for name in norm.input[1:]):
        return None
    if _attributes(norm).get("axis", -1) not in (-1, _MAP_RANK - 1) or any(norm.output[1:]):
        return None
    before = file.producer(norm.input[0], "Transpose")
    behind = users.get(norm.output[0], [])
    if before is None or len(behind) != 1 or file.uses[norm.output[0]] != 1:
        return None
    after = behind[0]
    if after.domain or after.op_type != "Transpose":
        return None
    permutations = [_attributes(node).get("perm") for node in (before, after)]
    return after.output[0] if permutations == [_TO_LAST, _FROM_LAST] else None


def _has_own_type(norm: onnx.NodeProto, types: Mapping[str, str]) -> bool:
    return _all_of(types, norm.input[0], norm.input[1:])


def _all_of(types: Mapping[str, str], name: str, others: tuple[str, ...]) -> bool:
    """Whether the file says that all have one type."""
    return name in types and all(types.get(other) == types[name] for other in others)


def _find_response(
    file: GraphView, z: str, users: Mapping[str, list[onnx.NodeProto]]
) -> _Response | None:
    """The response norm of z, of which it is all that uses z."""
    for product in users.get(z, []):
        for factor in _others(product, "Mul", z):
            shifted = _only_user(file, product.output[0], users)
            for shift in _others(shifted, "Add", product.output[0]):
                found = _read_factor(file, factor, z)
                if found is None or not _is_column(file, shift) or shifted is None:
                    continue
                scale, epsilon, inner = found
                # z: twice in its square, once in the product.
                once = all(file.uses[name] == count for name, count in inner.items())
                if once and file.uses[z] == 3 and file.uses[factor] == 1:
                    return _Response(shifted.output[0], scale, shift, epsilon)
    return None


def _read_factor(
    file: GraphView, name: str, z: str
) -> tuple[str, float, dict[str, int]] | None:
    """Scale and epsilon of 1 + scale r / mean(r); how often each tensor within may be used."""
    for scaled in _beside_number(file, name, "Add", 1.0):
        for ratio, scale in _pairs(file.producer(scaled, "Mul")):
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
    for mean, added in _pairs(total):
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
    given = _attributes(node)
    found = given.get("axes") or file.integers(node, 1)
    if not given.get("keepdims", 1) or found is None:
        return None
    return node.input[0] if sorted(axis % _MAP_RANK for axis in found) == axes else None


def _others(node: onnx.NodeProto | None, op_type: str, name: str) -> Iterator[str]:
    """The other input of a node of this type that has this one."""
    if node is None or node.domain or node.op_type != op_type:
        return
    for one, other in _pairs(node):
        if one == name and other != name:
            yield other


def _only_user(
    file: GraphView, name: str, users: Mapping[str, list[onnx.NodeProto]]
) -> onnx.NodeProto | None:
    found = users.get(name, [])
    return found[0] if len(found) == 1 and file.uses[name] == 1 else None


def _beside_number(file: GraphView, name: str, op_type: str, number: float) -> Iterator[str]:
    """What this op gives a tensor of, with this number."""
    for one, other in _pairs(file.producer(name, op_type)):
        if _number(file, other) == number:
            yield one


def _pairs(node: onnx.NodeProto | None) -> Iterator[tuple[str, str]]:
    """The two inputs of a node in either order."""
    if node is not None and len(node.input) == 2:  # noqa: PLR2004
        one, other = node.input
        yield one, other
        yield other, one


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


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
