"""What can be wrong with running a plan, one type each.

The base types decide on the exit code: what was given is wrong (2), or this machine is (3).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gspn2_deploy.errors import InputError, PlatformError
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import Manifest, ManifestError
from gspn2_deploy.runners.trt_causes import find_cause


class AlteredPlanError(ManifestError):
    """The plan is missing, truncated or altered: it is not the one that its manifest names."""


class PlanVersionError(ManifestError):
    """TensorRT is of another version than the one that built the plan."""


class PlanGpuError(ManifestError):
    """The GPU is not one that the plan was built for."""


class NoGpuError(PlatformError):
    """There is no GPU, or none of that number."""


class PlanRefusedError(PlatformError):
    """TensorRT refused a plan that its manifest says is whole and fits."""

    @classmethod
    def explained(cls, plan: Path, raw: Sequence[str]) -> PlanRefusedError:
        """Make one of what TensorRT and the plugin logged as errors while they loaded a plan."""
        if cause := find_cause(raw):
            problem = f"TensorRT does not load {plan}: {cause.problem}"
            return cls(problem, got=cause.text, hint=cause.hint)
        return cls(
            f"TensorRT does not load {plan}",
            got=raw[0] if raw else "no message",
            hint="build the plan again on this machine. Too little GPU memory looks the same",
        )


class RunFailedError(PlatformError):
    """CUDA or TensorRT failed while running, or GPU memory ran out."""


class DeviceBufferError(InputError):
    """A caller's buffer is missing, too small, not aligned, freed, or not on the GPU."""


def check_plan(manifest: Manifest, plan: Path, *, version: str, compute_capability: str) -> None:
    """Hold a plan, TensorRT and the GPU against a manifest.

    Args:
        manifest: The plan's manifest.
        plan: The plan.
        version: TensorRT's version.
        compute_capability: The GPU's, as in ``9.0``.

    Raises:
        ManifestError: Of the type of the first that does not fit: the plan, the version, the GPU.
            It names every mismatch.
    """
    try:
        manifest.verify(plan, library_version=version, compute_capability=compute_capability)
    except ManifestError as error:
        kind = _kind(manifest, plan, version, compute_capability)
        raise kind(error.problem, error.mismatches, error.hint) from error


def other_plugin(manifest: Manifest, plan: Path, plugin: Path) -> str | None:
    """Say that a plugin library is not the one that a plan was built with; None where it is.

    That is no error: a newer library may load older plans.

    Args:
        manifest: The plan's manifest; one that holds no hash of the library is content with any.
        plan: The plan.
        plugin: The library that is to run it.
    """
    if manifest.plugin_sha256 is None:
        return None
    digest = sha256_of(plugin)
    if digest == manifest.plugin_sha256:
        return None
    return (
        f"{plan} was built with another plugin library than the one that runs it\n"
        f"  got:      {plugin}, SHA-256 {digest}\n"
        f"  expected: SHA-256 {manifest.plugin_sha256}\n"
        "  what was validated with that library is not proven with this one\n"
        "  fix:      build the plan again, or run gspn2-deploy validate --engine anew"
    )


def _kind(
    manifest: Manifest, plan: Path, version: str, compute_capability: str
) -> type[ManifestError]:
    try:
        manifest.verify(plan)
    except ManifestError:
        return AlteredPlanError
    if not manifest.accepts_version(version):
        return PlanVersionError
    return ManifestError if manifest.accepts_gpu(compute_capability) else PlanGpuError
