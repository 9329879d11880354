"""Golden sample files: recorded inputs and what PyTorch answered, to hold any executor against.

An ``.npz`` of plain arrays::

    0/input/images    0/output/output    0/reference/output    1/input/images ...    metadata

``output`` is PyTorch in the exported precision, ``reference`` PyTorch in float32 on the same
inputs. ``metadata`` is JSON. bfloat16, which NumPy lacks, is stored as float32 without loss; the
metadata names every tensor's own type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspn2_deploy.arrays import read_npz
from gspn2_deploy.errors import GoldenFileError
from gspn2_deploy.files import staged_output

KIND = "gspn2-deploy golden samples"
SCHEMA = 1
_METADATA = "metadata"
_PARTS = ("input", "output", "reference")
_HINT = "record it again with gspn2-deploy export --golden"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class GoldenSample:
    """One recording; arrays by name, bfloat16 as ml_dtypes' type.

    Args:
        inputs: What was fed.
        outputs: PyTorch in the exported precision.
        reference: PyTorch in float32 on the same inputs.
    """

    inputs: Arrays
    outputs: Arrays
    reference: Arrays


@dataclass(frozen=True)
class GoldenSamples:
    """Recordings of one model.

    Args:
        samples: At least one; all with the same names and types.
        onnx_sha256: Of the ONNX file that was exported with them.
        source_sha256: Of the model's weights and configuration.
        model: The model's name.
        precision: ``fp32``, ``fp16``, ``bf16`` or ``mixed``.
        seed: Of random inputs, None where a user gave them.

    Raises:
        GoldenFileError: There is no sample, or their names or types differ.
    """

    samples: tuple[GoldenSample, ...]
    onnx_sha256: str
    source_sha256: str
    model: str
    precision: str
    seed: int | None = None

    def __post_init__(self) -> None:
        kinds = [_dtypes(sample) for sample in self.samples]
        if not kinds or any(kind != kinds[0] for kind in kinds):
            raise GoldenFileError(
                "golden samples need one set of names and types",
                got=kinds or "no sample",
                hint=_HINT,
            )
        if not all(kinds[0][part] for part in _PARTS):
            raise GoldenFileError(
                "a golden sample needs inputs, outputs and references", got=kinds[0], hint=_HINT
            )

    @property
    def dtypes(self) -> dict[str, dict[str, str]]:
        """Types by part (``input``, ``output``, ``reference``) and name."""
        return _dtypes(self.samples[0])

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: The place is not writable or full.
        """
        with staged_output(path) as staging:
            self.write(staging / path.name)

    def write(self, path: Path) -> None:
        """Write the file in place: for callers that stage it themselves."""
        arrays: Arrays = {}
        for index, sample in enumerate(self.samples):
            for part, values in _parts(sample).items():
                for name, value in values.items():
                    arrays[f"{index}/{part}/{name}"] = _storable(value)
        metadata = {
            "kind": KIND,
            "schema": SCHEMA,
            "samples": len(self.samples),
            "dtypes": self.dtypes,
            "onnx_sha256": self.onnx_sha256,
            "source_sha256": self.source_sha256,
            "model": self.model,
            "precision": self.precision,
            "seed": self.seed,
        }
        arrays[_METADATA] = np.array(json.dumps(metadata))
        with path.open("wb") as stream:
            # Any: the stubs take the keywords for options of savez itself.
            save: Any = np.savez
            save(stream, **arrays)

    @classmethod
    def load(cls, path: Path) -> GoldenSamples:
        """Read a file.

        Raises:
            GoldenFileError: It is missing, corrupt, truncated, or not a golden sample file.
        """
        arrays = _read(path)
        metadata = _metadata(path, arrays)
        try:
            dtypes = metadata["dtypes"]
            samples = tuple(
                GoldenSample(
                    *(
                        {
                            name: _restored(arrays[f"{index}/{part}/{name}"], dtype)
                            for name, dtype in dtypes[part].items()
                        }
                        for part in _PARTS
                    )
                )
                for index in range(metadata["samples"])
            )
            fields = ("onnx_sha256", "source_sha256", "model", "precision", "seed")
            return cls(samples, **{name: metadata[name] for name in fields})
        except (AttributeError, KeyError, TypeError) as error:
            raise GoldenFileError(
                f"{path} is damaged", got=f"{type(error).__name__}: {error}", hint=_HINT
            ) from error


def _parts(sample: GoldenSample) -> dict[str, Arrays]:
    values = (sample.inputs, sample.outputs, sample.reference)
    return dict(zip(_PARTS, values, strict=True))


def _dtypes(sample: GoldenSample) -> dict[str, dict[str, str]]:
    return {
        part: {name: value.dtype.name for name, value in values.items()}
        for part, values in _parts(sample).items()
    }


def _storable(value: NDArray[Any]) -> NDArray[Any]:
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value


def _restored(value: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":
        import ml_dtypes

        return value.astype(ml_dtypes.bfloat16)
    if value.dtype.name != dtype:
        raise TypeError(f"an array is {value.dtype.name}, the metadata says {dtype}")
    return value


def _read(path: Path) -> Arrays:
    try:
        return read_npz(path)
    except FileNotFoundError as error:
        raise GoldenFileError(f"{path} does not exist", hint=_HINT) from error
    except ValueError as error:
        raise GoldenFileError(
            f"{path} cannot be read", got=error, expected="a golden sample file (.npz)", hint=_HINT
        ) from error


def _metadata(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    try:
        metadata = json.loads(str(arrays[_METADATA]))
    except (KeyError, ValueError):
        metadata = None
    if not isinstance(metadata, dict) or metadata.get("kind") != KIND:
        raise GoldenFileError(
            f"{path} is not a golden sample file", got=", ".join(arrays)[:200], hint=_HINT
        )
    if metadata.get("schema") != SCHEMA:
        raise GoldenFileError(
            f"{path} has an unknown schema",
            got=metadata.get("schema"),
            expected=SCHEMA,
            hint=_HINT,
        )
    return metadata
