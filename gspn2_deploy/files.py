"""Files and folders written whole or not at all, and content hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gspn2_deploy.errors import OutputError

_CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def staged_output(*targets: Path) -> Iterator[Path]:
    """Write files next to their destination and move them into place only on success.

    The caller writes each target under its own name into the yielded folder. When the block ends
    without an exception every file found there is renamed into the targets' folder; otherwise
    nothing is left and what stood there before is untouched. All targets share one folder.

    Args:
        targets: The final paths, at least one. Files beside them in the staging folder
            (an ONNX file's external data) move along.

    Yields:
        The staging folder, on the same file system as the targets.

    Raises:
        OutputError: The place is missing, not writable, or full, a target is a folder or a device,
            or a target was not written.
    """
    folder = targets[0].parent
    if any(target.parent != folder for target in targets):
        raise ValueError("staged targets must share one folder")
    with _as_output_error(folder, everything=True):
        for target in targets:
            _check_target(target)
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        with _as_output_error(folder):
            yield staging
            for target in targets:
                if not (staging / target.name).is_file():
                    raise OutputError(f"{target} was not written")
            # Companions first: the file that names them becomes visible last.
            named = {target.name for target in targets}
            for item in sorted(staging.iterdir(), key=lambda path: path.name in named):
                item.replace(folder / item.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_target(target: Path) -> None:
    """Refuse, before any work, what a finished file cannot or must not replace."""
    if target.exists() and not target.is_file():  # a device would be gone for the whole machine
        what = "a folder" if target.is_dir() else "no plain file but a device, pipe or socket"
        raise OutputError(f"{target} is {what}", expected="a file name", hint="choose another name")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all. It must hold no NaN and no infinity."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with staged_output(path) as staging:
        (staging / path.name).write_text(text, encoding="utf-8")


@contextmanager
def _as_output_error(folder: Path, *, everything: bool = False) -> Iterator[None]:
    """Turn what the file system says of the destination into an OutputError.

    Args:
        folder: The destination.
        everything: Whether any OSError can only be about the destination. Otherwise one that may
            be about another file, such as a reader's own FileNotFoundError, passes through.
    """
    try:
        yield
    except OSError as error:
        # A copy names two files: where it comes from and where it goes.
        named = [
            Path(name).resolve()
            for name in (error.filename, error.filename2)
            if isinstance(name, (str, Path))
        ]
        elsewhere = bool(named) and not any(path.is_relative_to(folder.resolve()) for path in named)
        if elsewhere and not everything:
            raise
        reasons = {
            errno.ENOSPC: ("the disk is full", "free some space or choose another place"),
            errno.EDQUOT: ("the quota is used up", "free some space or choose another place"),
            errno.EACCES: ("permission denied", "choose a folder that you may write to"),
            errno.EPERM: ("permission denied", "choose a folder that you may write to"),
            errno.EROFS: ("the file system is read-only", "choose another place"),
            errno.ENOTDIR: ("a part of the path is a file", "choose another place"),
            errno.EEXIST: ("a file stands where the folder should be", "choose another place"),
            errno.EFBIG: ("the file is too large for this file system", "choose another place"),
        }
        if error.errno in reasons:
            reason, hint = reasons[error.errno]
        elif everything:
            reason, hint = "no file can be made there", "choose another place"
        else:
            raise
        raise OutputError(
            f"cannot write to {folder}: {reason}", got=str(error), hint=hint
        ) from error
