"""The model-local function bodies: both operators in standard ONNX ops.

With them an exported file runs in plain onnxruntime and parses in TensorRT for RTX. A body serves
every N, C, H and W, shared (G = 1) and per-channel weights, every ``chunk`` and every dtype; it
computes in float32 and casts out. ONNX has no way to branch on a string attribute that TensorRT
accepts, so a body serves one :class:`Variant` only.

Two directions of one axis share a ``Scan``. Its step axis comes first; segments of ``chunk`` steps
are independent and join the batch, which makes every segment's first step the first step of the
``Scan``.

Source: GSPN-2 (arXiv 2512.07884), section 3; GSPN (arXiv 2501.12381) for the normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gspn2_deploy.spec import (
    DIRECTIONS,
    LINE_SCAN_ATTRIBUTES,
    LINE_SCAN_SHAPES,
    NEIGHBOURS,
    NUM_DIRECTIONS,
    ONNX_DOMAIN,
    ONNX_DOMAIN_VERSION,
    PROP2D,
    PROP2D_ATTRIBUTES,
    PROP2D_OPTIONAL,
    PROP2D_SHAPES,
    SIGMOID_SUM_MIN,
    Direction,
    Normalize,
)

_LOWEST = float(np.finfo(np.float32).min)  # stands in for the logit of a missing neighbour
_INT64_MIN = int(np.iinfo(np.int64).min)
_EXP_SUM_MIN = 0.5  # a softmax's sum is at least 1; 0 only where every neighbour is masked


@dataclass(frozen=True)
class Variant:
    """What a function body is made for.

    Args:
        op_type: ``GspnProp2D`` or ``GspnLineScan``.
        normalize: How affinities become weights.
        direction: The direction of a line scan, None for a ``GspnProp2D``.
        optional: The optional inputs that the nodes give.
    """

    op_type: str
    normalize: Normalize
    direction: Direction | None = None
    optional: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What tells this variant's function from those of the op's other variants."""
        parts = [self.normalize.value, *self.optional]
        if self.direction is not None:
            parts.insert(0, self.direction.value)
        return "_".join(parts)


def build_function(variant: Variant, name: str, opset: int) -> onnx.FunctionProto:
    """Build the body of one variant.

    Args:
        variant: What to build.
        name: The function's name; nodes of that op_type call it.
        opset: The default domain's version, the same as the model's.

    Returns:
        The function, in the domain ``gspn2``.
    """
    if variant.op_type == PROP2D:
        shapes, attributes, body = PROP2D_SHAPES, PROP2D_ATTRIBUTES, _prop2d(variant)
    else:
        shapes, attributes, body = LINE_SCAN_SHAPES, LINE_SCAN_ATTRIBUTES, _line_scan(variant)
    defaults: dict[str, Any] = {**attributes, "normalize": variant.normalize.value}
    if variant.direction is not None:
        defaults["direction"] = variant.direction.value
    *inputs, output = shapes
    # Only what the nodes give: TensorRT wants as many inputs as the function declares.
    inputs = [key for key in inputs if key not in PROP2D_OPTIONAL or key in variant.optional]
    function = helper.make_function(
        ONNX_DOMAIN,
        name,
        inputs,
        [output],
        body.nodes,
        [helper.make_opsetid("", opset), helper.make_opsetid(ONNX_DOMAIN, ONNX_DOMAIN_VERSION)],
        # With defaults: TensorRT reads 0 for an attribute without one.
        attribute_protos=[helper.make_attribute(key, value) for key, value in defaults.items()],
    )
    function.doc_string = (
        f"{variant.op_type} version {ONNX_DOMAIN_VERSION} in standard ops: {variant.suffix}"
    )
    return function


