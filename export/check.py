"""Read an exported file back and say whether it is whole, ours, and of this version."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from gspn2_deploy.errors import OnnxFileError
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.spec import ONNX_DOMAIN, ONNX_DOMAIN_VERSION, base_op

from . import metadata as meta

_EXPORT_AGAIN = "export the model again"
_DTYPE_NAMES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True)
class OnnxSummary:
    """What is in an exported file.

    Args:
        path: The file.
        opset: The default domain's version.
        op_version: The version of the ops' domain.
        op_counts: Propagation nodes by op (``GspnProp2D``, ``GspnLineScan``).
        functions: Names of the model-local function bodies.
        inputs: The inputs.
        outputs: The outputs.
        metadata: ``metadata_props``.
        external_data: Files that hold weights, with their size in bytes.
        altered: Whether weights in the file itself are not those that were exported. False where
            the file does not say their hash.
    """

    path: Path
    opset: int
    op_version: int
    op_counts: Mapping[str, int]
    functions: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: Mapping[str, str]
    external_data: Mapping[str, int]
    altered: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever uses the file should know."""
        if not self.altered:
            return ()
        return (
            f"the weights in {self.path.name} are not those that were exported: they were altered "
            "afterwards",
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "opset": self.opset,
            "op_version": self.op_version,
            "op_counts": dict(self.op_counts),
            "functions": list(self.functions),
            "inputs": [dataclasses.asdict(tensor) for tensor in self.inputs],
            "outputs": [dataclasses.asdict(tensor) for tensor in self.outputs],
            "metadata": dict(self.metadata),
            "external_data": dict(self.external_data),
        }


def check_onnx(path: Path, *, full: bool = True) -> OnnxSummary:
    """Check an exported file and summarise it.

    Args:
        path: The file; its external data lies beside it.
        full: Whether to refuse altered weights, to run ONNX's checker with strict shape inference
            and to hash external data too, which reads all weights.

    Returns:
        What is in it.

    Raises:
        OnnxFileError: The file is missing, corrupt, truncated, not one of ours, stale (written for
            another version of the ops), altered, or parted from its external data.
    """
    model = load_structure(path)
    _check_ours(path, model)
    external = _check_external_data(path, model, full=full)
    _check_functions(path, model)
    if full:
        run_checker(path)
    summary = _summary(path, model, external)
    if full and summary.altered:
        raise OnnxFileError(
            f"the weights in {path.name} were altered after the export",
            got="initialisers of another content",
            expected=f"SHA-256 {summary.metadata[meta.WEIGHTS_SHA256]}",
            hint=_EXPORT_AGAIN + ", from the model with the weights that are wanted",
        )
    return summary


def load_structure(path: Path) -> onnx.ModelProto:
    """Load a file without its external data.

    Raises:
        OnnxFileError: There is no such file, or it is not ONNX.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise OnnxFileError(
            f"{path} does not exist", hint="gspn2-deploy export writes it"
        ) from error
    except OSError as error:
        raise OnnxFileError(f"cannot read {path}", got=error.strerror or error) from error
    except (DecodeError, ValueError) as error:
        raise OnnxFileError(
            f"{path} is not an ONNX file, or is truncated", got=error, hint=_EXPORT_AGAIN
        ) from error
    if not model.graph.output:
        raise OnnxFileError(
            f"{path} holds no model", got="a graph without outputs", hint=_EXPORT_AGAIN
        )
    return model


def run_checker(path: Path) -> None:
    """Run ONNX's full check, strict shape inference included.

    Raises:
        OnnxFileError: It refuses the file.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
        RuntimeError,
    ) as error:
        raise OnnxFileError(
            f"ONNX's checker refuses {path}", got=error, hint=_EXPORT_AGAIN
        ) from error


def count_ops(model: onnx.ModelProto) -> dict[str, int]:
    """Count the propagation nodes by op, whichever body they call."""
    found = Counter(base_op(node.op_type) for node in iterate_nodes(model.graph) if is_ours(node))
    return dict(found)


def strip_functions(model: onnx.ModelProto) -> None:
    """Remove the bodies of the propagation ops, in place; each node becomes its bare op again.

    What is left needs an implementation of the ops, such as the TensorRT plugin. A parser that
    finds a body takes it instead of the plugin.

    Args:
        model: An exported model.
    """
    kept = [function for function in model.functions if function.domain != ONNX_DOMAIN]
    del model.functions[:]
    model.functions.extend(kept)
    for node in iterate_nodes(model.graph):
        if is_ours(node):
            node.op_type = base_op(node.op_type)


def is_ours(node: onnx.NodeProto) -> bool:
    """Whether a node is a propagation."""
    return bool(node.domain == ONNX_DOMAIN)


def iterate_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from iterate_nodes(inner)


def tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    """Name, dtype and shape of a graph's input or output."""
    tensor = value.type.tensor_type
    shape = tuple(
        axis.dim_value if axis.HasField("dim_value") else (axis.dim_param or None)
        for axis in tensor.shape.dim
    )
    name = str(onnx.TensorProto.DataType.Name(tensor.elem_type)).lower()
    return TensorInfo(value.name, _DTYPE_NAMES.get(name, name), shape)


