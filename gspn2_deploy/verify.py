"""Proof of a bundle, step by step: what holds, what does not, and what could not be proven here."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gspn2_deploy.bundle import Bundle
from gspn2_deploy.errors import DtypeError, Gspn2Error, PlatformError, ShapeError
from gspn2_deploy.manifest import Manifest, ManifestError

if TYPE_CHECKING:
    from gspn2_deploy.golden import GoldenSamples
    from gspn2_deploy.runners.base import Runner
    from gspn2_deploy.validate.engine_proof import EngineProof
    from gspn2_deploy.validate.tolerances import Tolerance

# Module and class of the runner for each backend's plans; imported when it is needed.
_RUNNERS = {"tensorrt": ("gspn2_deploy.runners.tensorrt_runner", "TensorRTRunner")}
_POST_RELEASE = re.compile(r"\.post\d+$")  # of the package, not of the library in it
_UNKNOWN = "unknown"  # what a backend says of an installation without package metadata


class Status(str, Enum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"  # the bundle is wrong
    FOREIGN = "foreign"  # the bundle is not for this machine
    UNPROVEN = "unproven"  # this machine cannot say


@dataclass(frozen=True)
class Step:
    """One step of the proof.

    Args:
        name: Short.
        status: How it ended.
        details: Each mismatch, or what was found; one line each.
    """

    name: str
    status: Status
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What was proven of a bundle.

    Args:
        steps: In the order of the work.
        ran: Whether running it was asked for.
    """

    steps: tuple[Step, ...]
    ran: bool

    def having(self, *statuses: Status) -> tuple[Step, ...]:
        """Return the steps that ended so."""
        return tuple(step for step in self.steps if step.status in statuses)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "passed": not self.having(Status.FAILED, Status.FOREIGN, Status.UNPROVEN),
            "ran": self.ran,
            "steps": [{**asdict(step), "status": step.status.value} for step in self.steps],
        }


def verify_bundle(folder: Path, *, run: bool = True) -> Verification:
    """Prove a bundle.

    Args:
        folder: The bundle's folder.
        run: Whether to hold it against this machine and to run it; else only its files are
            checked.

    Returns:
        Every step. Nothing of the bundle is loaded once a file of it is wrong.

    Raises:
        BundleError: It is not a bundle.
    """
    bundle = Bundle.load(folder)
    problems = bundle.problems(folder)
    files = Step("files", Status.FAILED if problems else Status.PASSED, problems)
    if problems:
        return Verification((files,), run)
    manifest_step = _step("manifest", Status.FAILED, lambda: _check_manifest(bundle, folder))
    golden_step = _step("golden", Status.FAILED, lambda: _check_golden(bundle, folder))
    steps = [files, manifest_step, golden_step]
    if run and all(step.status is Status.PASSED for step in steps):
        manifest = Manifest.load(folder / bundle.manifest)
        steps += [_check_library(manifest), _check_gpu(manifest)]
        if all(step.status is Status.PASSED for step in steps):
            steps.append(_run(bundle, manifest, folder))
        else:
            names = [step.name for step in steps if step.status is not Status.PASSED]
            reason = f"the golden samples were not run: see {', '.join(names)}"
            steps.append(Step("run", Status.UNPROVEN, (reason,)))
    return Verification(tuple(steps), run)


def _step(name: str, otherwise: Status, check: Callable[[], tuple[str, ...]]) -> Step:
    try:
        return Step(name, Status.PASSED, check())
    except Gspn2Error as error:
        return Step(name, otherwise, tuple(str(error).splitlines()))


def _check_manifest(bundle: Bundle, folder: Path) -> tuple[str, ...]:
    manifest = Manifest.load(folder / bundle.manifest)
    manifest.verify(folder / bundle.plan)
    return (f"{manifest.backend} {manifest.backend_version}",)


def _check_golden(bundle: Bundle, folder: Path) -> tuple[str, ...]:
    from gspn2_deploy.errors import GoldenFileError
    from gspn2_deploy.golden import GoldenSamples

    samples = GoldenSamples.load(folder / bundle.golden)
    manifest = Manifest.load(folder / bundle.manifest)
    if samples.onnx_sha256 != manifest.onnx_sha256:
        raise GoldenFileError(
            "the golden samples belong to another ONNX file than the plan",
            got=samples.onnx_sha256,
            expected=manifest.onnx_sha256,
        )
    return (f"{len(samples.samples)} samples",)


def _check_library(manifest: Manifest) -> Step:
    from gspn2_deploy.build import create_backend

    try:
        found = create_backend(manifest.backend).version()
    except Gspn2Error as error:
        return Step("library", Status.UNPROVEN, tuple(str(error).splitlines()))
    if found == _UNKNOWN:  # an installation without package metadata; the runner compares again
        note = f"{manifest.backend} is installed, and its package does not say which version"
        return Step("library", Status.PASSED, (note,))
    if not manifest.accepts_version(_POST_RELEASE.sub("", found)):
        wrong = f"{manifest.backend} is {found}, the plan needs {manifest.backend_version}"
        return Step("library", Status.FOREIGN, (wrong,))
    return Step("library", Status.PASSED, (f"{manifest.backend} {found}",))