class _Body:
    """Collects nodes and names their outputs."""

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._prefix = prefix
        self._constants: dict[tuple[Any, ...], str] = {}

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        return self.ops(op_type, 1, *inputs, **attributes)[0]

    def ops(self, op_type: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Append a node with several outputs and return their names."""
        stem = f"{self._prefix}{op_type.lower()}_{len(self.nodes)}"
        outputs = [f"{stem}_{index}" if count > 1 else stem for index in range(count)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=stem, **attributes))
        return outputs

    def ints(self, *values: int) -> str:
        """A vector of int64."""
        return self._constant(np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """A scalar int64."""
        return self._constant(np.array(value, np.int64))

    def number(self, value: float) -> str:
        """A scalar float32."""
        return self._constant(np.array(value, np.float32))

    def attribute(self, name: str) -> str:
        """A scalar int64 with the value of one of the function's attributes."""
        output = self.op("Constant")
        reference = self.nodes[-1].attribute.add()
        reference.name = "value_int"
        reference.ref_attr_name = name
        reference.type = onnx.AttributeProto.INT
        return output

    def extent(self, value: str, axis: int) -> str:
        """An extent of a tensor, as a vector of one int64."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def _constant(self, value: np.ndarray[Any, Any]) -> str:
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            tensor = numpy_helper.from_array(value)
            self._constants[key] = self.op("Constant", value=tensor)
        return self._constants[key]


def _prop2d(variant: Variant) -> _Body:
    body = _Body()
    x, lam, w, u, *rest = (
        body.op("Cast", name, to=TensorProto.FLOAT)
        for name in ("x", "lam", "w", "u", *variant.optional)
    )
    optional = dict(zip(variant.optional, rest, strict=True))
    source = body.op("Unsqueeze", x, body.ints(1))  # (N, 1, C, H, W)
    drives = body.ops("Split", 2, body.op("Mul", lam, source), axis=1, num_outputs=2)
    weights = body.ops("Split", 2, w, axis=1, num_outputs=2)
    pairs = (DIRECTIONS[:2], DIRECTIONS[2:])
    states = [
        _scan(body, drive, affinity, pair, variant.normalize)
        for drive, affinity, pair in zip(drives, weights, pairs, strict=True)
    ]
    part = body.op("Mul", u, body.op("Concat", *states, axis=1))  # (N, 4, C, H, W)
    if "d" in optional:
        part = body.op("Add", part, body.op("Mul", optional["d"], source))
    if "m" in optional:
        shape = body.ints(NUM_DIRECTIONS, 1, 1, 1)
        part = body.op("Mul", part, body.op("Reshape", optional["m"], shape))
    y = body.op("ReduceSum", part, body.ints(1), keepdims=0)
    body.nodes.append(helper.make_node("CastLike", [y, "x"], ["y"], name="cast_out"))
    return body


def _line_scan(variant: Variant) -> _Body:
    assert variant.direction is not None
    body = _Body()
    x, lam, w = (body.op("Cast", name, to=TensorProto.FLOAT) for name in ("x", "lam", "w"))
    axis = body.ints(1)  # of the directions, of which there is one
    drive = body.op("Unsqueeze", body.op("Mul", lam, x), axis)
    affinity = body.op("Unsqueeze", w, axis)
    states = _scan(body, drive, affinity, (variant.direction,), variant.normalize)
    h = body.op("Squeeze", states, axis)
    body.nodes.append(helper.make_node("CastLike", [h, "x"], ["h"], name="cast_out"))
    return body


def _scan(
    body: _Body, drive: str, w: str, directions: Sequence[Direction], normalize: Normalize
) -> str:
    """Scan along one axis, K = 1 or 2 directions at once.

    Args:
        body: Where the nodes go.
        drive: lam * x, (N, K, C, H, W), float32.
        w: Raw affinities, (N, K, 3, G, H, W), float32.
        directions: K directions of one axis.
        normalize: How affinities become weights.

    Returns:
        The states, (N, K, C, H, W).
    """
    horizontal = directions[0].horizontal
    axis = 4 if horizontal else 3  # of drive, that the scan steps along
    reverse = [direction.reverse for direction in directions]
    fold = _Fold(body, drive, horizontal)
    drive = fold.apply(_flip(body, drive, axis, reverse), lead=3)
    w = fold.apply(_flip(body, w, axis + 1, reverse), lead=4)
    # Scan wants its axis T first: (T, N, K, C, ...) and (T, N, K, 3, G, ...), where ... is (L, S)
    # for a horizontal scan and (S, L) for a vertical one. Moving one axis is what onnxruntime's
    # Transpose is fast at.
    drive = _move_axis(body, drive, 5 if horizontal else 4, 0, rank=6)
    w = _move_axis(body, w, 6 if horizontal else 5, 0, rank=7)
    weights = _normalized(body, w, horizontal, normalize)
    parts = body.ops("Split", NEIGHBOURS, weights, axis=3, num_outputs=NEIGHBOURS)
    parts = [body.op("Squeeze", part, body.ints(3)) for part in parts]
    initial = body.op(
        "ConstantOfShape",
        body.op("Shape", drive, start=1),
        value=helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
    )
    step = _step(3 if horizontal else 4)
    _, states = body.ops("Scan", 2, initial, drive, *parts, num_scan_inputs=4, body=step)
    return _flip(body, fold.undo(states), axis, reverse)


def _move_axis(body: _Body, value: str, source: int, target: int, rank: int) -> str:
    order = [axis for axis in range(rank) if axis != source]
    order.insert(target, source)
    return body.op("Transpose", value, perm=order)


class _Fold:
    """Cuts the steps of a scan into segments of ``chunk``, the last one padded, and back.

    Args:
        body: Where the nodes go.
        drive: (N, K, C, H, W).
        horizontal: Whether the scan steps along W.
    """

    def __init__(self, body: _Body, drive: str, horizontal: bool) -> None:
        self._body = body
        self._horizontal = horizontal
        self._steps = body.extent(drive, 4 if horizontal else 3)
        self._length = body.extent(drive, 3 if horizontal else 4)
        chunk = body.attribute("chunk")
        one = body.ints(1)
        whole = body.op("Equal", chunk, body.integer(0))
        # T, the steps of a segment: a vector of one.
        self.segment = body.op("Where", whole, self._steps, body.op("Min", chunk, self._steps))
        last = body.op("Sub", body.op("Add", self._steps, self.segment), one)
        segments = body.op("Div", last, self.segment)
        self._padding = body.op("Sub", body.op("Mul", segments, self.segment), self._steps)

    def apply(self, value: str, lead: int) -> str:
        """Pad and cut the axis of the steps, S segments of T.

        Args:
            value: (..., H, W) with ``lead`` axes in front.
            lead: 3 for the drive, 4 for the affinities.

        Returns:
            (..., H, S, T) for a horizontal scan, (..., S, T, W) for a vertical one.
        """
        body = self._body
        rank = lead + 2
        if self._horizontal:
            pads = [body.ints(*[0] * (2 * rank - 1)), self._padding]
            shape = [body.ints(*[0] * (lead + 1), -1), self.segment]
        else:
            pads = [body.ints(*[0] * (2 * rank - 2)), self._padding, body.ints(0)]
            shape = [body.ints(*[0] * lead, -1), self.segment, self._length]
        padded = body.op("Pad", value, body.op("Concat", *pads, axis=0))
        return body.op("Reshape", padded, body.op("Concat", *shape, axis=0))

    def undo(self, states: str) -> str:
        """(T, N, K, C, L, S) or (T, N, K, C, S, L) -> (N, K, C, H, W)."""
        body = self._body
        if self._horizontal:
            value = _move_axis(body, states, 0, 5, rank=6)
            value = body.op("Reshape", value, body.ints(0, 0, 0, 0, -1))
            axis = 4
        else:
            value = _move_axis(body, states, 0, 4, rank=6)
            shape = body.op("Concat", body.ints(0, 0, 0, -1), self._length, axis=0)
            value = body.op("Reshape", value, shape)
            axis = 3
        return body.op("Slice", value, body.ints(0), self._steps, body.ints(axis))


def _flip(body: _Body, value: str, axis: int, reverse: Sequence[bool]) -> str:
    """Reverse an axis for those of the K directions, on axis 1, that scan backwards."""
    if not any(reverse):
        return value
    parts = [value]
    if len(reverse) > 1:
        parts = body.ops("Split", len(reverse), value, axis=1, num_outputs=len(reverse))
    flipped = [
        body.op("Slice", part, body.ints(-1), body.ints(_INT64_MIN), body.ints(axis), body.ints(-1))
        if backwards
        else part
        for part, backwards in zip(parts, reverse, strict=True)
    ]
    return body.op("Concat", *flipped, axis=1) if len(flipped) > 1 else flipped[0]


def _normalized(body: _Body, w: str, horizontal: bool, normalize: Normalize) -> str:
    """Weights from affinities, both (T, N, K, 3, G, L, S) or (T, N, K, 3, G, S, L).

    They are 0 where there is nothing to weigh: beyond the line's two ends, and at a segment's
    first step. Whatever stands there, NaN included, has no influence.
    """
    axis = 5 if horizontal else 6  # of the line
    length = body.op("Squeeze", body.extent(w, axis))
    zero, one = body.integer(0), body.integer(1)
    position = body.op("Range", zero, length, one)
    position = body.op("Reshape", position, body.ints(-1, *[1] * (6 - axis)))
    offset = body.op("Reshape", body.ints(-1, 0, 1), body.ints(NEIGHBOURS, 1, 1, 1))
    neighbour = body.op("Add", position, offset)
    within = body.op(
        "And", body.op("GreaterOrEqual", neighbour, zero), body.op("Less", neighbour, length)
    )
    step = body.op("Range", zero, body.op("Squeeze", body.extent(w, 0)), one)
    step = body.op("Reshape", step, body.ints(-1, *[1] * 6))
    valid = body.op("And", within, body.op("Greater", step, zero))  # (T, 1, 1, 3, 1, L, 1)
    nothing = body.number(0.0)
    if normalize is Normalize.NONE:
        return body.op("Where", valid, w, nothing)
    if normalize is Normalize.SIGMOID:
        # Not the op Sigmoid: onnxruntime's is exact to 1e-7 absolutely, which is nothing of the
        # ratio of two small ones.
        exponential = body.op("Exp", body.op("Neg", w))
        sigmoid = body.op("Reciprocal", body.op("Add", exponential, body.number(1.0)))
        gate = body.op("Where", valid, sigmoid, nothing)
        least = SIGMOID_SUM_MIN
    else:
        logits = body.op("Where", valid, w, body.number(_LOWEST))
        peak = body.op("ReduceMax", logits, body.ints(3), keepdims=1)
        # Masked again: where nothing is valid the difference is 0.
        gate = body.op("Where", valid, body.op("Exp", body.op("Sub", logits, peak)), nothing)
        least = _EXP_SUM_MIN
    total = body.op("ReduceSum", gate, body.ints(3), keepdims=1)
    return body.op("Div", gate, body.op("Max", total, body.number(least)))


def _step(axis: int) -> onnx.GraphProto:
    """One step of a Scan: ``h[t, p] = sum_j w_j h[t-1, p+j] + drive[t, p]``.

    Args:
        axis: The line's, in the state and drive (N, K, C, ...) and the weights (N, K, G, ...),
            which have five axes. A zero on either side of the line stands for the neighbours that
            do not exist.
    """
    body = _Body("step_")
    pads = [int(index == axis) for index in range(5)]
    ends = int(np.iinfo(np.int64).max)
    wide = body.op("Pad", "step_state", body.ints(*pads, *pads))
    low = body.op("Slice", wide, body.ints(0), body.ints(-2), body.ints(axis))
    high = body.op("Slice", wide, body.ints(2), body.ints(ends), body.ints(axis))
    pairs = (("step_before", low), ("step_same", "step_state"), ("step_after", high))
    terms = [body.op("Mul", weight, state) for weight, state in pairs]
    body.nodes.append(
        helper.make_node("Sum", ["step_drive", *terms], ["step_next"], name="step_next")
    )
    body.nodes.append(helper.make_node("Identity", ["step_next"], ["step_out"], name="step_out"))
    names = ("step_state", "step_drive", "step_before", "step_same", "step_after")
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in group]
        for group in (names, ("step_next", "step_out"))
    )
    return helper.make_graph(body.nodes, "gspn2_step", inputs, outputs)
