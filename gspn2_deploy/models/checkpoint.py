"""Load and save trained weights. No file is ever unpickled with code execution allowed."""

from __future__ import annotations

import json
import logging
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gspn2_deploy.errors import CheckpointError, UsageError
from gspn2_deploy.files import staged_output
from gspn2_deploy.models.config import ModelConfig
from gspn2_deploy.models.gspn2 import Gspn2
from gspn2_deploy.models.wrappers import unwrap

_LOG = logging.getLogger(__name__)
_LISTED = 10  # keys of each kind that an error names
_WRAPPERS = ("state_dict", "model", "model_ema", "state_dict_ema")  # the first one present is taken
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel, torch.compile
_LFS_POINTER = b"version https://git-lfs"
# The sentences in which PyTorch names what it refuses, without its advice to disarm it.
_REFUSAL = re.compile(
    r"(Unsupported (global|class)|Trying to|Can only)[^\n]*?(?= was not an allowed|\. |\.?\n|$)"
)
_OPERAND = re.compile(r"Unsupported operand \d+")
_CONVERT_HINT = (
    "where you trust the file, save the weights alone: "
    "torch.save(model.state_dict(), 'weights.pt'), or save_checkpoint for safetensors"
)


@dataclass(frozen=True)
class LoadReport:
    """What a non-strict load left out.

    Args:
        missing: Keys of the model that the checkpoint lacks; they kept their values.
        unexpected: Keys of the checkpoint that the model lacks.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_checkpoint(model: nn.Module, path: str | Path, strict: bool = True) -> LoadReport:
    """Load weights from a safetensors file or a PyTorch file, told apart by their content.

    A PyTorch file may hold the state dict itself or one under ``state_dict``, ``model``,
    ``model_ema`` or ``state_dict_ema``, with the prefixes of DataParallel and torch.compile; where
    these wrapped parts of the model, as in ``stages.0._orig_mod.norm.weight``, they are taken out
    of the keys if that gives the model's own, each once.
    Values are converted to the dtype and device of the model's own. On an error the model is
    unchanged.

    Args:
        model: The model to fill.
        path: The checkpoint.
        strict: Whether missing and unexpected keys are errors. Different shapes always are.

    Returns:
        The keys that were left out; empty after a strict load.

    Raises:
        CheckpointError: The file is missing, truncated, not loadable safely, or does not fit.
    """
    path = Path(path)
    model = unwrap(model)  # the prefixes go off on both sides
    own = model.state_dict()
    state = _renamed(read_state_dict(path), own)
    missing = tuple(key for key in own if key not in state)
    unexpected = tuple(key for key in state if key not in own)
    shapes = [
        f"{key}: checkpoint {tuple(value.shape)}, model {tuple(own[key].shape)}"
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    ]
    nothing = len(missing) == len(own)
    if shapes or nothing or (strict and (missing or unexpected)):
        raise CheckpointError(
            f"{path} does not fit the model",
            got="\n".join(
                [
                    *_listed("missing", missing),
                    *_listed("unexpected", unexpected),
                    *_listed("of another shape", shapes),
                ]
            ),
            expected=f"the {len(own)} keys of {type(model).__name__}",
            hint="create the model with the options that it was trained with"
            + (
                "; load_checkpoint(model, path, strict=False) loads what fits"
                if strict and not shapes and not nothing
                else ""
            ),
        )
    model.load_state_dict(state, strict=False)
    return LoadReport(missing, unexpected)


def save_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Write a model's weights as safetensors, whole or not at all.

    A :class:`Gspn2` carries its name and configuration along, so that
    :func:`model_from_checkpoint` needs the file only. Equal models give equal files.

    Args:
        model: The model; any dtype and device.
        path: The file to write, replaced where it exists.

    Raises:
        OutputError: The place is not writable or full.
    """
    path = Path(path)
    model = unwrap(model)
    metadata = {"model": type(model).__qualname__}
    if isinstance(model, Gspn2):
        metadata = {"model": model.config.name, "config": model.config.to_json()}
    # Cloned: safetensors refuses tensors that share memory, such as tied weights.
    tensors = {
        key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()
    }
    content = _with_sorted_metadata(safetensors.torch.save(tensors, metadata))
    with staged_output(path) as staging:
        (staging / path.name).write_bytes(content)


def model_from_checkpoint(path: str | Path) -> Gspn2:
    """Rebuild a model from a file that :func:`save_checkpoint` wrote.

    Args:
        path: A safetensors file with the configuration in its metadata.

    Returns:
        The trained model on the CPU, in the dtype it was saved in, in evaluation mode.

    Raises:
        CheckpointError: The file is missing, truncated, without a configuration, or with one
            that this version does not know.
    """
    path = Path(path)
    metadata = read_metadata(path)
    if "config" not in metadata:
        raise CheckpointError(
            f"{path} does not say which model it belongs to",
            got=f"metadata {sorted(metadata)}" if metadata else "no metadata",
            expected="a safetensors file written by save_checkpoint",
            hint="name the model with --model; in Python, create_model(name) and "
            "load_checkpoint(model, path)",
        )
    try:
        model = Gspn2(ModelConfig.from_json(metadata["config"]))
    except UsageError as error:
        raise CheckpointError(
            f"{path}: {error.problem}",
            got=error.got,
            expected=error.expected,
            hint="the file may come from another version of this package",
        ) from error
    model.to(next(iter(_floating(read_state_dict(path))), torch.float32))
    load_checkpoint(model, path)
    return model.eval()


