"""The propagations of an exported file: found, marked as outputs, and taken out to run alone.

A marked copy gives, beside the model's outputs, what goes into and comes out of every propagation.
A copy with the propagations alone takes those inputs from the caller.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gspn2_deploy.errors import OnnxFileError
from gspn2_deploy.export import metadata as keys
from gspn2_deploy.export.check import is_ours, iterate_nodes, load_structure, tensor_info
from gspn2_deploy.runners.base import Array, Arrays
from gspn2_deploy.spec import base_op

_OUTPUT = "y"
_HINT = "use a file that gspn2-deploy export wrote"
_ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


@dataclass(frozen=True)
class Block:
    """One propagation of a file.

    Args:
        name: Its node's name, which says which module propagates.
        op_type: ``GspnProp2D`` or ``GspnLineScan``.
        inputs: The tensor that it takes, by the op's own name of the input (``x``, ``lam`` ...).
        output: The tensor that it gives.
        attributes: Its attributes.
        dtype: The element type that it gives; None where the file does not say.
        constants: The inputs that the file holds itself, by the op's name of them.
    """

    name: str
    op_type: str
    inputs: Mapping[str, str]
    output: str
    attributes: Mapping[str, Any]
    dtype: str | None = None
    constants: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class BlockValues:
    """What one propagation took and gave in some run; arrays by the op's names of the inputs."""

    inputs: Arrays
    output: Array


def read_blocks(path: Path) -> tuple[Block, ...]:
    """Find a file's propagations, in the order in which they run.

    Raises:
        OnnxFileError: It is not one of ours, or a propagation lies inside a loop or a branch.
    """
    model = load_structure(path)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    typed = {
        item.name: tensor_info(item) for item in (*model.graph.value_info, *model.graph.output)
    }
    blocks = []
    for node in model.graph.node:
        if is_ours(node):
            inputs = dict(zip(_formal_names(model, node), node.input, strict=True))
            constants = {
                formal: _constant(path, weights[name])
                for formal, name in inputs.items()
                if name in weights
            }
            blocks.append(
                Block(
                    node.name,
                    base_op(node.op_type),
                    inputs,
                    node.output[0],
                    {item.name: _value(item) for item in node.attribute},
                    typed[node.output[0]].dtype if node.output[0] in typed else None,
                    constants,
                )
            )
    total = sum(is_ours(node) for node in iterate_nodes(model.graph))
    names = {block.name for block in blocks}
    if not blocks or len(blocks) != total or len(names) != total or "" in names:
        raise OnnxFileError(
            f"the propagations of {path} cannot be looked at one by one",
            got=f"{len(blocks)} of {total} in the main graph, {len(names)} names",
            hint=_HINT,
        )
    return tuple(blocks)


def write_marked(path: Path, blocks: Sequence[Block], target: Path) -> Path:
    """Write a copy that also gives every propagation's inputs and output.

    Args:
        path: The file.
        blocks: Its propagations.
        target: Where to write; external data is linked or copied beside it.

    Returns:
        ``target``.

    Raises:
        OnnxFileError: The type of a tensor is not in the file and does not follow from it.
    """
    model = load_structure(path)
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    given |= {tensor.name for tensor in model.graph.initializer}
    wanted = [name for block in blocks for name in (*block.inputs.values(), block.output)]
    extra = [name for name in dict.fromkeys(wanted) if name not in given]
    types = _types(model, extra)
    missing = [name for name in extra if name not in types]
    if missing:
        raise OnnxFileError(
            f"{path} does not say of which type its tensors are",
            got=", ".join(missing),
            hint=_HINT,
        )
    model.graph.output.extend(types[name] for name in extra)
    onnx.save(model, target)
    for name in _external_files(model):
        _link(path.parent / name, target.parent / name)
    return target


