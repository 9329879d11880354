"""Why onnxruntime computes a propagation wrongly: its node's attributes, or its function body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gspn2_deploy import __version__
from gspn2_deploy.export import metadata as keys
from gspn2_deploy.export.check import is_ours, load_structure
from gspn2_deploy.export.functions import Variant, build_function
from gspn2_deploy.spec import PROP2D_OPTIONAL, Direction, Normalize
from gspn2_deploy.validate.blocks import Block, is_ours_function

_LISTED = 3  # nodes of a body that are named


def explain(path: Path, block: Block, told: Mapping[str, Any] | None = None) -> str:
    """Say what is wrong with what onnxruntime runs for a propagation.

    Args:
        path: The file.
        block: One of its propagations.
        told: The attributes with which PyTorch calls it; None where PyTorch does not run.

    Returns:
        A clause that names the attribute, or the function body and its nodes that are not what an
        export writes.
    """
    wrong = [name for name, value in (told or {}).items() if block.attributes.get(name) != value]
    if told is not None and wrong:
        says, calls = (
            ", ".join(f"{name}={values.get(name)}" for name in wrong)
            for values in (block.attributes, told)
        )
        return f"its node says {says}, and PyTorch calls it with {calls}: export again"
    model = load_structure(path)
    node = next(item for item in model.graph.node if is_ours(item) and item.name == block.name)
    body = next(item for item in model.functions if is_ours_function(item, node))
    differing = list(_differences(body, _as_written(model, block, body)))
    version = keys.read(model).get(keys.PACKAGE_VERSION, __version__)
    origin = "" if version == __version__ else f" (the file is of {version})"
    written = f"what gspn2-deploy {__version__} writes{origin}"
    if not differing:
        return f"its function body {body.name} is {written}: onnxruntime runs it wrongly"
    more = f", and {len(differing) - _LISTED} more nodes" if len(differing) > _LISTED else ""
    return (
        f"its function body {body.name} is not {written}: {', '.join(differing[:_LISTED])}{more}; "
        "export again"
    )


def _as_written(
    model: onnx.ModelProto, block: Block, body: onnx.FunctionProto
) -> onnx.FunctionProto:
    direction = block.attributes.get("direction")
    variant = Variant(
        block.op_type,
        Normalize(block.attributes["normalize"]),
        None if direction is None else Direction(direction),
        tuple(name for name in PROP2D_OPTIONAL if name in body.input),
    )
    opset = next(item.version for item in model.opset_import if not item.domain)
    written: onnx.FunctionProto = build_function(variant, body.name, opset)
    return written


def _differences(
    found: onnx.FunctionProto | onnx.GraphProto, expected: onnx.FunctionProto | onnx.GraphProto
) -> Iterator[str]:
    for node, wanted in zip_longest(found.node, expected.node):
        if node is None:
            yield f"{wanted.name} is missing"
        elif wanted is None:
            yield f"{node.name} is none of its nodes"
        elif node != wanted:
            yield from _difference(node, wanted)


def _difference(node: onnx.NodeProto, wanted: onnx.NodeProto) -> Iterator[str]:
    """What tells two nodes apart; nothing where the same values are only stored otherwise."""
    if (node.op_type, node.domain) != (wanted.op_type, wanted.domain):
        yield f"{node.name} is {node.op_type} instead of {wanted.op_type}"
        return
    if list(node.input) != list(wanted.input) or list(node.output) != list(wanted.output):
        yield f"{node.name} ({node.op_type}) is wired otherwise"
        return
    held = {item.name: item for item in node.attribute}
    asked = {item.name: item for item in wanted.attribute}
    for name in sorted(held.keys() | asked.keys()):
        mine, theirs = held.get(name), asked.get(name)
        if mine is None or theirs is None or mine.type != theirs.type:
            yield f"{node.name} ({node.op_type}) has another attribute {name}"
        elif mine.type == onnx.AttributeProto.GRAPH:
            yield from _differences(mine.g, theirs.g)
        elif mine.type == onnx.AttributeProto.TENSOR:
            values, right = numpy_helper.to_array(mine.t), numpy_helper.to_array(theirs.t)
            if values.dtype != right.dtype or not np.array_equal(values, right):
                yield f"{node.name} holds {values.tolist()} instead of {right.tolist()}"
        elif mine != theirs:
            value, right = map(helper.get_attribute_value, (mine, theirs))
            yield f"{node.name} ({node.op_type}) has {name}={value} instead of {right}"
