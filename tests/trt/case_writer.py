"""Writes cases as plugins/tensorrt/tests/proof/case_file.h says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gspn2_deploy.validate.tolerances import Tolerance

Array = NDArray[np.floating]
Field = str | int | float | Sequence[int]

PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass
class CaseWriter:
    """Collects one case and writes its folder.

    Args:
        folder: Where it goes.
        precision: As the case file names it.
        plugins: Plugin layers in the network, if there is one.
    """

    folder: Path
    precision: str
    plugins: int = 0
    lines: list[str] = field(default_factory=list)

    def profile(self, name: str, shapes: Sequence[Sequence[int]]) -> None:
        """Add the smallest, the tuned and the largest shape of an input."""
        self.lines.append(f"profile {name} " + " ".join(map(text, shapes)))

    def node(
        self,
        op_type: str,
        outputs: str | Sequence[str],
        fields: Mapping[str, Field],
        *inputs: str,
        vectorised: bool = False,
    ) -> None:
        """Add what a plugin layer is, for proofs without a network.

        Args:
            op_type: The plugin's name.
            outputs: The name of its output, or the names of more than one.
            fields: Its attributes.
            inputs: The names of its inputs.
            vectorised: Whether the first input, and the outputs if they are like it, have eight
                channels side by side.
        """
        given = ",".join(f"{name}={_value(value)}" for name, value in fields.items())
        names = outputs if isinstance(outputs, str) else ",".join(outputs)
        layout = "hwc8" if vectorised else "linear"
        self.lines.append(" ".join(("node", op_type, names, layout, given or "-", *inputs)))

    def sample(
        self,
        name: str,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        tolerance: Tolerance,
        others: Mapping[str, Tolerance] | None = None,
    ) -> None:
        """Add a sample: inputs in the engine's dtypes, outputs in any.

        Args:
            name: Its name.
            inputs: By name.
            outputs: What they have to be, by name.
            tolerance: What they may be off.
            others: The same of those outputs for which it differs.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lines.append(f"sample {name}")
        for key, value in inputs.items():
            file = f"{name}_{key}.bin"
            (self.folder / file).write_bytes(np.ascontiguousarray(value).tobytes())
            self.lines.append(f"input {key} {text(value.shape)} {file}")
        for key, value in outputs.items():
            file = f"{name}_{key}_expected.bin"
            (self.folder / file).write_bytes(value.astype(np.float32).tobytes())
            allowed = (others or {}).get(key, tolerance)
            atol = allowed.atol * _scale(value, allowed)
            self.lines.append(f"output {key} {text(value.shape)} {file} {allowed.rtol!r} {atol!r}")

    def save(self, model: bytes | None = None) -> None:
        """Write the case file and, where nodes are proven in a network, that."""
        self.folder.mkdir(parents=True, exist_ok=True)
        head = [f"precision {self.precision}"]
        if model is not None:
            (self.folder / "model.onnx").write_bytes(model)
            head += ["model model.onnx", f"plugins {self.plugins}"]
        (self.folder / "case.txt").write_text("\n".join([*head, *self.lines]) + "\n")


def text(shape: Sequence[int]) -> str:
    """As the case file has it: 1x3x8x8."""
    return "x".join(map(str, shape))


def _value(value: Field) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    return text([value] if isinstance(value, int) else value)


def _scale(value: Array, tolerance: Tolerance) -> float:
    wide = np.abs(value.astype(np.float64))
    return float(wide.max() if tolerance.scale == "max" else np.sqrt(np.mean(wide**2)))
