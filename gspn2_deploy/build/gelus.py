"""Say GELUs in half precision by ops that TensorRT before 10 computes fast.

A file says x * 0.5 * (1 + erf(x / sqrt(2))). TensorRT 8.6 computes that behind the convolution
ahead of it, one division and one erf to an element, and such a convolution takes 2.8 times as long
as one without. Here it is x * sigmoid(x * p(min(x^2, 36))), p of degree 2: to within 5e-5, its
constants in float16, a tenth of what rounding to float16 does to values of 1 to 2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gspn2_deploy.build.graph_view import GraphView, is_op, pairs, replace_producers

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
        node.output[0]: _simplified(file, x, node)
        for node in graph.node
        if node.output
        and types.get(node.output[0]) == _HALF
        and (x := _gelu_of(file, node)) is not None
    }
    replace_producers(graph, found)
    return len(found)


def _gelu_of(file: GraphView, node: onnx.NodeProto) -> str | None:
    """The x of a node that gives its GELU, in whatever order the three factors are multiplied."""
    for factors in _factors(file, node):
        for x, half, total in itertools.permutations(factors):
            if _is(file, half, 0.5) and any(
                _is(file, one, 1.0) and _divided(file, erf) == x
                for erf, one in pairs(file.producer(total, "Add"))
            ):
                return x
    return None


def _factors(file: GraphView, node: onnx.NodeProto) -> Iterator[tuple[str, str, str]]:
    """The three factors of a product of two products."""
    if is_op(node, "Mul"):
        for one, product in pairs(node):
            inner = file.producer(product, "Mul")
            if inner is not None:
                yield one, inner.input[0], inner.input[1]


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


def _simplified(file: GraphView, x: str, gelu: onnx.NodeProto) -> list[onnx.NodeProto]:
    output = gelu.output[0]
    stem = file.free_name(f"{output}_by_sigmoid")
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: float) -> str:
        tensor = numpy_helper.from_array(np.array(value, _HALF))
        return file.add_constant(f"gelu_{name}", tensor)

    def op(name: str, op_type: str, *inputs: str) -> str:
        result = f"{stem}_{name}"
        nodes.append(helper.make_node(op_type, inputs, [result], result))
        value = helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT16, None)
        file.graph.value_info.append(value)
        return result

    s = op("s", "Min", op("square", "Mul", x, x), constant("largest_square", _LARGEST_SQUARE))
    slope = op("a3_a5_s", "Add", op("a5_s", "Mul", s, constant("a5", _A5)), constant("a3", _A3))
    p = op("p", "Add", op("rest", "Mul", slope, s), constant("a1", _A1))
    phi = op("phi", "Sigmoid", op("logit", "Mul", x, p))
    nodes.append(helper.make_node("Mul", [x, phi], [output], gelu.name or output))
    return nodes
