"""What an exported file says about itself, in ``metadata_props``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import onnx

from gspn2_deploy import __version__
from gspn2_deploy.errors import ExportError
from gspn2_deploy.spec import ONNX_DOMAIN_VERSION

if TYPE_CHECKING:
    from torch import nn

MODEL = "gspn2.model"  # its name
CONFIG = "gspn2.config"  # JSON, empty where the model has none
PACKAGE_VERSION = "gspn2.package_version"
OP_VERSION = "gspn2.op_version"  # of the ops' ONNX domain
TORCH_VERSION = "gspn2.torch_version"
ONNX_VERSION = "gspn2.onnx_version"
PRECISION = "gspn2.precision"  # fp32, fp16, bf16 or mixed
BASE_PRECISION = "gspn2.base_precision"  # of everything that is not kept in fp32
KEEP_FP32 = "gspn2.keep_fp32"  # JSON list of module names
IO_DTYPE = "gspn2.io_dtype"  # fp32, or precision for the base precision
SOURCE_SHA256 = "gspn2.source_sha256"  # weights before conversion, and configuration
DYNAMIC_AXES = "gspn2.dynamic_axes"  # JSON, names of the free axes by input and axis
INPUT_SIZE = "gspn2.input_size"  # JSON, [height, width] in pixels of the example
INPUT_MEAN = "gspn2.input_mean"  # JSON, per channel, of images scaled to 0..1
INPUT_STD = "gspn2.input_std"
OP_COUNTS = "gspn2.op_counts"  # JSON, propagations by op
WEIGHTS_SHA256 = "gspn2.weights_sha256"  # of the initialisers inside the file itself
EXTERNAL_DATA = "gspn2.external_data"  # JSON, {file: {"bytes": ..., "sha256": ...}}

# What is read back as JSON, and what it must then be.
_FORMS: dict[str, Callable[[Any], bool]] = {
    OP_COUNTS: lambda value: isinstance(value, dict),
    KEEP_FP32: lambda value: _all(value, str),
    INPUT_SIZE: lambda value: _all(value, int) and len(value) == 2,
    EXTERNAL_DATA: lambda value: isinstance(value, dict) and _all(list(value.values()), dict),
}
_REQUIRED = (PACKAGE_VERSION, OP_VERSION, PRECISION, SOURCE_SHA256, OP_COUNTS)


def describe_model(model: nn.Module, name: str | None) -> dict[str, str]:
    """Metadata that follows from the model alone.

    Args:
        model: The model as the user gave it, before it was converted.
        name: What to call it; None for its configuration's name, or its class.

    Raises:
        ExportError: Its ``input_mean`` or ``input_std`` is not a number per channel.
    """
    import torch

    config = getattr(model, "config", None)
    text = config_json(config)
    found = {
        MODEL: name or getattr(config, "name", None) or type(model).__name__,
        CONFIG: text,
        SOURCE_SHA256: source_sha256(model, text),
        PACKAGE_VERSION: __version__,
        OP_VERSION: str(ONNX_DOMAIN_VERSION),
        TORCH_VERSION: str(torch.__version__),
        ONNX_VERSION: onnx.__version__,
    }
    for key, attribute in ((INPUT_MEAN, "input_mean"), (INPUT_STD, "input_std")):
        value = getattr(model, attribute, getattr(config, attribute, None))
        if value is not None:
            found[key] = json.dumps(_per_channel(attribute, value))
    return found


def _per_channel(attribute: str, value: Any) -> list[float]:
    """Numbers in a list or in a tensor of any shape, such as a buffer (1, C, 1, 1)."""
    import torch

    try:
        plain = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        plain = None
    if plain is None or plain.ndim == 0:
        raise ExportError(
            f"the model's {attribute} does not hold a number per channel",
            got=repr(value),
            expected="a list or a tensor, as in [0.485, 0.456, 0.406]",
        )
    numbers: list[float] = plain.detach().cpu().flatten().tolist()
    return numbers


def config_json(config: Any) -> str:
    """A model's configuration as JSON; empty where there is none that JSON can hold."""
    if hasattr(config, "to_json"):
        return str(config.to_json())
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        return ""
    try:
        return json.dumps(config, sort_keys=True)
    except TypeError:
        return ""


def source_sha256(model: nn.Module, config: str) -> str:
    """Hash a model's weights and configuration.

    Args:
        model: The model; parameters and persistent buffers count, with their names and types. That
            ``torch.compile`` wrapped some part of it makes no difference.
        config: Its configuration as JSON.

    Returns:
        Hexadecimal SHA-256.
    """
    import torch

    digest = hashlib.sha256(config.encode())
    plain = {_uncompiled(name): value for name, value in model.state_dict().items()}
    for name, value in sorted(plain.items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _uncompiled(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def weights_sha256(weights: Iterable[tuple[str, int, Iterable[int], bytes]]) -> str:
    """Hash the initialisers that lie in an ONNX file itself.

    Args:
        weights: Name, ONNX element type, shape and little-endian content of each, by name.

    Returns:
        Hexadecimal SHA-256.
    """
    digest = hashlib.sha256()
    for name, dtype, shape, content in weights:
        digest.update(f"\n{name} {dtype} {tuple(shape)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def read(model: onnx.ModelProto) -> dict[str, str]:
    """A file's metadata."""
    return {item.key: item.value for item in model.metadata_props}


def missing(metadata: Mapping[str, str]) -> list[str]:
    """The keys that every exported file has and this one lacks."""
    return [key for key in _REQUIRED if key not in metadata]


def damaged(metadata: Mapping[str, str]) -> list[str]:
    """The keys whose values are not of the form that an export writes."""
    return [key for key in _FORMS if key in metadata and not _well_formed(key, metadata[key])]


def _well_formed(key: str, text: str) -> bool:
    try:
        return _FORMS[key](json.loads(text))
    except ValueError:
        return False


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def names(metadata: Mapping[str, str], key: str) -> tuple[str, ...]:
    """A JSON list of names; empty where the key is absent."""
    return tuple(json.loads(metadata.get(key, "[]")))
