"""Validation of one ONNX file: PyTorch, onnxruntime, and an engine that was built from it."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from gspn2_deploy import __version__
from gspn2_deploy.errors import Gspn2Error, ShapeError, UsageError, ValidationFailedError
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import Manifest, manifest_path
from gspn2_deploy.runners.base import Runner
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner, Optimization
from gspn2_deploy.validate.blame import Blame, Suspect
from gspn2_deploy.validate.calibration import Calibration, calibrate
from gspn2_deploy.validate.engine_proof import EngineProof, PluginNode, prove_plugins
from gspn2_deploy.validate.report import ValidationReport
from gspn2_deploy.validate.request import DEFAULT_SEED, OnnxFacts, Request
from gspn2_deploy.validate.run import validate
from gspn2_deploy.validate.samples import (
    Sample,
    check_labels,
    data_samples,
    profile_samples,
    random_samples,
)
from gspn2_deploy.validate.sides import Side, golden_side, live_side, source_mismatches
from gspn2_deploy.validate.tolerances import Tolerance, model_tolerance

if TYPE_CHECKING:
    from gspn2_deploy.runners.tensorrt_runner import TensorRTRunner
    from gspn2_deploy.validate.bisect import Bisection

__all__ = ["DEFAULT_SEED", "Request", "validate_file"]


def validate_file(
    request: Request, *, on_sample: Callable[[str], None] | None = None
) -> ValidationReport:
    """Compare PyTorch, onnxruntime, an engine and golden data.

    The live model is the reference where it is given, the golden data elsewhere. Every sample goes
    through all runners that can answer it: golden inputs, random inputs for every batch and size
    (those of the engine's profiles where there is one), and the user's data.

    Args:
        request: What to do.
        on_sample: Told each sample's name before it runs, and each step of a bisection.

    Returns:
        The report; it says whether all passed, and who is wrong where not.

    Raises:
        UsageError: The request does not fit together.
        OnnxFileError: The file is missing, corrupt, or not one of ours.
        GoldenFileError: The golden file is corrupt or belongs to another model.
        ManifestError: The plan was built from another file, is altered, or does not fit here.
        ShapeError: Batches, sizes or data do not fit the file, or the engine's profiles.
        MissingDependencyError: onnxruntime, TensorRT or pycuda is not installed.
        ValidationFailedError: The calibration found NaN or nothing to measure on, or the live model
            is another one and refuses the file's inputs.
    """
    request.check()
    request = request.unwrapped()
    facts = OnnxFacts.read(request.onnx)
    if request.calibrate and facts.tolerance_row == "fp32":
        raise UsageError("--calibrate needs a file in reduced precision", got="fp32")
    if request.engine is not None:  # before anything is loaded: a plan of another file
        manifest = Manifest.load(manifest_path(request.engine))
        manifest.verify(request.engine, onnx_path=request.onnx)
    mismatches = source_mismatches(request, facts)
    golden = golden_side(request, facts)
    sides = [side for side in (live_side(request, facts), golden) if side is not None]
    with ExitStack() as stack:
        ort = stack.enter_context(OnnxRuntimeRunner(request.onnx, providers=request.providers))
        engine = _enter_engine(request, stack)
        for side in sides:
            stack.enter_context(side.reduced)
            stack.enter_context(side.full)
        samples = _samples(request, facts, ort, golden, engine)
        reference = sides[0].reduced
        candidates = [ort, *([engine] if engine else []), *(side.reduced for side in sides[1:])]
        with _explained_by(mismatches):
            tolerance, calibration = _tolerance(request, facts, sides[0], samples)
            report = validate(
                reference,
                candidates,
                samples,
                tolerance,
                require_top1=request.require_top1,
                another_model=bool(mismatches),
                on_sample=on_sample,
                context=_context(request, facts, calibration),
            )
        proof = _prove(request, engine, samples) if engine is not None else None
        uncovered = _uncovered(engine, samples)
        optimizer = _blame_optimizer(request, report, reference, samples)
        live = reference if request.model is not None else None
        bisections = (
            _bisect(request, facts, report, samples, engine, live, on_sample)
            if request.bisect
            else ()
        )
    closer = [*optimizer, *(item.blame for item in bisections if item.blame is not None)]
    return dataclasses.replace(
        report,
        failures=(
            *mismatches,
            *report.failures,
            *(proof.failures if proof else ()),
            *(reason for item in bisections for reason in item.failures),
        ),
        warnings=(
            *_tolerance_warnings(request, facts),
            *_calibration_warnings(calibration),
            *facts.summary.warnings,
            *uncovered,
            *(proof.unproven if proof else ()),
            *report.warnings,
        ),
        blames=_refined(report.blames, closer),
        engine=proof,
        bisections=bisections,
    )


def _refined(blames: tuple[Blame, ...], closer: list[Blame]) -> tuple[Blame, ...]:
    """Put what a closer look found first; it takes the place of what it tells apart."""
    settled: set[Suspect] = set()
    for item in closer:
        if item.suspect in (Suspect.PLUGIN, Suspect.TENSORRT):
            settled.add(Suspect.ENGINE)
        elif item.suspect in (Suspect.ONNXRUNTIME, Suspect.BODY):
            settled |= {Suspect.EXPORT, Suspect.ONNXRUNTIME}
    return (*closer, *(item for item in blames if item.suspect not in settled))


def _enter_engine(request: Request, stack: ExitStack) -> TensorRTRunner | None:
    if request.engine is None:
        return None
    from gspn2_deploy.runners.tensorrt_runner import TensorRTRunner

    return stack.enter_context(TensorRTRunner(request.engine))


def _prove(request: Request, engine: TensorRTRunner, samples: list[Sample]) -> EngineProof:
    """Run one sample with TensorRT's profiler, and hold what ran against file and manifest."""
    from gspn2_deploy.validate.blocks import read_blocks

    sample = next((item for item in samples if engine.can_run(item.inputs)), None)
    if sample is None:
        return EngineProof((), 0, 0.0, ("the engine can run none of the samples",))
    wanted = [
        PluginNode(block.name, block.op_type, block.dtype) for block in read_blocks(request.onnx)
    ]
    return prove_plugins(engine.profile(sample.inputs), wanted, engine.manifest)


def _uncovered(engine: TensorRTRunner | None, samples: list[Sample]) -> tuple[str, ...]:
    if engine is None:
        return ()
    names = [sample.name for sample in samples if not engine.can_run(sample.inputs)]
    if not names or len(names) == len(samples):
        return ()  # all of them: that nothing was compared is a failure already
    return (
        f"{len(names)} of {len(samples)} samples lie outside the plan's profiles and did not run "
        f"in the engine: {', '.join(names)}",
    )


def _bisect(
    request: Request,
    facts: OnnxFacts,
    report: ValidationReport,
    samples: list[Sample],
    engine: TensorRTRunner | None,
    reference: Runner | None,
    on_step: Callable[[str], None] | None,
) -> tuple[Bisection, ...]:
    from gspn2_deploy.validate.bisect_run import run_bisections
    from gspn2_deploy.validate.executors import engine_executor, onnxruntime_executor

    row = facts.tolerance_row
    executors = [onnxruntime_executor(request.providers, row, engine=engine is not None)]
    if engine is not None and request.engine is not None:
        runner = engine
        executors.append(
            engine_executor(
                request.engine, runner.name, lambda sample: runner.can_run(sample.inputs)
            )
        )
    return run_bisections(
        request.onnx,
        [tensor.name for tensor in facts.summary.outputs],
        report,
        samples,
        report.tolerance,
        executors,
        reference=reference,
        providers=request.providers,
        folder=request.bisect_folder,
        on_step=on_step,
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


def _samples(
    request: Request,
    facts: OnnxFacts,
    ort: Runner,
    golden: Side | None,
    engine: TensorRTRunner | None,
) -> list[Sample]:
    recorded = golden.recorded if golden else ()
    samples = [Sample(f"golden #{index + 1}", inputs) for index, inputs in enumerate(recorded)]
    if request.model is None:
        return samples
    asked = bool(request.batches or request.sizes)
    if engine is not None and engine.manifest.profiles and not asked:
        samples += profile_samples(
            ort.input_specs, engine.profiles, count=request.samples, seed=request.seed
        )
    else:
        drawn = list(
            random_samples(
                ort.input_specs,
                batches=request.batches,
                sizes=request.sizes,
                default_size=facts.image_size,
                count=request.samples,
                seed=request.seed,
            )
        )
        if engine is not None and asked:
            _check_covered(engine, drawn)
        samples += drawn
    if request.data is not None:
        own = data_samples(request.data, ort.input_specs)
        classes = _classes(facts)
        for sample in own if classes else ():  # now, before the other samples cost time
            check_labels(sample, classes)
        samples += own
    return samples


def _classes(facts: OnnxFacts) -> int:
    """The extent of the first (N, classes) output; 0 where the file does not say it."""
    shapes = [tensor.shape for tensor in facts.summary.outputs if len(tensor.shape) == 2]
    first = next((shape[1] for shape in shapes if shape[1] != 1), None)
    return first if isinstance(first, int) else 0


def _check_covered(engine: TensorRTRunner, samples: list[Sample]) -> None:
    outside = [sample for sample in samples if not engine.can_run(sample.inputs)]
    if outside:
        ranges = [
            ", ".join(f"{name}={shapes}" for name, shapes in profile.items())
            for profile in engine.profiles
        ]
        raise ShapeError(
            "--batch and --image-size ask for shapes that no profile of the plan covers",
            got=", ".join(f"{name} {shape}" for name, shape in outside[0].shapes.items()),
            expected="; or ".join(ranges),
            hint="leave them out to run the profiles' own shapes, or build with a wider --profile",
        )


def _tolerance(
    request: Request, facts: OnnxFacts, side: Side, samples: list[Sample]
) -> tuple[Tolerance, Calibration | None]:
    row = facts.tolerance_row
    table = request.tolerances.get(row, model_tolerance(row))
    if not request.calibrate:
        return table, None
    calibration = calibrate(side.full, side.reduced, samples, table)
    return calibration.tolerance, calibration


def _tolerance_warnings(request: Request, facts: OnnxFacts) -> tuple[str, ...]:
    row = facts.tolerance_row
    if not request.tolerances or row in request.tolerances:
        return ()
    given = ", ".join(request.tolerances)
    return (f"--tolerance for {given} was not applied: this file goes by the row of {row}",)


def _calibration_warnings(calibration: Calibration | None) -> tuple[str, ...]:
    if calibration is None or not calibration.at_ceiling:
        return ()
    return (
        f"PyTorch itself strays by {calibration.spread:.1e} of the outputs' magnitude in this "
        "precision: the calibrated tolerance stops at its ceiling; keep some blocks in fp32",
    )


def _blame_optimizer(
    request: Request, report: ValidationReport, reference: Runner, samples: list[Sample]
) -> tuple[Blame, ...]:
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
    because = (
        f"with its graph optimisation off, onnxruntime agrees on {sample.name}: the file is right "
        "and onnxruntime's rewriting of it is not"
    )
    return (Blame(Suspect.ONNXRUNTIME, because),)


def _context(request: Request, facts: OnnxFacts, calibration: Calibration | None) -> dict[str, Any]:
    return {
        "onnx": {
            "path": str(request.onnx),
            "sha256": sha256_of(request.onnx),
            "precision": facts.precision,
            "metadata": dict(facts.summary.metadata),
            "propagations": dict(facts.summary.op_counts),
        },
        "engine": None if request.engine is None else _describe_engine(request),
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


def _describe_engine(request: Request) -> dict[str, Any]:
    assert request.engine is not None
    manifest = Manifest.load(manifest_path(request.engine))
    return {
        "path": str(request.engine),
        "sha256": manifest.plan_sha256,
        "backend": f"{manifest.backend} {manifest.backend_version}",
        "compute_capabilities": list(manifest.compute_capabilities),
        "profiles": [
            {name: str(shapes) for name, shapes in profile.items()} for profile in manifest.profiles
        ],
    }
