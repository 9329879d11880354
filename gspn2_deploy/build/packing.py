"""Let a propagation take its inputs as one convolution gives them.

In the models ``lam``, ``u``, ``d`` and ``w`` are parts of one 1x1 convolution's output, cut along
its channels and reshaped to (N, 4, C, H, W) and (N, 4, 3, G, H, W). TensorRT copies each: a layer
of its own that moves few bytes and takes as long as a small propagation. The plugin finds the parts
in the whole by itself, so the cuts and the reshapes go. ``x`` comes from another 1x1 convolution of
the same tensor: the first one gives it too, so that there is one layer less.

The shapes that the file states must show that a reshape does nothing but part the channels; where
they do not, or where the parts come from different tensors, a node stays as it is. Whatever else
uses the parts keeps them, and ``x`` then stays on its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from gspn2_deploy.build.graph_view import GraphView, attributes_of, drop_unused, pairs
from gspn2_deploy.build.pointwise import join_pointwise
from gspn2_deploy.build.reshapes import Shape
from gspn2_deploy.export.check import is_ours
from gspn2_deploy.spec import (
    NEIGHBOURS,
    NUM_DIRECTIONS,
    PACKED_CHANNELS,
    PACKED_GROUPS,
    PACKED_OFFSETS,
    PACKED_ORDER,
    PROP2D,
)

_REQUIRED = ("lam", "w", "u")  # the inputs behind x, before d and m
_CHANNELS = 1  # the axis of (N, P, H, W)
_MAP_RANK = 4


@dataclass(frozen=True)
class _Packing:
    """What a packed node has in place of the parts."""

    prediction: str
    offsets: tuple[int, ...]  # in PACKED_ORDER
    groups: int
    merge: str | None  # m; as (4, 1, 1, 1) where the file multiplies u by it


def pack_predictions(
    graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto]
) -> tuple[str, ...]:
    """Give every GspnProp2D the unsplit prediction where its parts all come from one, in place.

    Where the convolution that predicts them can give x too, the node takes it from there.

    Args:
        graph: A model's main graph.
        constants: Its initializers and constants by name.

    Returns:
        The names of the nodes that take one now.
    """
    file = GraphView(graph, constants)
    packed, freed = [], []
    for node in graph.node:
        packing = _find(file, node) if is_ours(node) and node.op_type == PROP2D else None
        if packing is None:
            continue
        freed += node.input[1:]
        del node.input[1:]
        node.input.append(packing.prediction)
        if packing.merge is not None:
            node.input.append(file.as_vector(packing.merge))
        attributes = {PACKED_OFFSETS: packing.offsets, PACKED_GROUPS: packing.groups}
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
        packed.append(node.name)
    drop_unused(graph, freed)
    _take_features(graph, constants, packed)
    return tuple(packed)


def _take_features(
    graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto], packed: Collection[str]
) -> None:
    """Let packed nodes take x from the prediction where one convolution can give both."""
    file = GraphView(graph, constants)
    freed = []
    for node in graph.node:
        if node.name not in packed:
            continue
        x, prediction = node.input[:2]
        joined = join_pointwise(file, prediction, x)
        if joined is None:
            continue
        node.input[:2] = joined[:1]
        freed += joined[1]
        predicted, channels = (file.shapes[name][_CHANNELS] for name in (prediction, x))
        offsets = next(item for item in node.attribute if item.name == PACKED_OFFSETS)
        offsets.ints[PACKED_ORDER.index("x")] = predicted
        node.attribute.append(helper.make_attribute(PACKED_CHANNELS, channels))
    drop_unused(graph, freed)


def _find(file: GraphView, node: onnx.NodeProto) -> _Packing | None:
    x, *rest = node.input
    extents = file.shapes.get(x, [])
    known = len(extents) == _MAP_RANK and None not in extents
    if not known or not isinstance(extents[_CHANNELS], int) or len(rest) < len(_REQUIRED):
        return None
    names = dict(zip(_REQUIRED, rest, strict=False))
    optional = rest[len(_REQUIRED) :]
    if optional and file.rank(optional[0]) != 1:
        names["d"] = optional.pop(0)
    if not optional and "d" not in names:
        names["u"], *optional = _unscaled(file, names["u"])
    found = {part: _locate(file, name, extents, part == "w") for part, name in names.items()}
    sources = {place.prediction if place else None for place in found.values()}
    if len(sources) != 1 or None in sources:
        return None
    places = {part: place for part, place in found.items() if place is not None}
    offsets = tuple(places[part].first if part in places else -1 for part in PACKED_ORDER)
    merge = optional[0] if optional else None
    return _Packing(places["w"].prediction, offsets, places["w"].groups, merge)


def _unscaled(file: GraphView, name: str) -> tuple[str, ...]:
    """The u and the m that a file multiplies, as exports do that have m and no d; else u alone."""
    for u, scale in pairs(file.producer(name, "Mul")):
        tensor = file.constants.get(scale)
        if tensor is not None and list(tensor.dims) == [NUM_DIRECTIONS, 1, 1, 1]:
            return u, scale
    return (name,)


@dataclass(frozen=True)
class _Place:
    """Where a part lies: from which channel of which tensor on."""

    prediction: str
    first: int
    groups: int  # G, where it is the affinities' place


def _locate(file: GraphView, name: str, x: Shape, is_affinity: bool) -> _Place | None:
    """Find where a tensor comes from; the extents of `x`, (N, C, H, W), are all stated."""
    n, channels, *size = x
    shapes = file.shapes
    reshape = file.producer(name, "Reshape")
    unfolded = shapes.get(name, [])
    inner = unfolded[1:-2]  # between N and H
    gate, affinity = [NUM_DIRECTIONS, channels], [NUM_DIRECTIONS, NEIGHBOURS]
    allowed = [[*affinity, 1], [*affinity, channels]] if is_affinity else [gate]
    groups = inner[-1] if inner in allowed else None
    if reshape is None or not isinstance(groups, int) or unfolded != [n, *inner, *size]:
        return None
    piece = reshape.input[0]
    count = NUM_DIRECTIONS * (NEIGHBOURS if is_affinity else 1) * groups
    cut = file.producer(piece, "Split", "Slice")
    if cut is None or shapes.get(piece) != [n, count, *size]:
        return None
    predicted = shapes.get(cut.input[0], [])[_CHANNELS : _CHANNELS + 1]
    if shapes.get(cut.input[0]) != [n, *predicted, *size] or not isinstance(predicted[0], int):
        return None
    taken = (_of_split if cut.op_type == "Split" else _of_slice)(file, cut, piece, predicted[0])
    if taken is None or len(taken) != count:
        return None
    return _Place(cut.input[0], taken.start, groups)


def _of_split(file: GraphView, node: onnx.NodeProto, piece: str, _: int) -> range | None:
    """The channels that an output of a Split has."""
    given = attributes_of(node)
    sizes = given.get("split") or file.integers(node, 1)
    if not _is_channels([given.get("axis", 0)]) or sizes is None:
        return None
    index = list(node.output).index(piece)
    return range(sum(sizes[:index]), sum(sizes[: index + 1]))


def _of_slice(file: GraphView, node: onnx.NodeProto, _: str, channels: int) -> range | None:
    """The channels that a Slice takes."""
    starts, ends, axes, steps = (file.integers(node, index) for index in range(1, 5))
    has_steps = len(node.input) > 4 and node.input[4]
    if not starts or not ends or not axes or not _is_channels(axes):
        return None
    if has_steps and steps != [1]:
        return None
    return range(*slice(starts[0], ends[0]).indices(channels))


def _is_channels(axes: Sequence[int]) -> bool:
    return list(axes) in ([_CHANNELS], [_CHANNELS - _MAP_RANK])
