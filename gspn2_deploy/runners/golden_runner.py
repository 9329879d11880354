"""Playback of recorded inputs and outputs as a runner."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gspn2_deploy.errors import GoldenFileError
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.base import Array, Arrays, Kind, Runner


@dataclass(frozen=True)
class Recording:
    """Inputs and the outputs that belong to them, by name."""

    inputs: Arrays
    outputs: Arrays


class GoldenRunner(Runner):
    """Answers with what was recorded, for exactly the inputs that were recorded.

    Args:
        recordings: At least one; all with the same names and dtypes.
        source: Where they come from, for reports.
        name: The runner's name in reports.

    Raises:
        GoldenFileError: There is no recording, or they do not fit together.
    """

    kind: ClassVar[Kind] = Kind.GOLDEN

    def __init__(
        self, recordings: Sequence[Recording], *, source: str = "", name: str = "golden"
    ) -> None:
        super().__init__(name)
        if not recordings or not recordings[0].inputs or not recordings[0].outputs:
            raise GoldenFileError("there is no golden sample to compare with", got=source or None)
        self._recordings = tuple(recordings)
        self._source = source
        first = recordings[0]
        self._input_specs = tuple(
            TensorInfo(key, value.dtype.name, (None,) * value.ndim)
            for key, value in first.inputs.items()
        )
        if any(
            set(item.inputs) != set(first.inputs) or set(item.outputs) != set(first.outputs)
            for item in recordings
        ):
            raise GoldenFileError("golden samples have different names", got=source or None)
        self._answers: dict[bytes, Arrays] = {}

    @property
    def input_specs(self) -> tuple[TensorInfo, ...]:
        """The recorded inputs, every extent free."""
        return self._input_specs

    @property
    def output_names(self) -> tuple[str, ...]:
        """The recorded outputs."""
        return tuple(self._recordings[0].outputs)

    def activate(self) -> None:
        """Index the recordings by the content of their inputs."""
        self._answers = {_key(item.inputs): item.outputs for item in self._recordings}

    def deactivate(self) -> None:
        """Drop the index."""
        self._answers = {}

    def can_run(self, inputs: Mapping[str, Array]) -> bool:
        """Whether these very inputs were recorded."""
        return _key(inputs) in self._answers

    def infer_impl(self, inputs: Arrays) -> Arrays:
        """Return a copy of the recorded outputs.

        Raises:
            GoldenFileError: These inputs were not recorded.
        """
        if not self.can_run(inputs):
            raise GoldenFileError("these inputs were not recorded", got=self._source or None)
        return {name: value.copy() for name, value in self._answers[_key(inputs)].items()}

    def describe(self) -> dict[str, Any]:
        """The source and the number of recordings."""
        return {"name": self.name, "source": self._source, "recordings": len(self._recordings)}


def _key(inputs: Mapping[str, Array]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(inputs):
        value = inputs[name]
        digest.update(f"{name} {value.dtype.name} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).tobytes())
    return digest.digest()
