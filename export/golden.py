"""Record golden samples from the models that an export has at hand."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gspn2_deploy.arrays import read_npy
from gspn2_deploy.errors import GoldenFileError, ValidationFailedError
from gspn2_deploy.golden import GoldenSample, GoldenSamples
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.base import Array, Arrays, check_inputs
from gspn2_deploy.runners.torch_runner import to_tensor
from gspn2_deploy.validate.samples import DEFAULT_BATCHES, Sample, data_samples, random_samples

from . import metadata as meta
from .check import OnnxSummary
from .precision import PrecisionPlan, cast_floating, prepare_model
from .verify import image_size, run_torch


@dataclass(frozen=True)
class GoldenSource:
    """Where golden inputs come from.

    Args:
        count: How many random samples, where the user gives none.
        seed: Of the random samples.
        inputs: A user's ``.npz`` (an array per input) or ``.npy`` (for a single input), items
            along axis 0, already preprocessed; None for random samples.
    """

    count: int = 4
    seed: int = 0
    inputs: Path | None = None


def record(
    model: nn.Module,
    prepared: nn.Module,
    summary: OnnxSummary,
    onnx_sha256: str,
    example: Mapping[str, Tensor],
    source: GoldenSource,
) -> GoldenSamples:
    """Run PyTorch in the exported precision and in float32.

    Args:
        model: The model as the user gave it.
        prepared: Its copy in the exported precision.
        summary: What was exported.
        onnx_sha256: Of the exported file.
        example: What the model was traced with; random samples take its image size.
        source: Where the inputs come from.

    Raises:
        GoldenFileError: The model fails on an input, or no sample is asked for.
        InputError: The user's file cannot be read, or the exported file does not take what it
            holds.
        ValidationFailedError: PyTorch answers with NaN or Inf: nothing could agree with that.
    """
    if source.inputs is None:
        samples = _random(summary, example, source)
    else:
        samples = _given(source.inputs, summary.inputs)
    names = tuple(output.name for output in summary.outputs)
    full = prepare_model(model, PrecisionPlan())
    recorded = []
    for sample in samples:
        check_inputs(f"the golden inputs {sample.name}", summary.inputs, sample.inputs)
        tensors = {info.name: to_tensor(sample.inputs[info.name]) for info in summary.inputs}
        widened = {name: cast_floating(value, torch.float32) for name, value in tensors.items()}
        try:
            outputs = run_torch(prepared, tensors, names)
            reference = run_torch(full, widened, names)
        except RuntimeError as error:  # what PyTorch says of shapes that do not fit
            raise GoldenFileError(
                f"the model fails on the golden inputs {sample.name}",
                got=error,
                expected="; ".join(str(info) for info in summary.inputs),
            ) from error
        _check_finite(sample, outputs, reference, summary.metadata[meta.PRECISION])
        recorded.append(GoldenSample(sample.inputs, outputs, reference))
    return GoldenSamples(
        tuple(recorded),
        onnx_sha256=onnx_sha256,
        source_sha256=summary.metadata[meta.SOURCE_SHA256],
        model=summary.metadata[meta.MODEL],
        precision=summary.metadata[meta.PRECISION],
        seed=source.seed if source.inputs is None else None,
    )


def _check_finite(sample: Sample, outputs: Arrays, reference: Arrays, precision: str) -> None:
    """Refuse a recording that no executor could agree with."""
    mend = "mend the inputs (--golden-inputs) or the weights"
    sides = (
        ("the input", sample.inputs, mend),
        ("PyTorch's float32 output", reference, mend),
        (f"PyTorch's {precision} output", outputs, "choose bf16, or keep blocks with --keep-fp32"),
    )
    for side, arrays, hint in sides:
        for name, array in arrays.items():
            spoilt = int((~np.isfinite(array)).sum())
            if spoilt:
                raise ValidationFailedError(
                    f"the golden sample {sample.name} cannot be compared with: {side} {name!r} "
                    "is not finite",
                    got=f"NaN or Inf in {spoilt} of {array.size} elements",
                    hint=hint,
                )


def _random(
    summary: OnnxSummary, example: Mapping[str, Tensor], source: GoldenSource
) -> list[Sample]:
    """Samples over every free axis in turn: batches first, then sizes."""
    if source.count < 1:
        raise GoldenFileError(
            "no golden sample is asked for", got=source.count, expected="at least 1"
        )
    axes = {axis for info in summary.inputs for axis in info.dynamic_axes}
    shapes = (len(DEFAULT_BATCHES) if 0 in axes else 1) * (2 if axes & {2, 3} else 1)
    each = math.ceil(source.count / shapes)
    samples = list(
        random_samples(
            summary.inputs, default_size=image_size(example), count=each, seed=source.seed
        )
    )
    return [samples[index] for index in _spread(len(samples), each)][: source.count]


def _spread(total: int, each: int) -> list[int]:
    """Indices that visit every group of ``each`` before any of them a second time."""
    return [start + offset for offset in range(each) for start in range(0, total, each)]


def _given(path: Path, specs: tuple[TensorInfo, ...]) -> list[Sample]:
    if path.suffix != ".npy":
        return data_samples(path, specs)
    if len(specs) != 1:
        raise GoldenFileError(
            f"{path}: an .npy file holds one array and the model takes {len(specs)} inputs",
            expected=f"an .npz file with {', '.join(info.name for info in specs)}",
        )
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / f"{path.name}.npz"
        arrays: dict[str, Any] = {specs[0].name: _read_npy(path)}
        np.savez(archive, **arrays)
        return data_samples(archive, specs)


def _read_npy(path: Path) -> Array:
    try:
        return read_npy(path)
    except FileNotFoundError as error:
        raise GoldenFileError(f"{path} does not exist", expected="an .npy or .npz file") from error
    except ValueError as error:
        raise GoldenFileError(f"{path} cannot be read", got=error, expected="an array") from error
