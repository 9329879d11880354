"""The engine that TensorRT 8.6 builds from the function bodies, beside the one with the plugin.

    body_engine.py build ONNX PLAN BODY_PLAN [SECONDS]
    body_engine.py measure BUILD_JSON PLAN BODY_PLAN GOLDEN

``build`` inlines the bodies and builds BODY_PLAN from them with the profiles and options of PLAN,
in fp16 with the same constraints on types. It prints JSON, and exits with 0 where TensorRT cannot
do it, too: TensorRT's words are then the finding. ``measure`` takes what ``build`` printed, runs
the golden samples through both engines and times both, and prints one JSON with all of it; exits
with 1 where an engine is not within the tolerance. Run by the Python with TensorRT, without
PyTorch.
"""

from __future__ import annotations

import importlib
import json
import logging
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from body_model import as_parsed, inline_bodies

from gspn2_deploy.bench.engine import EngineSubject
from gspn2_deploy.bench.source import Source, read_source
from gspn2_deploy.bench.timing import Effort
from gspn2_deploy.bench.timing import measure as measure_runs
from gspn2_deploy.build import trt_network
from gspn2_deploy.build.backend import BuildRequest, BuiltEngine
from gspn2_deploy.build.isolation import run_isolated
from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.build.tensorrt_options import apply_options
from gspn2_deploy.build.trt_build import Session, build_plan, configure, driver_version, parse
from gspn2_deploy.build.weak_typing import honour_precision
from gspn2_deploy.build.wire import (
    engine_from_wire,
    engine_to_wire,
    request_from_wire,
    request_to_wire,
)
from gspn2_deploy.errors import Gspn2Error
from gspn2_deploy.files import sha256_of
from gspn2_deploy.golden import GoldenSamples
from gspn2_deploy.manifest import Manifest, manifest_path
from gspn2_deploy.tensorrt_plugin import library_version
from gspn2_deploy.validate.compare import compare_outputs
from gspn2_deploy.validate.samples import random_samples

Json = dict[str, Any]

ENTRY = "body_engine:build_here"
SECONDS = 500.0  # that all attempts may take
SEED = 0  # of the inputs that are timed: as of gspn2-deploy bench


class BodySession(Session):
    """A weakly typed network, as the plugin's is before TensorRT 10."""

    def _network_flag(self) -> Any:
        return self.trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH


def build_here(task: Json, channel: Any) -> Json:
    """Build in this process: what the child runs."""
    trt = importlib.import_module("tensorrt")
    return engine_to_wire(build(trt, channel, request_from_wire(task)))


def build(trt: Any, channel: Any, request: BuildRequest) -> BuiltEngine:
    """Build the plan of a file without functions and plugins, and write it.

    Raises:
        BuildError: TensorRT refused the file, or failed.
    """
    session = BodySession(trt, channel)
    config = session.builder.create_builder_config()
    options = request.options
    apply_options(trt, config, options, strongly_typed=False, plugin=request.plan_path)
    model = as_parsed(onnx.load(request.onnx_path))
    parse(session, request.onnx_path, model.content)
    summary = trt_network.summarise(trt, session.network)
    trt_network.check_interface(summary.inputs, summary.outputs, request)
    configure(session, config, request)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    sharing = getattr(trt.PreviewFeature, "PROFILE_SHARING_0806", None)
    if sharing is not None:
        config.set_preview_feature(sharing, True)
    honour_precision(trt, session.network, config, request, model)
    build_plan(session, config, request)
    return BuiltEngine(
        library_version=library_version(trt),
        cuda_version=None,
        driver_version=driver_version(),
        inputs=summary.inputs,
        outputs=summary.outputs,
        layer_dtypes=summary.layer_dtypes,
        activation_bytes=session.activation_bytes,
        unproven=("the engine was not loaded",),
    )


