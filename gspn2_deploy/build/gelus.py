"""Say GELUs in half precision by ops that TensorRT before 10 computes fast.

A file says x * 0.5 * (1 + erf(x / sqrt(2))). TensorRT 8.6 computes that behind the convolution
ahead of it, one division and one erf to an element, and such a convolution takes 2.8 times as long
as one without. Here it is x * sigmoid(x * p(min(x^2, 36))), p of degree 2: to within 5e-5, its
constants in float16, a tenth of what rounding to float16 does to values of 1 to 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gspn2_deploy.build.graph_view import GraphView, drop_unused, pairs

# p(s) = (A5 * s + A3) * s + A1, fitted to the logit of the normal distribution function so that
# the largest error of the GELU is least; beyond x^2 = 36 the sigmoid is 0 or 1.
_A1, _A3, _A5 = 1.59501559, 7.40114603e-2, -7.03061579e-4
_LARGEST_SQUARE = 36.0
_HALF = "float16"  # TensorRT before 10 has no other
_ROUNDING = 2.0**-10  # relative, of a constant in it


def simplify_gelus(
    graph: onnx.GraphProto,
    constants: Mapping[str, onnx.TensorProto],
    types: Mapping[str, str],
) -> int:
    """Put a sigmoid in the place of each GELU's erf in half precision, in place.

    Args:
        graph: A model's main graph.
        constants: Its initializers and constants by name.
        types: The element type by tensor name, as far as the file says it.

    Returns:
        How many there were.
    """
    file = GraphView(graph, constants)
    found = {
        node.output[0]: x
        for node in graph.node
        if node.output
        and types.get(node.output[0]) == _HALF
        and (x := _gelu_of(file, node)) is not None
    }
    nodes: list[onnx.NodeProto] = []
    needed: list[str] = []
    for node in graph.node:
        x = found.get(node.output[0]) if node.output else None
        if x is None:
            nodes.append(node)
            continue
        nodes += _simplified(file, x, node)
        needed += node.input
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unused(graph, needed)
    return len(found)


def _gelu_of(file: GraphView, node: onnx.NodeProto) -> str | None:
    """The x of a node that gives its GELU, in whatever order the three factors are multiplied."""
    for factors in _factors(file, node):
        for x, half, total in _orders(factors):
            if _is(file, half, 0.5) and any(
                _is(file, one, 1.0) and _divided(file, erf) == x
                for erf, one in pairs(file.producer(total, "Add"))
            ):
                return x
    return None


def _factors(file: GraphView, node: onnx.NodeProto) -> Iterator[tuple[str, str, str]]:
    """The three factors of a product of two products."""
    if not node.domain and node.op_type == "Mul":
        for one, product in pairs(node):
            inner = file.producer(product, "Mul")
            if inner is not None:
                yield one, inner.input[0], inner.input[1]


def _orders(factors: tuple[str, str, str]) -> Iterator[tuple[str, str, str]]:
    a, b, c = factors
    yield from ((a, b, c), (a, c, b), (b, a, c), (b, c, a), (c, a, b), (c, b, a))


def _divided(file: GraphView, name: str) -> str | None:
    """The x of a tensor that is erf(x / sqrt(2))."""
    erf = file.producer(name, "Erf")
    if erf is None:
        return None
    division = file.producer(erf.input[0], "Div")
    if division is not None and _is(file, division.input[1], math.sqrt(2.0)):
        return str(division.input[0])
    for x, factor in pairs(file.producer(erf.input[0], "Mul")):
        if _is(file, factor, math.sqrt(0.5)):
            return x
    return None


def _is(file: GraphView, name: str, value: float) -> bool:
    """Whether a tensor is this one number, as its type rounds it."""
    given = file.constant(name)
    return (
        given is not None
        and given.size == 1
        and math.isclose(float(given.reshape(())), value, rel_tol=_ROUNDING)
    )


def _simplified(file: GraphView, x: str, gelu: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    output = gelu.output[0]
    stem = file.free_name(f"{output}_by_sigmoid")

    def constant(name: str, value: float) -> str:
        tensor = numpy_helper.from_array(np.array(value, _HALF))
        return file.add_constant(f"gelu_{name}", tensor)

    def node(op_type: str, one: str, other: str | None, result: str) -> onnx.NodeProto:
        name = f"{stem}_{result}" if result else output
        if result:
            value = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, None)
            file.graph.value_info.append(value)
        inputs = [one] if other is None else [one, other]
        return helper.make_node(op_type, inputs, [name], name if result else gelu.name or name)

    largest = constant("largest_square", _LARGEST_SQUARE)
    a1, a3, a5 = constant("a1", _A1), constant("a3", _A3), constant("a5", _A5)
    s = f"{stem}_s"
    yield node("Mul", x, x, "square")
    yield node("Min", f"{stem}_square", largest, "s")
    yield node("Mul", s, a5, "a5_s")
    yield node("Add", f"{stem}_a5_s", a3, "a3_a5_s")
    yield node("Mul", f"{stem}_a3_a5_s", s, "rest")
    yield node("Add", f"{stem}_rest", a1, "p")
    yield node("Mul", x, f"{stem}_p", "logit")
    yield node("Sigmoid", f"{stem}_logit", None, "phi")
    yield node("Mul", x, f"{stem}_phi", "")
