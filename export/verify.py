"""Run an exported file in onnxruntime and compare it with the PyTorch model that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gspn2_deploy.errors import MissingDependencyError, ValidationFailedError
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.base import Arrays
from gspn2_deploy.runners.torch_runner import to_array, to_tensor
from gspn2_deploy.validate.compare import compare_outputs
from gspn2_deploy.validate.samples import Sample, random_samples
from gspn2_deploy.validate.tolerances import model_tolerance

from . import metadata as meta
from .check import OnnxSummary


@dataclass(frozen=True)
class Verification:
    """How a file compared with PyTorch.

    Args:
        skipped: Why it did not run, None if it did.
        runner: What ran it and how.
        shapes: Input shapes of each run.
        max_abs: Largest absolute error over all outputs.
        worst_ratio: Largest error by what the precision's tolerance allows; up to 1 passes.
    """

    skipped: str | None = None
    runner: Mapping[str, Any] | None = None
    shapes: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    max_abs: float | None = None
    worst_ratio: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "skipped": self.skipped,
            "runner": self.runner,
            "shapes": [{name: list(shape) for name, shape in item.items()} for item in self.shapes],
            "max_abs": self.max_abs,
            "worst_ratio": self.worst_ratio,
        }


def run_torch(model: nn.Module, inputs: Mapping[str, Tensor], names: tuple[str, ...]) -> Arrays:
    """Run a prepared model.

    Args:
        model: In eval mode.
        inputs: By name, in the order of ``forward``.
        names: Names of the outputs, in the order in which they lie in what the model returns.

    Returns:
        The outputs by name.
    """
    with torch.no_grad():
        values = pytree.tree_leaves(model(*inputs.values()))
    return {name: to_array(value) for name, value in zip(names, values, strict=True)}


def image_size(example: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Height and width in pixels of the first four-axis input, None without one."""
    image = next((value for value in example.values() if value.ndim == 4), None)
    return None if image is None else (int(image.shape[2]), int(image.shape[3]))


def verify_file(
    path: Path,
    model: nn.Module,
    example: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    summary: OnnxSummary,
) -> Verification:
    """Compare a file in onnxruntime with the prepared model.

    Besides the example it runs another batch and size where the file leaves them free.

    Args:
        path: The file.
        model: The prepared model.
        example: What the model was traced with.
        outputs: What the prepared model answered to the example.
        summary: What is in the file.

    Returns:
        The figures; only a reason where onnxruntime is not installed.

    Raises:
        ValidationFailedError: The outputs differ or are not finite.
    """
    # Imported here: the exporter works without onnxruntime.
    from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner

    tolerance = model_tolerance(summary.metadata[meta.PRECISION])
    names = tuple(outputs)
    samples = [Sample("example", _to_arrays(example))]
    samples += _other_shapes(summary.inputs, example)
    max_abs = worst = 0.0
    try:
        with OnnxRuntimeRunner(path) as runner:
            for index, sample in enumerate(samples):
                tensors = {name: to_tensor(value) for name, value in sample.inputs.items()}
                expected = run_torch(model, tensors, names) if index else _to_arrays(outputs)
                for result in compare_outputs(expected, runner.infer(sample.inputs), tolerance):
                    if not result.passed:
                        raise _difference(sample, result.name, result.failures)
                    if result.errors is not None:
                        max_abs = max(max_abs, result.errors.max_abs)
                        worst = max(worst, result.errors.worst_ratio)
            described = runner.describe()
    except MissingDependencyError as error:
        return Verification(skipped=f"{error.problem}; {error.hint}")
    shapes = tuple(sample.shapes for sample in samples)
    return Verification(None, described, shapes, max_abs, worst)


def _to_arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    return {name: to_array(value) for name, value in tensors.items()}


def _other_shapes(inputs: tuple[TensorInfo, ...], example: Mapping[str, Tensor]) -> list[Sample]:
    """One sample with every free axis at another extent; none where that cannot be made up."""
    free = any(info.dynamic_axes for info in inputs)
    floats = all(value.dtype.is_floating_point for value in example.values())
    simple = all(set(info.dynamic_axes) <= {0, 2, 3} for info in inputs)
    if not (free and floats and simple):
        return []
    return list(random_samples(inputs, default_size=image_size(example), count=1))[-1:]


def _difference(sample: Sample, output: str, failures: tuple[str, ...]) -> ValidationFailedError:
    reasons = "; ".join(failures)
    hint = None
    if "NaN" in reasons or "Inf" in reasons:
        hint = "values overflow in this precision: choose bf16, or keep blocks with --keep-fp32"
    return ValidationFailedError(
        f"the exported file does not compute what PyTorch computes: output {output!r}",
        got=f"{reasons} ({sample.name}, inputs {sample.shapes})",
        expected="agreement within the tolerance of the precision",
        hint=hint,
    )