def build_body(path: Path, plugin_plan: Path, plan: Path, seconds: float = SECONDS) -> Json:
    """Build the plan with its manifest, in a child process; say what came of each attempt.

    Args:
        path: The exported file.
        plugin_plan: The plugin's engine of it, which says how to build.
        plan: Where the plan goes; the file that it is built from is written beside it.
        seconds: That all attempts may take together.
    """
    manifest = Manifest.load(manifest_path(plugin_plan))
    manifest.verify(plugin_plan, onnx_path=path)
    plan.parent.mkdir(parents=True, exist_ok=True)
    for old in (plan, manifest_path(plan)):
        old.unlink(missing_ok=True)
    lowered = plan.with_suffix(".onnx")
    result: Json = {"built": False, "attempts": []}
    try:
        onnx.save(inline_bodies(path), lowered)
    except Gspn2Error as error:  # what opset 17 cannot say
        return {**result, "error": _words(error)}
    until = time.monotonic() + seconds
    for constraints in _attempts(manifest):
        request = _request(manifest, lowered, plan, constraints)
        attempt: Json = {"precision_constraints": constraints, "error": None}
        result["attempts"].append(attempt)
        began = time.perf_counter()
        try:
            built = _build_in_child(request, until - time.monotonic())
        except (Gspn2Error, TimeoutError) as error:
            attempt["error"] = _words(error)
        attempt["seconds"] = round(time.perf_counter() - began, 3)
        if attempt["error"] is None:
            _describe(manifest, request, built, attempt["seconds"]).save(manifest_path(plan))
            return {**result, "built": True}
    return {**result, "error": result["attempts"][-1]["error"]}


def _attempts(manifest: Manifest) -> tuple[str, ...]:
    """The plugin's engine's constraints, then looser ones where these are strict."""
    asked = str(manifest.options["precision_constraints"])
    strict = asked == "obey" and manifest.precision not in (None, "fp32")
    return (asked, "prefer") if strict else (asked,)


def _request(manifest: Manifest, path: Path, plan: Path, constraints: str) -> BuildRequest:
    asked = BuildOptions.from_dict(manifest.options)
    options = replace(asked, precision_constraints=constraints, embed_plugin=False)
    return BuildRequest(
        onnx_path=path,
        plan_path=plan,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        precision=manifest.precision,
        propagations={},
        profiles=manifest.profiles,
        compute_capabilities=manifest.compute_capabilities,
        workspace_bytes=manifest.workspace_bytes,
        options=options,
    )


def _build_in_child(request: BuildRequest, seconds: float) -> BuiltEngine:
    logger = logging.getLogger(__name__)
    with _limit(seconds):
        answer = run_isolated(ENTRY, request_to_wire(request), lambda *_: None, logger)
    return engine_from_wire(answer)


