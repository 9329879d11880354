"""From an ONNX file to a plan and its manifest, written together or not at all."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from gspn2_deploy import __version__, progress
from gspn2_deploy.build.backend import BuildRequest, BuiltEngine, create_backend
from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.build.profiles import resolve_profiles
from gspn2_deploy.errors import UsageError
from gspn2_deploy.files import sha256_of, staged_output
from gspn2_deploy.manifest import Manifest, Profile, manifest_path

if TYPE_CHECKING:
    from gspn2_deploy.export.check import OnnxSummary

PLAN_SUFFIX = ".plan"
logger = logging.getLogger(__name__)
_MIB = 1 << 20


@dataclass(frozen=True)
class BuildResult:
    """What a build wrote.

    Args:
        plan_path: The plan.
        manifest_path: Its manifest.
        manifest: The manifest's content.
    """

    plan_path: Path
    manifest_path: Path
    manifest: Manifest


def build_engine(
    onnx_path: Path,
    output: Path | None = None,
    *,
    backend: str = "tensorrt-rtx",
    compute_capabilities: Sequence[str] = (),
    profiles: Sequence[Profile] = (),
    workspace_mib: int | None = None,
    options: BuildOptions | None = None,
) -> BuildResult:
    """Build an engine.

    Args:
        onnx_path: The ONNX file.
        output: Where the plan goes; beside the ONNX file under its name when None. The manifest
            is written beside the plan.
        backend: One of :data:`gspn2_deploy.build.backend.BACKEND_NAMES`.
        compute_capabilities: The GPUs to build for, as in ``8.9``; empty for the backend's
            default.
        profiles: Optimisation profiles; empty for a default over the batch.
        workspace_mib: The most scratch memory that a layer may use, in MiB; None for no limit
            beside the library's.
        options: What else is asked for; None for the defaults.

    Returns:
        What was written.

    Raises:
        OnnxFileError: The file is missing, damaged, incomplete, stale, or not one of ours.
        UsageError: Options that do not fit the file or the backend.
        ShapeError: A profile contradicts the file.
        MissingDependencyError: The engine library is not installed.
        BuildError: The engine library refused the file or failed.
        OutputError: The output cannot be written.
    """
    from gspn2_deploy.export.check import check_onnx

    chosen = create_backend(backend)
    chosen.version()
    if workspace_mib is not None and workspace_mib < 1:
        raise UsageError("the workspace is too small", got=workspace_mib, expected="1 MiB or more")
    options = options or BuildOptions()
    chosen.check_options(options)
    source = check_onnx(onnx_path, full=False)
    for warning in source.warnings:
        logger.warning("%s", warning)
    plan_path = _plan_path(source, output)
    targets = chosen.resolve_compute_capabilities(tuple(compute_capabilities), _dtypes(source))
    resolved = resolve_profiles(profiles, source.inputs)
    beside = manifest_path(plan_path)
    digests = onnx_digests(source)
    began = time.perf_counter()
    with staged_output(plan_path, beside) as staging:
        request = BuildRequest(
            onnx_path=onnx_path,
            plan_path=staging / plan_path.name,
            inputs=source.inputs,
            outputs=source.outputs,
            precision=_precision(source),
            propagations=source.op_counts,
            profiles=resolved,
            compute_capabilities=targets,
            workspace_bytes=None if workspace_mib is None else workspace_mib * _MIB,
            options=options,
        )
        with progress.step("Building the engine") as step:
            built = chosen.build(request, step)
        seconds = time.perf_counter() - began
        manifest = _describe(chosen.name, source, digests, request, built, seconds)
        manifest.save(staging / beside.name)
    return BuildResult(plan_path, beside, manifest)


def onnx_digests(source: OnnxSummary) -> tuple[str, dict[str, str]]:
    """Return the SHA-256 of an ONNX file, and of each of its external data files by name."""
    folder = source.path.parent
    external = {name: sha256_of(folder / name) for name in source.external_data}
    return sha256_of(source.path), external


def _precision(source: OnnxSummary) -> str | None:
    from gspn2_deploy.export.metadata import PRECISION

    precision: str | None = source.metadata.get(PRECISION)
    return precision


def _dtypes(source: OnnxSummary) -> frozenset[str]:
    """The element types that a GPU needs: those of the interface, and what was baked in."""
    from gspn2_deploy.export.metadata import BASE_PRECISION

    baked = {source.metadata.get(BASE_PRECISION), _precision(source)}
    dtypes = {tensor.dtype for tensor in (*source.inputs, *source.outputs)}
    return frozenset(dtypes | ({"bfloat16"} if "bf16" in baked else set()))


def _plan_path(source: OnnxSummary, output: Path | None) -> Path:
    path = output if output is not None else source.path.with_suffix(PLAN_SUFFIX)
    inputs = (source.path, *(source.path.parent / name for name in source.external_data))
    if path.resolve() in {file.resolve() for file in inputs}:
        raise UsageError("the plan would replace the ONNX file", got=path)
    return path


def _describe(
    backend: str,
    source: OnnxSummary,
    digests: tuple[str, dict[str, str]],
    request: BuildRequest,
    built: BuiltEngine,
    seconds: float,
) -> Manifest:
    digest, external = digests
    return Manifest(
        plan_file=request.plan_path.name,
        plan_bytes=request.plan_path.stat().st_size,
        plan_sha256=sha256_of(request.plan_path),
        onnx_file=source.path.name,
        onnx_sha256=digest,
        external_data_sha256=external,
        backend=backend,
        backend_version=built.library_version,
        package_version=__version__,
        cuda_version=built.cuda_version,
        driver_version=built.driver_version,
        compute_capabilities=request.compute_capabilities,
        profiles=request.profiles,
        # The file's names of dynamic extents say more than the network's -1.
        inputs=source.inputs,
        outputs=source.outputs,
        precision=request.precision,
        layer_dtypes=built.layer_dtypes,
        engine_dtypes=built.engine_dtypes,
        gpu=built.gpu,
        plugin_sha256=built.plugin_sha256,
        timing_cache=built.timing_cache,
        workspace_bytes=request.workspace_bytes,
        options=request.options.to_dict(),
        propagations=source.op_counts,
        activation_bytes=built.activation_bytes,
        metadata=source.metadata,
        unproven=built.unproven,
        fused=built.fused,
        build_seconds=round(seconds, 3),
        host=f"{platform.system()} {platform.release()} {platform.machine()}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
