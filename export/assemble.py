"""Finish a translated graph: tidy it, attach the function bodies, write it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx_ir as ir

from gspn2_deploy import __version__
from gspn2_deploy.files import sha256_of
from gspn2_deploy.spec import (
    LINE_SCAN,
    ONNX_DOMAIN,
    ONNX_DOMAIN_VERSION,
    PROP2D_OPTIONAL,
    PROP2D_SHAPES,
    Direction,
    Normalize,
)

from . import metadata as meta
from .functions import Variant, build_function

_NAME_SCOPES = "pkg.torch.onnx.name_scopes"
_IDENTITY_DIGITS = 12
_SMALL_TENSOR_BYTES = 1024  # stays in the file: shapes and scalars, which shape inference reads


def clean(model: ir.Model) -> None:
    """Name the propagations after their modules, and drop what only a debugger of torch needs.

    The exporter writes stack traces with the paths of this machine into every node.
    """
    used = {node.name for node in model.graph}
    for node in _nodes(model.graph):
        if node.domain == ONNX_DOMAIN:
            node.name = _free_name(_scope_name(node), used)
            used.add(node.name)
        node.metadata_props.clear()
        for output in node.outputs:
            output.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    model.producer_name, model.producer_version = "gspn2-deploy", __version__


def attach_functions(model: ir.Model, opset: int) -> None:
    """Give every propagation a body to call.

    A model whose nodes of one op all need the same variant calls a function of the op's own name.
    Where it mixes variants (four directions of ``GspnLineScan``, two ways to normalise), each gets
    a function of the op's name and the variant's: ONNX's overloads would say the same, but
    TensorRT ignores them and takes one body for all. ``strip_functions`` restores the op's name.

    Args:
        model: A translated model; changed in place.
        opset: The default domain's version in the model.
    """
    nodes = [node for node in _nodes(model.graph) if node.domain == ONNX_DOMAIN]
    variants = {id(node): _variant(node) for node in nodes}
    for op_type in sorted({node.op_type for node in nodes}):
        distinct = sorted(
            {item for item in variants.values() if item.op_type == op_type},
            key=lambda item: item.suffix,
        )
        for variant in distinct:
            name = op_type if len(distinct) == 1 else f"{op_type}_{variant.suffix}"
            function = ir.serde.deserialize_function(build_function(variant, name, opset))
            model.functions[function.identifier()] = function
            for node in nodes:
                if variants[id(node)] == variant:
                    node.op_type = name
    model.opset_imports[ONNX_DOMAIN] = ONNX_DOMAIN_VERSION


def save(model: ir.Model, path: Path, external_data_bytes: int) -> None:
    """Write a model, with its weights in a second file when they are too large for one.

    The metadata gets hashes of both, by which a later change of a weight is noticed.

    The second file's name holds a digest of what was exported and how: another export never
    overwrites the weights of the file that is there.

    Args:
        model: The model; its weights are replaced by references when they move out.
        path: The ONNX file to write.
        external_data_bytes: Weights of more bytes than this move out.
    """
    weights = model.graph.initializers.values()
    size = sum(value.const_value.nbytes for value in weights if value.const_value is not None)
    if size > external_data_bytes:
        identity = json.dumps(dict(model.metadata_props), sort_keys=True).encode()
        digest = hashlib.sha256(identity).hexdigest()[:_IDENTITY_DIGITS]
        data = path.with_name(f"{path.name}.{digest}.data")
        ir.external_data.unload_from_model(
            model, path.parent, data.name, size_threshold_bytes=_SMALL_TENSOR_BYTES
        )
        entry = {"bytes": data.stat().st_size, "sha256": sha256_of(data)}
        model.metadata_props[meta.EXTERNAL_DATA] = json.dumps({data.name: entry})
    model.metadata_props[meta.WEIGHTS_SHA256] = meta.weights_sha256(_inline_weights(model))
    ir.save(model, path)


def remove_stale_data(path: Path, keep: Iterable[str]) -> None:
    """Delete the data files of earlier exports to the same name.

    Args:
        path: The ONNX file that was just replaced.
        keep: The names of the data files that it uses.
    """
    pattern = re.compile(re.escape(path.name) + rf"\.[0-9a-f]{{{_IDENTITY_DIGITS}}}\.data")
    for file in path.parent.iterdir():
        if pattern.fullmatch(file.name) and file.name not in keep:
            file.unlink(missing_ok=True)


def _inline_weights(model: ir.Model) -> Iterator[tuple[str, int, tuple[int, ...], bytes]]:
    for name in sorted(model.graph.initializers):
        tensor = model.graph.initializers[name].const_value
        if tensor is not None and not isinstance(tensor, ir.ExternalTensor):
            yield name, tensor.dtype.value, tuple(tensor.shape.numpy()), tensor.tobytes()


def _variant(node: ir.Node) -> Variant:
    normalize = Normalize(node.attributes.get_string("normalize"))
    if node.op_type == LINE_SCAN:
        direction = Direction(node.attributes.get_string("direction"))
        return Variant(LINE_SCAN, normalize, direction)
    given = list(PROP2D_SHAPES)[: len(node.inputs)]
    return Variant(
        node.op_type, normalize, optional=tuple(name for name in PROP2D_OPTIONAL if name in given)
    )


def _scope_name(node: ir.Node) -> str:
    """The dotted name of the module that propagates, as far as the exporter knows it."""
    scopes = re.findall(r"'([^']*)'", node.metadata_props.get(_NAME_SCOPES, ""))
    modules = [scope for scope in scopes[:-1] if scope]  # the last one is the node's own
    kind = "line_scan" if node.op_type == LINE_SCAN else "prop2d"
    return f"{modules[-1]}.{kind}" if modules else kind


def _free_name(name: str, used: set[str | None]) -> str:
    if name not in used:
        return name
    count = 1
    while f"{name}_{count}" in used:
        count += 1
    return f"{name}_{count}"


def _nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    return ir.traversal.RecursiveGraphIterator(graph)
