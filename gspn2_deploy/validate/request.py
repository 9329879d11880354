"""What a validation is asked for, and what the ONNX file says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gspn2_deploy.errors import UsageError
from gspn2_deploy.export import metadata as keys
from gspn2_deploy.export.check import OnnxSummary, check_onnx
from gspn2_deploy.validate.tolerances import Tolerance, tolerance_row

if TYPE_CHECKING:
    from torch import nn

DEFAULT_SEED = 1


@dataclass(frozen=True)
class Request:
    """What is to be validated, and how.

    Args:
        onnx: The ONNX file.
        model: The PyTorch model in float32 with its weights, or None to rely on ``golden``. What
            ``torch.compile`` or ``DataParallel`` wrapped around it is left out, as at export.
        golden: A golden sample file, or None to rely on ``model``.
        engine: A TensorRT plan that was built from the file, or None.
        data: The user's inputs (and labels), needs ``model``.
        batches: Batch sizes of the random inputs, needs ``model``; empty for the default: the
            engine's profiles where there is one.
        sizes: Image sizes of the random inputs in pixels, likewise.
        samples: Random inputs per batch and size.
        seed: Of the random inputs; another one than the golden samples' default, which are random
            inputs too.
        tolerances: Replacements of the table's rows by precision.
        calibrate: Derive the tolerance from PyTorch's own spread.
        require_top1: The least share of images with the reference's class, 0 to 1.
        providers: onnxruntime's execution providers in order of preference.
        device: Where PyTorch runs, as PyTorch names it.
        bisect: Look at every propagation, and name the first bad one.
        bisect_folder: Where the marked files and engines of that are kept; None to drop them.
    """

    onnx: Path
    model: nn.Module | None = None
    golden: Path | None = None
    engine: Path | None = None
    data: Path | None = None
    batches: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    samples: int = 2
    seed: int = DEFAULT_SEED
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    calibrate: bool = False
    require_top1: float | None = None
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    device: str = "cpu"
    bisect: bool = False
    bisect_folder: Path | None = None

    def unwrapped(self) -> Request:
        """The same with the model inside what ``torch.compile`` or ``DataParallel`` made of it."""
        if self.model is None:
            return self
        from gspn2_deploy.models.wrappers import unwrap

        return replace(self, model=unwrap(self.model))

    def check(self) -> None:
        """Raise UsageError when the parts do not fit together."""
        if self.model is None and self.golden is None:
            raise UsageError(
                "there is nothing to compare the file with",
                expected="a model, golden data, or both",
            )
        needing = {
            "--data": self.data,
            "--batch": self.batches,
            "--image-size": self.sizes,
        }
        given = [option for option, value in needing.items() if value]
        if self.model is None and given:
            raise UsageError(
                f"{', '.join(given)} needs the PyTorch model: golden data answers for its own "
                "inputs only",
                hint="add --model or --checkpoint",
            )
        if self.bisect and self.model is None and self.engine is None:
            raise UsageError(
                "--bisect needs something to look into: golden data holds outputs only",
                expected="the PyTorch model (--model or --checkpoint), an engine, or both",
            )
        if self.bisect_folder is not None and not self.bisect:
            raise UsageError("--bisect-folder is for the files of --bisect", hint="add --bisect")
        if self.bisect_folder is not None:
            self._check_replaced(self.bisect_folder)

    def _check_replaced(self, folder: Path) -> None:
        from gspn2_deploy.validate.executors import STEMS

        for option, path in (("ONNX_FILE", self.onnx), ("--engine", self.engine)):
            if path and path.stem in STEMS and path.parent.resolve() == folder.resolve():
                raise UsageError(
                    f"--bisect-folder would replace the file of {option}",
                    got=path,
                    hint="choose another folder",
                )


@dataclass(frozen=True)
class OnnxFacts:
    """What a file says about itself.

    Args:
        summary: Its interface, ops and metadata.
    """

    summary: OnnxSummary

    @classmethod
    def read(cls, path: Path) -> OnnxFacts:
        """Check a file and read it.

        Raises:
            OnnxFileError: It is missing, corrupt, stale, or not one of ours.
        """
        return cls(check_onnx(path, full=False))

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16``, ``bf16`` or ``mixed``."""
        precision: str = self.summary.metadata[keys.PRECISION]
        return precision

    @property
    def tolerance_row(self) -> str:
        """The row of the table of tolerances."""
        base = self.summary.metadata.get(keys.BASE_PRECISION, self.precision)
        return tolerance_row(self.precision, base)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels of the image that the file was exported with."""
        size = self.summary.metadata.get(keys.INPUT_SIZE)
        if size is None:
            return None
        height, width = json.loads(size)
        return int(height), int(width)
