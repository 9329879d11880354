"""Validation of one ONNX file: the runners, inputs and tolerance that a request stands for."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gspn2_deploy import __version__
from gspn2_deploy.errors import GoldenFileError, Gspn2Error, UsageError, ValidationFailedError
from gspn2_deploy.export import metadata as keys
from gspn2_deploy.export.check import OnnxSummary, check_onnx
from gspn2_deploy.export.precision import PrecisionPlan, plan_from_metadata, prepare_model
from gspn2_deploy.files import sha256_of
from gspn2_deploy.golden import GoldenSamples
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.base import Arrays, Runner
from gspn2_deploy.runners.golden_runner import GoldenRunner, Recording
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner, Optimization
from gspn2_deploy.runners.torch_runner import TorchRunner
from gspn2_deploy.validate.calibration import Calibration, calibrate
from gspn2_deploy.validate.report import ValidationReport
from gspn2_deploy.validate.run import validate
from gspn2_deploy.validate.samples import Sample, data_samples, random_samples
from gspn2_deploy.validate.tolerances import Tolerance, model_tolerance, tolerance_row

if TYPE_CHECKING:
    from torch import nn

DEFAULT_SEED = 1


@dataclass(frozen=True)
class Request:
    """What is to be validated, and how.

    Args:
        onnx: The ONNX file.
        model: The PyTorch model in float32 with its weights, or None to rely on ``golden``.
        golden: A golden sample file, or None to rely on ``model``.
        data: The user's inputs (and labels), needs ``model``.
        batches: Batch sizes of the random inputs, needs ``model``; empty for the default.
        sizes: Image sizes of the random inputs in pixels, likewise.
        samples: Random inputs per batch and size.
        seed: Of the random inputs; another one than the golden samples' default, which are random
            inputs too.
        tolerances: Replacements of the table's rows by precision.
        calibrate: Derive the tolerance from PyTorch's own spread.
        require_top1: The least share of images with the reference's class, 0 to 1.
        providers: onnxruntime's execution providers in order of preference.
    """

    onnx: Path
    model: nn.Module | None = None
    golden: Path | None = None
    data: Path | None = None
    batches: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    samples: int = 2
    seed: int = DEFAULT_SEED
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    calibrate: bool = False
    require_top1: float | None = None
    providers: tuple[str, ...] = ("CPUExecutionProvider",)

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


@dataclass(frozen=True)
class OnnxFacts:
    """What a file says about itself.

    Args:
        summary: Its interface, ops and metadata.
        plan: The precision that was baked in.
    """

    summary: OnnxSummary
    plan: PrecisionPlan

    @classmethod
    def read(cls, path: Path) -> OnnxFacts:
        """Check a file and read it.

        Raises:
            OnnxFileError: It is missing, corrupt, stale, or not one of ours.
        """
        summary = check_onnx(path, full=False)
        return cls(summary, plan_from_metadata(summary.metadata))

    @property
    def tolerance_row(self) -> str:
        """The row of the table of tolerances."""
        return tolerance_row(self.plan.label, self.plan.base)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels of the image that the file was exported with."""
        size = self.summary.metadata.get(keys.INPUT_SIZE)
        if size is None:
            return None
        height, width = json.loads(size)
        return int(height), int(width)


@dataclass(frozen=True)
class _Side:
    """PyTorch, live or recorded: as the file computes, and in float32 throughout."""

    reduced: Runner
    full: Runner
    recorded: tuple[Arrays, ...] = ()


def validate_file(
    request: Request, *, on_sample: Callable[[str], None] | None = None
) -> ValidationReport:
    """Compare PyTorch, onnxruntime and golden data.

    The live model is the reference where it is given, the golden data elsewhere. Every sample goes
    through all runners that can answer it: golden inputs, random inputs for every batch and size,
    and the user's data.

    Args:
        request: What to do.
        on_sample: Told each sample's name before it runs.

    Returns:
        The report; it says whether all passed.

    Raises:
        UsageError: The request does not fit together.
        OnnxFileError: The file is missing, corrupt, or not one of ours.
        GoldenFileError: The golden file is corrupt or belongs to another model.
        ShapeError: Batches, sizes or data do not fit the file.
        MissingDependencyError: onnxruntime is not installed.
        ValidationFailedError: The calibration found NaN or nothing to measure on, or the live model
            is another one and refuses the file's inputs.
    """
    request.check()
    facts = OnnxFacts.read(request.onnx)
    if request.calibrate and facts.tolerance_row == "fp32":
        raise UsageError("--calibrate needs a file in reduced precision", got="fp32")
    mismatches = _source_mismatches(request, facts)
    golden = _golden(request, facts)
    sides = [side for side in (_live(request, facts), golden) if side is not None]
    with ExitStack() as stack:
        ort = stack.enter_context(OnnxRuntimeRunner(request.onnx, providers=request.providers))
        for side in sides:
            stack.enter_context(side.reduced)
            stack.enter_context(side.full)
        samples = _samples(request, facts, ort, golden)
        reference = sides[0].reduced
        with _explained_by(mismatches):
            tolerance, calibration = _tolerance(request, facts, sides[0], samples)
            report = validate(
                reference,
                [ort, *(side.reduced for side in sides[1:])],
                samples,
                tolerance,
                require_top1=request.require_top1,
                on_sample=on_sample,
                context=_context(request, facts, calibration),
            )
        return dataclasses.replace(
            report,
            failures=(*mismatches, *report.failures),
            warnings=(*_calibration_warnings(calibration), *report.warnings),
            findings=(*report.findings, *_blame_optimizer(request, report, reference, samples)),
        )


