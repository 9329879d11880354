"""Let a propagation take its gates and affinities as one convolution predicts them.

In the models ``lam``, ``u``, ``d`` and ``w`` are parts of one 1x1 convolution's output, cut along
its channels and reshaped to (N, 4, C, H, W) and (N, 4, 3, G, H, W). TensorRT copies each: a layer
of its own that moves few bytes and takes as long as a small propagation. The plugin finds the parts
in the whole by itself, so the cuts and the reshapes go.

The shapes that the file states must show that a reshape does nothing but part the channels; where
they do not, or where the parts come from different tensors, a node stays as it is. Whatever else
uses the parts keeps them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper

from gspn2_deploy.build.reshapes import Shape, annotated_shapes
from gspn2_deploy.export.check import is_ours, iterate_nodes
from gspn2_deploy.spec import (
    NEIGHBOURS,
    NUM_DIRECTIONS,
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


@dataclass(frozen=True)
class _File:
    """A graph by its tensors."""

    producers: Mapping[str, onnx.NodeProto]
    constants: Mapping[str, onnx.TensorProto]
    shapes: Mapping[str, Shape]

    def producer(self, name: str, *op_types: str) -> onnx.NodeProto | None:
        """The node that gives a tensor, if it is one of these ONNX ops."""
        node = self.producers.get(name)
        return node if node is not None and not node.domain and node.op_type in op_types else None

    def integers(self, node: onnx.NodeProto, index: int) -> list[int] | None:
        """An input's constant values; None where it is absent, or not known here."""
        tensor = self.constants.get(node.input[index]) if index < len(node.input) else None
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return [int(value) for value in numpy_helper.to_array(tensor).ravel()]

    def rank(self, name: str) -> int | None:
        """The number of a tensor's axes, if the file says it."""
        if name in self.constants:
            return len(self.constants[name].dims)
        return len(self.shapes[name]) if name in self.shapes else None


def pack_predictions(
    graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto]
) -> tuple[str, ...]:
    """Give every GspnProp2D the unsplit prediction where its parts all come from one, in place.

    Args:
        graph: A model's main graph.
        constants: Its initializers and constants by name.

    Returns:
        The names of the nodes that take one now.
    """
    producers = {output: node for node in graph.node for output in node.output}
    file = _File(producers, constants, annotated_shapes(graph))
    packed, freed = [], []
    for node in graph.node:
        packing = _find(file, node) if is_ours(node) and node.op_type == PROP2D else None
        if packing is None:
            continue
        freed += node.input[1:]
        del node.input[1:]
        node.input.append(packing.prediction)
        if packing.merge is not None:
            node.input.append(_as_vector(graph, constants, packing.merge))
        attributes = {PACKED_OFFSETS: packing.offsets, PACKED_GROUPS: packing.groups}
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
        packed.append(node.name)
    _drop_unused(graph, freed)
    return tuple(packed)


def _find(file: _File, node: onnx.NodeProto) -> _Packing | None:
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


def _unscaled(file: _File, name: str) -> tuple[str, ...]:
    """The u and the m that a file multiplies, as exports do that have m and no d; else u alone."""
    product = file.producer(name, "Mul")
    if product is not None:
        for u, scale in (product.input, reversed(product.input)):
            tensor = file.constants.get(scale)
            if tensor is not None and list(tensor.dims) == [NUM_DIRECTIONS, 1, 1, 1]:
                return u, scale
    return (name,)


def _as_vector(graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto], name: str) -> str:
    """The name of m with its one axis: a constant with more of them gets a copy."""
    if name not in constants or len(constants[name].dims) == 1:
        return name
    vector = onnx.TensorProto()
    vector.CopyFrom(constants[name])
    vector.name = f"{name}_vector"
    del vector.dims[1:]
    if all(tensor.name != vector.name for tensor in graph.initializer):
        graph.initializer.append(vector)
    return vector.name


@dataclass(frozen=True)
class _Place:
    """Where a part lies: from which channel of which tensor on."""

    prediction: str
    first: int
    groups: int  # G, where it is the affinities' place


def _locate(file: _File, name: str, x: Shape, is_affinity: bool) -> _Place | None:
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


def _of_split(file: _File, node: onnx.NodeProto, piece: str, _: int) -> range | None:
    """The channels that an output of a Split has."""
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    sizes = given.get("split") or file.integers(node, 1)
    if not _is_channels([given.get("axis", 0)]) or sizes is None:
        return None
    index = list(node.output).index(piece)
    return range(sum(sizes[:index]), sum(sizes[: index + 1]))


def _of_slice(file: _File, node: onnx.NodeProto, _: str, channels: int) -> range | None:
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


def _drop_unused(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Remove what gives these tensors, and what that alone needs, where nothing else uses it."""
    nodes = list(graph.node)
    producers = {output: index for index, node in enumerate(nodes) for output in node.output}
    uses = Counter(name for node in iterate_nodes(graph) for name in node.input)
    uses.update(value.name for value in graph.output)
    pending = list(names)
    dropped: set[int] = set()
    while pending:
        index = producers.get(pending.pop())
        if index is None or index in dropped or any(uses[name] for name in nodes[index].output):
            continue
        dropped.add(index)
        uses.subtract(nodes[index].input)
        pending += nodes[index].input
    del graph.node[:]
    graph.node.extend(node for index, node in enumerate(nodes) if index not in dropped)