@contextmanager
def _limit(seconds: float) -> Any:
    """Raise TimeoutError when the time is over; what runs then ends its child."""

    def end(*_: object) -> None:
        raise TimeoutError(f"no end within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _words(error: Exception) -> list[str]:
    """What is wrong, and what TensorRT said."""
    return [str(error), *getattr(error, "raw", ())]


def _describe(
    manifest: Manifest, request: BuildRequest, built: BuiltEngine, seconds: float
) -> Manifest:
    """The manifest of the plan, for the runner that applications use."""
    return replace(
        manifest,
        plan_file=request.plan_path.name,
        plan_bytes=request.plan_path.stat().st_size,
        plan_sha256=sha256_of(request.plan_path),
        onnx_file=request.onnx_path.name,
        onnx_sha256=sha256_of(request.onnx_path),
        external_data_sha256={},
        backend_version=built.library_version,
        layer_dtypes=built.layer_dtypes,
        engine_dtypes={},
        plugin_sha256=None,
        timing_cache=None,
        propagations={},
        fused={},
        activation_bytes=built.activation_bytes,
        unproven=built.unproven,
        build_seconds=seconds,
        options=request.options.to_dict(),
    )


def measure(
    built: Mapping[str, Any],
    plugin_plan: Path,
    plan: Path,
    golden: Path,
    effort: Effort | None = None,
) -> Json:
    """Hold both engines against the golden samples, and time them on the same inputs.

    Args:
        built: What :func:`build_body` returned.
        plugin_plan: The plugin's engine.
        plan: The bodies' engine.
        golden: The golden samples.
        effort: How much to run; by default as much as gspn2-deploy bench.

    Returns:
        ``built`` with the figures of each engine by name. ``passed`` says whether every engine
        that there is gives what it should.
    """
    source = read_source(None, [plugin_plan])
    samples = GoldenSamples.load(golden)
    effort = effort or Effort()
    result: Json = {**built, "model": source.model, "engines": {}}
    engines = result["engines"]
    engines["plugin"] = _engine(plugin_plan, source, samples, effort)
    if built["built"]:
        try:
            engines["body"] = _engine(plan, source, samples, effort)
        except Gspn2Error as error:
            result["error"] = _words(error)
    result["passed"] = all(
        row["passed"] for engine in engines.values() for row in engine["parity"].values()
    )
    return result


def _engine(plan: Path, source: Source, golden: GoldenSamples, effort: Effort) -> Json:
    manifest = Manifest.load(manifest_path(plan))
    (profile,) = manifest.profiles
    (ranges,) = profile.values()
    batches = sorted({shape[0] for shape in (ranges.min, ranges.opt, ranges.max)})
    with EngineSubject(plan) as subject:
        parity = _parity(subject, source, golden)
        compute = {str(batch): _compute(subject, source, batch, effort) for batch in batches}
        return {
            "tensorrt": manifest.backend_version,
            "gpu": subject.describe()["gpu"].get("name"),
            "build_seconds": manifest.build_seconds,
            "plan_bytes": manifest.plan_bytes,
            "options": manifest.options,
            "parity": parity,
            "compute_ms": compute,
        }


def _parity(subject: EngineSubject, source: Source, golden: GoldenSamples) -> Json:
    """The worst error by batch."""
    assert source.tolerance is not None
    rows: Json = {}
    for sample in golden.samples:
        subject.prepare(sample.inputs)
        batch = next(iter(sample.inputs.values())).shape[0]
        none: Json = {"samples": 0, "passed": True, "of_tolerance": 0.0, "of_scale": 0.0}
        row = rows.setdefault(str(batch), {**none, "reasons": []})
        row["samples"] += 1
        for output in compare_outputs(sample.outputs, subject.outputs(), source.tolerance):
            row["passed"] &= output.passed
            row["reasons"] += output.failures
            if output.errors is not None:
                row["of_tolerance"] = max(row["of_tolerance"], output.errors.worst_ratio)
                row["of_scale"] = max(row["of_scale"], output.errors.max_scaled)
    return rows


def _compute(subject: EngineSubject, source: Source, batch: int, effort: Effort) -> Json:
    """Milliseconds of the engine alone, by CUDA events, without copies and cold start."""
    sizes = [source.image_size] if source.image_size else []
    (sample,) = random_samples(source.inputs, batches=[batch], sizes=sizes, count=1, seed=SEED)
    subject.prepare(sample.inputs)
    measured = measure_runs(subject.run, subject.burst, effort)
    assert measured.compute is not None
    times = {key: getattr(measured.compute, key) for key in ("median", "p90", "min", "runs")}
    return {**times, "items_per_second": batch * measured.runs_per_second}


def main(words: list[str]) -> int:
    """Do what the command line says."""
    command, *arguments = words or [""]
    if command == "build" and len(arguments) in (3, 4):
        paths, seconds = arguments[:3], float(arguments[3]) if arguments[3:] else SECONDS
        result = build_body(*map(Path, paths), seconds)
        code = 0
    elif command == "measure" and len(arguments) == 4:
        built, *paths = arguments
        result = measure(json.loads(Path(built).read_text()), *map(Path, paths))
        code = 0 if result["passed"] else 1
    else:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
