"""What the builder needs to know of an ONNX file, read without its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gspn2_deploy.errors import OnnxFileError
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.spec import ONNX_DOMAIN

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class OnnxSource:
    """An ONNX file's outside.

    Args:
        path: The file.
        inputs: Its inputs, without initializers.
        outputs: Its outputs.
        metadata: Its ``metadata_props``.
        propagations: Propagation ops by op type.
        dtypes: The element types of its inputs, outputs and weights.
        external_data: The files that hold its weights, by the name that it uses.
    """

    path: Path
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: Mapping[str, str]
    propagations: Mapping[str, int]
    dtypes: frozenset[str]
    external_data: Mapping[str, Path]

    @property
    def precision(self) -> str | None:
        """The precision that was baked in, if the file says so."""
        return self.metadata.get(PRECISION_KEY)

    def files(self) -> tuple[Path, ...]:
        """Return the file and those that hold its weights."""
        return (self.path, *self.external_data.values())

    def digests(self) -> tuple[str, dict[str, str]]:
        """Return the SHA-256 of the file, and of each of its external data files by name."""
        external = {name: sha256_of(path) for name, path in self.external_data.items()}
        return sha256_of(self.path), external


PRECISION_KEY = "gspn2.precision"


def read_onnx(path: Path) -> OnnxSource:
    """Read an ONNX file's interface; its weights stay on disk.

    Raises:
        OnnxFileError: The file is missing, not an ONNX file, empty, or its weights' file is not
            beside it.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise OnnxFileError(f"cannot read {path}", got=error.strerror or error) from error
    except (DecodeError, ValueError) as error:
        raise OnnxFileError(
            f"{path} is not an ONNX file, or is damaged", got=error, hint="export the model again"
        ) from error
    if not model.graph.output:
        raise OnnxFileError(
            f"{path} holds no model", got="a graph without outputs", hint="export the model again"
        )
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor_info(item) for item in model.graph.input if item.name not in weights)
    outputs = tuple(_tensor_info(item) for item in model.graph.output)
    dtypes = {tensor.dtype for tensor in (*inputs, *outputs)}
    dtypes |= {_dtype_name(tensor.data_type) for tensor in model.graph.initializer}
    return OnnxSource(
        path=path,
        inputs=inputs,
        outputs=outputs,
        metadata={item.key: item.value for item in model.metadata_props},
        propagations=dict(
            Counter(node.op_type for node in model.graph.node if node.domain == ONNX_DOMAIN)
        ),
        dtypes=frozenset(dtypes),
        external_data=_external_data(model, path),
    )


def _external_data(model: onnx.ModelProto, path: Path) -> dict[str, Path]:
    needed: dict[str, int] = {}  # the bytes that each file must at least have
    for tensor in model.graph.initializer:
        entry = {item.key: item.value for item in tensor.external_data}
        if "location" in entry:
            end = int(entry.get("offset", 0)) + int(entry.get("length", 0))
            needed[entry["location"]] = max(end, needed.get(entry["location"], 0))
    files = {}
    for name, size in sorted(needed.items()):
        file = path.parent / name
        found = file.stat().st_size if file.is_file() else None
        if found is None or found < size:
            raise OnnxFileError(
                f"the weights of {path.name} are {'missing' if found is None else 'truncated'}",
                got=f"no file {file}" if found is None else f"{file}: {found} bytes",
                expected=f"at least {size} bytes",
                hint="keep the ONNX file and its data file in one folder, or export again",
            )
        files[name] = file
    return files


def _tensor_info(item: onnx.ValueInfoProto) -> TensorInfo:
    tensor = item.type.tensor_type
    shape: list[int | str | None] = []
    for axis in tensor.shape.dim:
        if axis.HasField("dim_value"):
            shape.append(axis.dim_value)
        else:
            shape.append(axis.dim_param or None)
    return TensorInfo(item.name, _dtype_name(tensor.elem_type), tuple(shape))


def _dtype_name(data_type: int) -> str:
    import onnx

    name = str(onnx.TensorProto.DataType.Name(data_type)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