def _check_ours(path: Path, model: onnx.ModelProto) -> None:
    versions = {item.domain: item.version for item in model.opset_import}
    if ONNX_DOMAIN not in versions:
        raise OnnxFileError(
            f"{path} holds no GSPN-2 propagation",
            got=f"op domains: {', '.join(name or 'ai.onnx' for name in versions)}",
            expected=f"the op domain {ONNX_DOMAIN!r}",
            hint="use a file that gspn2-deploy export wrote",
        )
    version = versions[ONNX_DOMAIN]
    if version != ONNX_DOMAIN_VERSION:
        newer = version > ONNX_DOMAIN_VERSION
        raise OnnxFileError(
            f"{path} was written for {'a newer' if newer else 'an older'} version of the ops",
            got=f"version {version}",
            expected=f"version {ONNX_DOMAIN_VERSION}",
            hint="upgrade gspn2-deploy" if newer else _EXPORT_AGAIN,
        )
    metadata = meta.read(model)
    lacking = meta.missing(metadata)
    if lacking:
        raise OnnxFileError(
            f"{path} was not written by gspn2-deploy, or a tool dropped its metadata",
            got=f"without {', '.join(lacking)}",
            hint=_EXPORT_AGAIN,
        )
    if damaged := meta.damaged(metadata):
        raise OnnxFileError(
            f"{path} has damaged metadata",
            got="; ".join(f"{key} = {metadata[key]}" for key in damaged),
            expected="JSON as gspn2-deploy export writes it",
            hint=_EXPORT_AGAIN,
        )
    counts, expected = count_ops(model), json.loads(metadata[meta.OP_COUNTS])
    if counts != expected or not counts:
        raise OnnxFileError(
            f"{path} does not hold the propagations that were exported",
            got=counts or "none: a tool may have inlined them",
            expected=expected,
            hint=_EXPORT_AGAIN + ", and do not pass it through an optimizer",
        )


def _check_functions(path: Path, model: onnx.ModelProto) -> None:
    bodies = {item.name: item for item in model.functions if item.domain == ONNX_DOMAIN}
    called = {node.op_type for node in iterate_nodes(model.graph) if is_ours(node)}
    if called - set(bodies):
        raise OnnxFileError(
            f"{path} lacks the function bodies of its propagations",
            got=", ".join(bodies) or "none",
            expected=", ".join(sorted(called)),
            hint=_EXPORT_AGAIN,
        )
    versions = {item.domain: item.version for item in model.opset_import}
    for name, body in bodies.items():
        for item in body.opset_import:
            if item.domain in versions and item.version != versions[item.domain]:
                raise OnnxFileError(
                    f"{path}: the body of {name} was written for another opset",
                    got=item.version,
                    expected=versions[item.domain],
                    hint=_EXPORT_AGAIN,
                )
    for node in iterate_nodes(model.graph):
        if is_ours(node):
            _check_call(path, node, bodies[node.op_type])


def _check_call(path: Path, node: onnx.NodeProto, body: onnx.FunctionProto) -> None:
    """A body serves one mode: the one that its attributes' defaults name."""
    given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    made_for = {
        item.name: onnx.helper.get_attribute_value(item)
        for item in body.attribute_proto
        if item.name != "chunk"
    }
    wrong = [name for name, value in made_for.items() if given.get(name) != value]
    if wrong or len(node.input) != len(body.input) or not all(node.input):
        raise OnnxFileError(
            f"{path}: the node {node.name} does not fit its function body",
            got=f"{len(node.input)} inputs, {given}",
            expected=f"{len(body.input)} inputs, {made_for}",
            hint=_EXPORT_AGAIN,
        )


def _check_external_data(path: Path, model: onnx.ModelProto, *, full: bool) -> dict[str, int]:
    recorded = json.loads(meta.read(model).get(meta.EXTERNAL_DATA, "{}"))
    used = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    sizes = {}
    for name in sorted(used | set(recorded)):
        file, entry = path.parent / name, recorded.get(name, {})
        found = file.stat().st_size if file.is_file() else None
        problem = None
        if found is None:
            problem = "is missing"
        elif found != entry.get("bytes"):
            problem = f"has {found} bytes, not {entry.get('bytes', 'recorded')}"
        elif full and sha256_of(file) != entry.get("sha256"):
            problem = "has another content"
        if problem:
            raise OnnxFileError(
                f"the weights of {path.name} do not belong to it",
                got=f"{file} {problem}",
                hint="keep the ONNX file and its data file together, or export the model again",
            )
        sizes[name] = found or 0
    return sizes


def _summary(path: Path, model: onnx.ModelProto, external: dict[str, int]) -> OnnxSummary:
    versions = {item.domain: item.version for item in model.opset_import}
    weights = {tensor.name for tensor in model.graph.initializer}
    return OnnxSummary(
        path=path,
        opset=versions.get("", 0),
        op_version=versions[ONNX_DOMAIN],
        op_counts=count_ops(model),
        functions=tuple(item.name for item in model.functions if item.domain == ONNX_DOMAIN),
        inputs=tuple(tensor_info(item) for item in model.graph.input if item.name not in weights),
        outputs=tuple(tensor_info(item) for item in model.graph.output),
        metadata=meta.read(model),
        external_data=external,
        altered=_altered(model),
    )


def _altered(model: onnx.ModelProto) -> bool:
    recorded = meta.read(model).get(meta.WEIGHTS_SHA256)
    return recorded is not None and recorded != meta.weights_sha256(
        (tensor.name, tensor.data_type, tensor.dims, _content(tensor))
        for tensor in sorted(model.graph.initializer, key=lambda item: item.name)
        if tensor.data_location != onnx.TensorProto.EXTERNAL
    )


def _content(tensor: onnx.TensorProto) -> bytes:
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    return bytes(onnx.numpy_helper.to_array(tensor).tobytes())
