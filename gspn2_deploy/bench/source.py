"""What is measured, as the ONNX file or the manifests of its plans say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gspn2_deploy.errors import UsageError
from gspn2_deploy.export import metadata as keys
from gspn2_deploy.manifest import Manifest, TensorInfo, manifest_path
from gspn2_deploy.validate.tolerances import Tolerance, model_tolerance, tolerance_row


@dataclass(frozen=True)
class Source:
    """What the ONNX file, or a plan's manifest, says.

    Args:
        inputs: The model's inputs.
        outputs: Its outputs' names.
        metadata: The ONNX file's metadata.
        warnings: What whoever uses the ONNX file should know.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The model's name and precision."""
        name = self.metadata.get(keys.MODEL, "a model")
        return f"{name} in {self.metadata.get(keys.PRECISION, 'a precision that is not told')}"

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels that it was exported with."""
        text = self.metadata.get(keys.INPUT_SIZE)
        if text is None:
            return None
        height, width = json.loads(text)
        return int(height), int(width)

    @property
    def tolerance(self) -> Tolerance | None:
        """Within which executors agree; None where the precision is not told."""
        precision = self.metadata.get(keys.PRECISION)
        if precision is None:
            return None
        return model_tolerance(
            tolerance_row(precision, self.metadata.get(keys.BASE_PRECISION, precision))
        )


def read_source(onnx: Path | None, engines: Sequence[Path]) -> Source:
    """Read an ONNX file, or the manifests of plans where there is none.

    Args:
        onnx: The ONNX file.
        engines: Plans that were built from it; at least one without an ONNX file.

    Raises:
        OnnxFileError: The file is missing, damaged, or not one of ours.
        ManifestError: A manifest is missing or damaged, or a plan was built from another file.
        UsageError: The plans were built from several files.
    """
    manifests = {path: Manifest.load(manifest_path(path)) for path in engines}
    if onnx is not None:
        from gspn2_deploy.export.check import check_onnx

        for path, manifest in manifests.items():
            manifest.verify(path, onnx_path=onnx)
        summary = check_onnx(onnx, full=False)
        outputs = tuple(tensor.name for tensor in summary.outputs)
        return Source(summary.inputs, outputs, summary.metadata, summary.warnings)
    first, *others = manifests.values()
    for manifest in others:
        if manifest.onnx_sha256 != first.onnx_sha256:
            raise UsageError(
                "the plans were built from several ONNX files, which are not compared",
                got=f"{first.plan_file}: {first.onnx_file}; "
                f"{manifest.plan_file}: {manifest.onnx_file}",
                expected="plans of one file",
            )
    outputs = tuple(tensor.name for tensor in first.outputs)
    return Source(first.inputs, outputs, first.metadata)