@contextmanager
def _explained_by(mismatches: tuple[str, ...]) -> Iterator[None]:
    """Another model may refuse the file's inputs: then say first that it is another model."""
    try:
        yield
    except Gspn2Error as error:
        if not mismatches:
            raise
        raise ValidationFailedError(mismatches[0], got=error.problem) from error


def _live(request: Request, facts: OnnxFacts) -> _Side | None:
    if request.model is None:
        return None
    outputs = [tensor.name for tensor in facts.summary.outputs]
    inputs = facts.summary.inputs
    exact = tuple(
        TensorInfo(item.name, "float32", item.shape) if _reduced(item.dtype) else item
        for item in inputs
    )
    return _Side(
        TorchRunner(prepare_model(request.model, facts.plan), inputs, outputs),
        TorchRunner(request.model, exact, outputs, name="pytorch in float32"),
    )


def _reduced(dtype: str) -> bool:
    return dtype in ("float16", "bfloat16")


def _golden(request: Request, facts: OnnxFacts) -> _Side | None:
    if request.golden is None:
        return None
    golden = GoldenSamples.load(request.golden)
    metadata = facts.summary.metadata
    for what, got, expected in (
        ("weights or configuration", golden.source_sha256, metadata[keys.SOURCE_SHA256]),
        ("precision", golden.precision, metadata[keys.PRECISION]),
    ):
        if got != expected:
            raise GoldenFileError(
                f"{request.golden} was not recorded for {request.onnx.name}: another {what}",
                got=got,
                expected=expected,
                hint="use the golden file of the same export, or export again with --golden",
            )
    source = str(request.golden)
    return _Side(
        GoldenRunner([Recording(s.inputs, s.outputs) for s in golden.samples], source=source),
        GoldenRunner(
            [Recording(s.inputs, s.reference) for s in golden.samples],
            source=source,
            name="golden in float32",
        ),
        tuple(sample.inputs for sample in golden.samples),
    )


def _source_mismatches(request: Request, facts: OnnxFacts) -> tuple[str, ...]:
    """Why the live model cannot be the one that the file was exported from."""
    if request.model is None:
        return ()
    metadata = facts.summary.metadata
    config = keys.config_json(getattr(request.model, "config", None))
    found = keys.source_sha256(request.model, config)
    expected = metadata[keys.SOURCE_SHA256]
    if found == expected:
        return ()
    what = "its configuration differs" if config != metadata.get(keys.CONFIG) else "other weights"
    return (
        f"the PyTorch model is not the one that {request.onnx.name} was exported from: {what} "
        f"(SHA-256 {found[:12]}, the file says {expected[:12]}); give the same --model and "
        "--checkpoint as to export: without a checkpoint the weights are drawn anew each time",
    )


def _samples(request: Request, facts: OnnxFacts, ort: Runner, golden: _Side | None) -> list[Sample]:
    recorded = golden.recorded if golden else ()
    samples = [Sample(f"golden #{index + 1}", inputs) for index, inputs in enumerate(recorded)]
    if request.model is None:
        return samples
    samples += random_samples(
        ort.input_specs,
        batches=request.batches,
        sizes=request.sizes,
        default_size=facts.image_size,
        count=request.samples,
        seed=request.seed,
    )
    if request.data is not None:
        samples += data_samples(request.data, ort.input_specs)
    return samples


def _tolerance(
    request: Request, facts: OnnxFacts, side: _Side, samples: list[Sample]
) -> tuple[Tolerance, Calibration | None]:
    row = facts.tolerance_row
    table = request.tolerances.get(row, model_tolerance(row))
    if not request.calibrate:
        return table, None
    calibration = calibrate(side.full, side.reduced, samples, table)
    return calibration.tolerance, calibration


def _calibration_warnings(calibration: Calibration | None) -> tuple[str, ...]:
    if calibration is None or not calibration.at_ceiling:
        return ()
    return (
        f"PyTorch itself strays by {calibration.spread:.1e} of the outputs' magnitude in this "
        "precision: the calibrated tolerance stops at its ceiling; keep some blocks in fp32",
    )


def _blame_optimizer(
    request: Request, report: ValidationReport, reference: Runner, samples: list[Sample]
) -> tuple[str, ...]:
    """Whether onnxruntime agrees once it leaves the graph as it is."""
    plain = OnnxRuntimeRunner(
        request.onnx, providers=request.providers, optimization=Optimization.NONE
    )
    failed = [
        case.sample for case in report.cases if case.candidate == plain.name and not case.passed
    ]
    sample = next((sample for sample in samples if sample.name in failed), None)
    if sample is None:
        return ()
    with plain:
        again = validate(reference, [plain], [sample], report.tolerance)
    if not again.passed:
        return ()
    return (
        f"with its graph optimisation off, onnxruntime agrees on {sample.name}: the file is right "
        "and onnxruntime's rewriting of it is not",
    )


def _context(request: Request, facts: OnnxFacts, calibration: Calibration | None) -> dict[str, Any]:
    return {
        "onnx": {
            "path": str(request.onnx),
            "sha256": sha256_of(request.onnx),
            "precision": facts.plan.label,
            "metadata": dict(facts.summary.metadata),
            "propagations": dict(facts.summary.op_counts),
        },
        "golden": None if request.golden is None else str(request.golden),
        "data": None if request.data is None else str(request.data),
        "seed": request.seed,
        "calibration": None if calibration is None else dataclasses.asdict(calibration),
        "environment": {
            "gspn2_deploy": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        },
    }
