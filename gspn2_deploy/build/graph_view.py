"""A graph by its tensors: who gives and uses them, what they hold, and what shapes they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gspn2_deploy.build.reshapes import Shape, annotated_shapes
from gspn2_deploy.export.check import iterate_nodes
from gspn2_deploy.spec import ONNX_DOMAIN


@dataclass(frozen=True)
class GraphView:
    """A graph as it was when this was made.

    Args:
        graph: A model's main graph.
        constants: Its initializers and constants by name.
    """

    graph: onnx.GraphProto
    constants: Mapping[str, onnx.TensorProto]
    producers: Mapping[str, onnx.NodeProto] = field(init=False)
    shapes: Mapping[str, Shape] = field(init=False)
    users: Mapping[str, list[onnx.NodeProto]] = field(init=False)  # nodes of this graph
    uses: Mapping[str, int] = field(init=False)  # by nodes, those of inner graphs too, and outputs

    def __post_init__(self) -> None:
        """Look through the graph once."""
        producers = {output: node for node in self.graph.node for output in node.output}
        users: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node)
        object.__setattr__(self, "producers", producers)
        object.__setattr__(self, "shapes", annotated_shapes(self.graph))
        object.__setattr__(self, "users", users)
        object.__setattr__(self, "uses", _count_uses(self.graph))

    def producer(self, name: str, *op_types: str) -> onnx.NodeProto | None:
        """The node that gives a tensor, if it is one of these ONNX ops."""
        node = self.producers.get(name)
        return node if is_op(node, *op_types) else None

    def only_user(self, name: str, *op_types: str) -> onnx.NodeProto | None:
        """The one node that uses a tensor, if it is one of these ONNX ops."""
        found = self.users.get(name, [])
        if len(found) != 1 or self.uses[name] != 1:
            return None
        return found[0] if is_op(found[0], *op_types) else None

    def values(self, node: onnx.NodeProto, index: int) -> NDArray[np.generic] | None:
        """An input's constant values; None where it is absent, or not known here."""
        return self.constant(node.input[index]) if index < len(node.input) else None

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """A tensor's constant values; None where they are not known here."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)

    def integers(self, node: onnx.NodeProto, index: int) -> list[int] | None:
        """An input's constant values in one row; None as for :meth:`values`."""
        found = self.values(node, index)
        return None if found is None else [int(value) for value in found.ravel()]

    def rank(self, name: str) -> int | None:
        """The number of a tensor's axes, if the file says it."""
        if name in self.constants:
            return len(self.constants[name].dims)
        return len(self.shapes[name]) if name in self.shapes else None

    def as_vector(self, name: str) -> str:
        """The name of a constant with one axis: that of a copy where it has more of them."""
        if name not in self.constants or len(self.constants[name].dims) == 1:
            return name
        vector = onnx.TensorProto()
        vector.CopyFrom(self.constants[name])
        vector.dims[:] = [int(np.prod(self.constants[name].dims))]
        return self.add_constant(f"{name}_vector", vector)

    def add_constant(self, name: str, tensor: onnx.TensorProto) -> str:
        """Add an initializer, unless the graph has it, and return its name.

        It ends in another way where the graph has something else of the name that is asked for.
        """
        added = onnx.TensorProto()
        added.CopyFrom(tensor)
        added.name = name
        if added in self.graph.initializer:
            return name
        added.name = self.free_name(name)
        self.graph.initializer.append(added)
        return added.name

    def free_name(self, name: str, *endings: str) -> str:
        """A name for a tensor, and with each ending behind it for others, that the graph lacks."""
        while any(self._has(name + ending) for ending in ("", *endings)):
            name += "_"
        return name

    def _has(self, name: str) -> bool:
        """Whether a tensor of this graph is called so, one that was added to it too."""
        return (
            name in self.producers
            or name in self.shapes
            or name in self.constants
            or any(tensor.name == name for tensor in self.graph.initializer)
        )


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def is_op(node: onnx.NodeProto | None, *op_types: str) -> bool:
    """Whether there is a node, and it is one of these ONNX ops."""
    return node is not None and not node.domain and node.op_type in op_types


def keeps_size(conv: onnx.NodeProto, kernel: int, group: int) -> bool:
    """Whether a Conv has this square kernel, these groups, and a result of its input's size.

    Its strides and dilations are 1, and its pads are half the kernel on every side.
    """
    wanted = {
        "group": group,
        "auto_pad": b"NOTSET",
        "pads": [kernel // 2] * 4,
        "strides": [1, 1],
        "dilations": [1, 1],
        "kernel_shape": [kernel, kernel],
    }
    given = {"group": 1, "pads": [0] * 4, **attributes_of(conv)}
    return all(given.get(key, value) == value for key, value in wanted.items())


def pairs(node: onnx.NodeProto | None) -> Iterator[tuple[str, str]]:
    """The inputs of a node with two, in either order."""
    if node is not None and len(node.input) == 2:
        one, other = node.input
        yield one, other
        yield other, one


def put_plugins(
    graph: onnx.GraphProto,
    op_type: str,
    found: Mapping[str, tuple[str, list[str], dict[str, Any]]],
    second: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Put a plugin's node in the place of each of these outputs' producers, in place.

    What the producers alone needed goes with them.

    Args:
        graph: A model's main graph.
        op_type: The plugin.
        found: By output: a name for the node, its inputs and its attributes.
        second: By output: the second one, where the node has two, whose producer goes.

    Returns:
        The op type by the name of each new node.
    """
    names = {node.name for node in graph.node}
    new: dict[str, str] = {}
    seconds = second or {}
    joined = set(seconds.values())
    nodes, needed = [], []
    for node in graph.node:
        output = node.output[0] if node.output else ""
        if output in joined:
            needed += node.input
            continue
        if output not in found:
            nodes.append(node)
            continue
        stem, inputs, attributes = found[output]
        name = f"{op_type}_{stem}"
        while name in names:
            name += "_"
        names.add(name)
        new[name] = op_type
        needed += node.input
        outputs = [output, seconds[output]] if output in seconds else [output]
        nodes.append(
            helper.make_node(op_type, inputs, outputs, name, domain=ONNX_DOMAIN, **attributes)
        )
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph, needed)
    return new


def drop_unused(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Remove what gives these tensors, and what that alone needs, where nothing else uses it.

    Initializers go too.
    """
    nodes = list(graph.node)
    producers = {output: index for index, node in enumerate(nodes) for output in node.output}
    uses = _count_uses(graph)
    pending = list(names)
    dropped: set[int] = set()
    unused: set[str] = set()
    while pending:
        name = pending.pop()
        index = producers.get(name)
        if index is None and not uses[name]:
            unused.add(name)
        if index is None or index in dropped or any(uses[name] for name in nodes[index].output):
            continue
        dropped.add(index)
        uses.subtract(nodes[index].input)
        pending += nodes[index].input
    del graph.node[:]
    graph.node.extend(node for index, node in enumerate(nodes) if index not in dropped)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name in unused:
            del graph.initializer[index]


def _count_uses(graph: onnx.GraphProto) -> Counter[str]:
    """How often each tensor is read: by nodes, those of inner graphs too, and as an output."""
    uses = Counter(name for node in iterate_nodes(graph) for name in node.input)
    uses.update(value.name for value in graph.output)
    return uses