def _check_gpu(manifest: Manifest) -> Step:
    from gspn2_deploy.build.gpu import current_gpu

    try:
        gpu = current_gpu()
    except PlatformError as error:
        return Step("gpu", Status.UNPROVEN, tuple(str(error).splitlines()))
    if not manifest.accepts_gpu(gpu.compute_capability):
        targets = ", ".join(manifest.compute_capabilities)
        wrong = f"{gpu.name} has compute capability {gpu.compute_capability}, the plan {targets}"
        return Step("gpu", Status.FOREIGN, (wrong,))
    return Step("gpu", Status.PASSED, (f"{gpu.name}, {gpu.compute_capability}",))


def _run(bundle: Bundle, manifest: Manifest, folder: Path) -> Step:
    from gspn2_deploy.golden import GoldenSamples

    module_name, class_name = _RUNNERS.get(manifest.backend, ("", ""))
    if not module_name or importlib.util.find_spec(module_name) is None:
        reason = f"gspn2-deploy has no runner for plans of {manifest.backend}"
        return Step("run", Status.UNPROVEN, (reason,))
    runner_type = getattr(importlib.import_module(module_name), class_name)
    samples = GoldenSamples.load(folder / bundle.golden)
    try:
        _open_libraries(bundle, folder)
        with _bundled_plugin(bundle, folder), runner_type(folder / bundle.plan) as runner:
            step = _compare(runner, samples, _tolerance(manifest, samples))
            proof = _prove(runner, manifest, samples)
    except ManifestError as error:  # of the library that was loaded: the files were checked before
        return Step("run", Status.FOREIGN, tuple(str(error).splitlines()))
    except PlatformError as error:
        return Step("run", Status.UNPROVEN, tuple(str(error).splitlines()))
    if proof is None or step.status is Status.FAILED:
        return step
    status = Status.FAILED if proof.failures else step.status
    details = (*step.details, proof.summary, *proof.failures, *proof.unproven)
    return Step("run", status, details)


def _prove(runner: Any, manifest: Manifest, samples: GoldenSamples) -> EngineProof | None:
    """Run one sample and look at what the engine ran; None where it can run none of them."""
    from gspn2_deploy.validate.engine_proof import prove_counts

    fitting = [sample.inputs for sample in samples.samples if runner.can_run(sample.inputs)]
    if not fitting:
        return None
    layers = runner.profile(fitting[0], runs=1)
    return prove_counts(layers, manifest)


def _open_libraries(bundle: Bundle, folder: Path) -> None:
    """Open what the plugin needs, so that it finds it whatever its RPATH says."""
    import ctypes

    from gspn2_deploy.errors import KernelLibraryError

    try:
        for name in bundle.libraries:
            ctypes.CDLL(str(folder / name))
    except OSError as error:
        raise KernelLibraryError("a library of the bundle cannot be loaded", got=error) from error


@contextmanager
def _bundled_plugin(bundle: Bundle, folder: Path) -> Iterator[None]:
    """Make the runner take the bundle's plugin and no other."""
    from gspn2_deploy.tensorrt_plugin import PLUGIN_VARIABLE

    before = os.environ.get(PLUGIN_VARIABLE)
    if bundle.plugin is not None:
        os.environ[PLUGIN_VARIABLE] = str(folder / bundle.plugin)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(PLUGIN_VARIABLE, None)
        else:
            os.environ[PLUGIN_VARIABLE] = before


def _tolerance(manifest: Manifest, samples: GoldenSamples) -> Tolerance:
    from gspn2_deploy.export.metadata import BASE_PRECISION
    from gspn2_deploy.validate.tolerances import model_tolerance, tolerance_row

    base = manifest.metadata.get(BASE_PRECISION, samples.precision)
    return model_tolerance(tolerance_row(samples.precision, base))


def _compare(runner: Runner, samples: GoldenSamples, tolerance: Tolerance) -> Step:
    from gspn2_deploy.validate.compare import compare_outputs

    failures, skipped, compared = [], [], 0
    for index, sample in enumerate(samples.samples):
        try:
            actual = runner.infer(sample.inputs)
        except (ShapeError, DtypeError) as error:  # not for this plan's profiles
            skipped.append(f"sample {index} was not run: {error.problem}")
            continue
        compared += 1
        for output in compare_outputs(sample.outputs, actual, tolerance):
            failures += [f"sample {index}, {output.name}: {why}" for why in output.failures]
    if failures:
        return Step("run", Status.FAILED, (*failures, *skipped))
    if not compared:
        return Step("run", Status.FAILED, ("nothing was compared", *skipped))
    summary = f"{compared} golden samples within {tolerance.atol:g} of their magnitude"
    return Step("run", Status.PASSED, (summary, *skipped))
