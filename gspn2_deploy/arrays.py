"""NumPy's array files, read without running what they may hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no archive, or holds Python objects; the text says which.
    """
    with _plain(path) as stream:
        archive = np.load(stream, allow_pickle=False)
        if not isinstance(archive, np.ndarray):
            with archive:
                return {name: archive[name] for name in archive.files}
    raise ValueError("it holds one array without a name, as numpy.save writes it")


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of an ``.npy`` file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, holds Python objects or several arrays; the text says which.
    """
    with _plain(path) as stream:
        array = np.load(stream, allow_pickle=False)
        if isinstance(array, np.ndarray):
            return array
        array.close()
        raise ValueError("it holds several arrays: name it .npz")


@contextmanager
def _plain(path: Path) -> Iterator[BinaryIO]:
    """Open a file, and turn what NumPy raises into a ValueError that helps the file's owner."""
    try:
        with path.open("rb") as stream:  # NumPy leaves a file open that it cannot read
            yield stream
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError, TypeError) as error:
        # NumPy takes whatever it does not know for a pickle, and tells how to run it.
        reason = "neither plain arrays nor an archive of them" if "pickle" in str(error) else error
        raise ValueError(str(reason) or type(error).__name__) from error