def read_metadata(path: Path) -> dict[str, str]:
    """Return a safetensors file's metadata; empty for PyTorch files.

    Raises:
        CheckpointError: The file is missing or corrupt.
    """
    if not _is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="pt") as stream:
            return dict(stream.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _corrupt(path, error) from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by key, unwrapped, on the CPU.

    Raises:
        CheckpointError: The file is missing, corrupt, unsafe, or holds no state dict.
    """
    if not _is_safetensors(path):
        return _unwrap(_torch_load(path), path)
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise _corrupt(path, error) from error
    return tensors


def _with_sorted_metadata(content: bytes) -> bytes:
    """Order a safetensors file's metadata: safetensors shuffles it, so that no two saves agree.

    Source: safetensors' format: the header's length in 8 little-endian bytes, the header as JSON
    padded with spaces to a multiple of 8, the data.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the header's length in 8 bytes, then JSON."""
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_LFS_POINTER))
    except FileNotFoundError as error:
        raise CheckpointError(
            "no such checkpoint",
            got=path,
            expected="a .safetensors or PyTorch file",
            hint=f"check the path; it is looked for from {Path.cwd()}",
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}",
            got=error.strerror,
            expected="a .safetensors or PyTorch file that you may read",
        ) from error
    if not head:
        raise CheckpointError(f"{path} is empty", hint="copy or download it again")
    if head == _LFS_POINTER:
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself", hint="git lfs pull"
        )
    return head[8:9] == b"{"


def _torch_load(path: Path) -> Any:
    try:
        # A stream, because torch.load takes a path's suffix for its format.
        with path.open("rb") as stream, warnings.catch_warnings():
            # PyTorch warns of pickle protocols that it may not know; what matters is the outcome.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes it raise nearly anything
        text = str(error)
        if "TorchScript" in text:
            raise CheckpointError(
                f"{path} is a TorchScript archive: it holds code, not only weights",
                expected="a state dict",
                hint=_CONVERT_HINT,
            ) from error
        refused = _REFUSAL.search(text) if isinstance(error, pickle.UnpicklingError) else None
        if refused is None:
            raise _corrupt(path, error) from error
        raise CheckpointError(
            f"{path} is refused: loading it would run code that the file names",
            got=refused[0],
            expected="tensors in plain containers",
            hint=_CONVERT_HINT,
        ) from error


def _corrupt(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().split("\n")[0].split(". ")[0]
    if isinstance(error, pickle.UnpicklingError):
        # Only the cause: PyTorch's text goes on to advise switching the safety off.
        cause = _OPERAND.search(str(error))
        reason = cause[0] if cause else "not a pickle that PyTorch can read"
    elif not isinstance(error, SafetensorError | RuntimeError | EOFError):
        # Garbage that happens to be a pickle's first bytes: KeyError 101, OSError 22.
        reason = "not a file that PyTorch can read"
    return CheckpointError(
        f"{path} is truncated, corrupt, or not a checkpoint",
        got=f"{path.stat().st_size} bytes: {reason or type(error).__name__}",
        expected="a .safetensors file or one that torch.save wrote",
        hint="compare its size with the original's and copy or download it again",
    )


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        found = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if found:
            if len(found) > 1:
                others = ", ".join(map(repr, found[1:]))
                _LOG.warning(
                    "%s: taking %r and not %s; save that alone where you mean it",
                    *(path, found[0], others),
                )
            return _unwrap(content[found[0]], path)
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(key): value for key, value in content.items()}
    raise CheckpointError(
        f"{path} holds no state dict",
        got=f"a dict with the keys {json.dumps([str(key) for key in content][:_LISTED])}"
        if isinstance(content, Mapping)
        else type(content).__name__,
        expected="tensors by key, bare or under " + ", ".join(_WRAPPERS),
    )


def _renamed(state: dict[str, Tensor], own: Mapping[str, Any]) -> dict[str, Tensor]:
    """Name a checkpoint's tensors as the model does, where only wrappers tell the names apart."""
    stripped = state
    for prefix in ("", *_PREFIXES * 2):  # either may be inside the other
        if all(key.startswith(prefix) for key in stripped):
            stripped = {key[len(prefix) :]: value for key, value in stripped.items()}
        if stripped.keys() <= own.keys():
            return stripped
    # Parts of either may be wrapped. Only a whole match, one to one, is beyond doubt: a model may
    # have a part of its own that is called "module".
    names = {_plain(key): key for key in own}
    plain = {_plain(key): value for key, value in state.items()}
    if len(names) == len(own) and len(plain) == len(state) and plain.keys() == names.keys():
        return {names[key]: value for key, value in plain.items()}
    return stripped


def _plain(key: str) -> str:
    return ".".join(part for part in key.split(".") if f"{part}." not in _PREFIXES)


def _floating(state: dict[str, Tensor]) -> Iterable[torch.dtype]:
    return (value.dtype for value in state.values() if value.dtype.is_floating_point)


def _listed(kind: str, keys: Iterable[str]) -> list[str]:
    keys = list(keys)
    if not keys:
        return []
    more = f", and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return [f"{len(keys)} {kind}: {', '.join(keys[:_LISTED])}{more}"]