def write_alone(
    path: Path,
    blocks: Sequence[Block],
    values: Mapping[str, BlockValues],
    target: Path,
    *,
    dtype: str | None = None,
) -> Path:
    """Write a file of the propagations alone, each with inputs of its own, side by side.

    Args:
        path: The file that they are taken from.
        blocks: Which.
        values: For each, by its name, arrays of the shapes and types that it is to take.
        target: Where to write.
        dtype: The element type of all, in place of the values' own.

    Returns:
        ``target``. Its tensors are named as :func:`alone_inputs` and :func:`alone_output` say.
    """
    source = load_structure(path)
    by_name = {node.name: node for node in source.graph.node if is_ours(node)}
    nodes, inputs, outputs = [], [], []
    for block in blocks:
        node = onnx.NodeProto()
        node.CopyFrom(by_name[block.name])
        taken = values[block.name]
        del node.input[:], node.output[:]
        for formal in block.inputs:  # in the node's order
            name = f"{block.name}/{formal}"
            node.input.append(name)
            inputs.append(_declared(name, taken.inputs[formal], dtype))
        node.output.append(alone_output(block))
        outputs.append(_declared(alone_output(block), taken.output, dtype))
        nodes.append(node)
    graph = helper.make_graph(nodes, "propagations", inputs, outputs)
    model = helper.make_model(
        graph,
        functions=[item for item in source.functions if item.domain],
        opset_imports=source.opset_import,
        ir_version=source.ir_version,
    )
    about_weights = (keys.EXTERNAL_DATA, keys.WEIGHTS_SHA256)  # there are none
    kept = [item for item in source.metadata_props if item.key not in about_weights]
    model.metadata_props.extend(kept)
    onnx.save(model, target)
    return target


def alone_inputs(blocks: Sequence[Block], values: Mapping[str, BlockValues]) -> Arrays:
    """What to feed a file that :func:`write_alone` wrote."""
    return {
        f"{block.name}/{formal}": array
        for block in blocks
        for formal, array in values[block.name].inputs.items()
    }


def alone_output(block: Block) -> str:
    """The name of a propagation's output in a file that :func:`write_alone` wrote."""
    return f"{block.name}/{_OUTPUT}"


def values_of(blocks: Sequence[Block], inputs: Arrays, outputs: Arrays) -> dict[str, BlockValues]:
    """Sort what a marked file gave by propagation.

    Args:
        blocks: The propagations.
        inputs: What the marked file was fed.
        outputs: What it gave.
    """
    tensors = {**inputs, **outputs}
    return {
        block.name: BlockValues(
            {
                formal: block.constants[formal] if formal in block.constants else tensors[name]
                for formal, name in block.inputs.items()
            },
            tensors[block.output],
        )
        for block in blocks
    }


def _formal_names(model: onnx.ModelProto, node: onnx.NodeProto) -> list[str]:
    """The op's names of a node's inputs, as its function body declares them."""
    body = next((item for item in model.functions if is_ours_function(item, node)), None)
    if body is None or len(body.input) != len(node.input):
        raise OnnxFileError(f"the node {node.name} has no function body", hint=_HINT)
    return list(body.input)


def is_ours_function(function: onnx.FunctionProto, node: onnx.NodeProto) -> bool:
    """Whether a function is the body of a node."""
    return bool(function.domain == node.domain and function.name == node.op_type)


def _value(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _constant(path: Path, tensor: TensorProto) -> Array:
    array: Array = numpy_helper.to_array(tensor, base_dir=str(path.parent))
    return array


def _types(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, onnx.ValueInfoProto]:
    known = {value.name: value for value in model.graph.value_info}
    if any(name not in known for name in names):
        inferred = onnx.shape_inference.infer_shapes(model)
        known = {**{value.name: value for value in inferred.graph.value_info}, **known}
    return {name: known[name] for name in names if name in known}


def _declared(name: str, array: Array, dtype: str | None) -> onnx.ValueInfoProto:
    kind = _ELEMENT_TYPES[dtype or array.dtype.name]
    return helper.make_tensor_value_info(name, kind, array.shape)


def _external_files(model: onnx.ModelProto) -> set[str]:
    return {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _link(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return  # the folder was used before, or is the file's own
    target.unlink(missing_ok=True)
    # Not a symbolic link: onnx takes those for an attempt to read elsewhere.
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def as_dtype(values: Mapping[str, BlockValues], dtype: type[np.generic]) -> dict[str, BlockValues]:
    """The same values in another element type."""
    return {
        name: BlockValues(
            {formal: array.astype(dtype) for formal, array in item.inputs.items()},
            item.output.astype(dtype),
        )
        for name, item in values.items()
    }
