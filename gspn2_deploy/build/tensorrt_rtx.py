"""The backend for TensorRT for RTX: plans for GeForce and RTX GPUs, built without a GPU.

TensorRT for RTX builds in two phases. Ahead of time the network becomes a program that names no
machine code; on the target it is compiled for the GPU that is there. That is why this backend
builds one plan for all compute capabilities that are asked for: what 1.7.1 writes for several
differs from a plan for one by the list of targets, not by its size. 7.5 is the exception: adding
it takes the features of newer GPUs away from the common program.

There is no timing cache: nothing is timed, and the library looks for a GPU when given one.

Source: NVIDIA TensorRT for RTX documentation, "CPU-Only AOT and TensorRT-RTX Engines"; release
notes 1.1, "Limitations".
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from types import ModuleType
from typing import Any, ClassVar

from gspn2_deploy.build.backend import Backend, BuildRequest, BuiltEngine
from gspn2_deploy.build.options import BuildOptions, refuse_options
from gspn2_deploy.build.wire import build_in_child
from gspn2_deploy.errors import MissingDependencyError, UsageError
from gspn2_deploy.packages import distribution_of, version_of
from gspn2_deploy.progress import Step

logger = logging.getLogger(__name__)

_MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")  # the package, the bindings' own wheel
_PACKAGE = "TensorRT for RTX"

COMPUTE_CAPABILITIES = {
    "7.5": "Turing (RTX 20)",
    "8.0": "Ampere (A100)",
    "8.6": "Ampere (RTX 30)",
    "8.9": "Ada (RTX 40, L4, L40)",
    "12.0": "Blackwell (RTX 50)",
    "12.1": "Blackwell (GB10)",
}
# What the library targets when nothing is set: Turing would slow down all others.
DEFAULT_COMPUTE_CAPABILITIES = tuple(name for name in COMPUTE_CAPABILITIES if name != "7.5")
_TURING = "7.5"
_NOT_RTX = {"9.0": "H100 and H200", "10.0": "B200", "10.3": "B300"}
# As 1.7.1 answers; it takes some of them without a word and does nothing.
_ABSENT_OPTIONS = {
    "optimization_level": "it times nothing, so there is nothing to search longer for",
    "timing_iterations": "it times nothing",
    "timing_cache_path": "it times nothing",
    "version_compatible": "its plans belong to one release",
    "exclude_lean_runtime": "its plans belong to one release",
    "hardware_compatibility": "its plans run on every --compute-capability that they are built for",
    "embed_plugin": "it has no plugins; the op's function body is what runs",
    "weights": "it makes refittable and stripped plans only on a GPU, and these are built without",
    "tactic_sources": "it has one source of kernels, and compiles them on the target",
    "tf32": "it decides on the target",
    "precision_constraints": "its networks keep the file's types",
    "fuse": "it has no plugins to fuse for",
}


class TensorRTRTXBackend(Backend):
    """Builds plans with TensorRT for RTX, in a child process, on any machine."""

    name: ClassVar[str] = "tensorrt-rtx"
    extra: ClassVar[str] = "tensorrt-rtx"

    def version(self) -> str:
        """Return the installed version without loading the library."""
        if not any(importlib.util.find_spec(module) for module in _MODULES):
            raise MissingDependencyError(_PACKAGE, self.extra)
        return version_of(self.name) or "unknown"

    def resolve_compute_capabilities(
        self, names: tuple[str, ...], dtypes: frozenset[str]
    ) -> tuple[str, ...]:
        """Check the targets; none given means Ampere and everything newer."""
        if not names:
            return DEFAULT_COMPUTE_CAPABILITIES
        asked = {normalise_compute_capability(name) for name in names}
        for name in asked:
            if name in _NOT_RTX:
                raise UsageError(
                    f"TensorRT for RTX has no target for compute capability {name} "
                    f"({_NOT_RTX[name]}): it serves GeForce and RTX GPUs, not data-centre ones",
                    got=name,
                    expected=", ".join(COMPUTE_CAPABILITIES),
                    hint="run the ONNX file with onnxruntime-gpu on that GPU",
                )
            if name not in COMPUTE_CAPABILITIES:
                raise UsageError(
                    "no such compute capability",
                    got=name,
                    expected=", ".join(
                        f"{key} {what}" for key, what in COMPUTE_CAPABILITIES.items()
                    ),
                )
        if _TURING in asked and "bfloat16" in dtypes:
            raise UsageError(
                "compute capability 7.5 has no bfloat16, which this file uses",
                got="7.5",
                expected=", ".join(DEFAULT_COMPUTE_CAPABILITIES),
                hint="export with --precision fp16 for Turing",
            )
        if _TURING in asked and len(asked) > 1:
            logger.warning(
                "a plan that includes compute capability 7.5 gives up what newer GPUs can do: "
                "build a plan of its own for it"
            )
        return tuple(name for name in COMPUTE_CAPABILITIES if name in asked)

    def check_options(self, options: BuildOptions) -> None:
        """Refuse what only TensorRT has."""
        refuse_options(options, _ABSENT_OPTIONS, _PACKAGE)

    def build(self, request: BuildRequest, progress: Step) -> BuiltEngine:
        """Build the plan in a child process."""
        self.version()
        return build_in_child(f"{__name__}:build_here", request, progress, logger)


def normalise_compute_capability(name: str) -> str:
    """Turn ``sm_89``, ``sm89``, ``89`` or ``8.9`` into ``8.9``."""
    digits = name.strip().lower().removeprefix("sm").removeprefix("_")
    if digits.isascii() and digits.isdigit() and len(digits) > 1:
        return f"{digits[:-1]}.{digits[-1]}"
    return digits


def build_here(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    """Build in this process: what the child runs.

    Args:
        task: A request as :func:`gspn2_deploy.build.wire.request_to_wire` gives it.
        channel: A :class:`gspn2_deploy.build.worker.Channel`.

    Returns:
        A built engine for :func:`gspn2_deploy.build.wire.engine_from_wire`.
    """
    from gspn2_deploy.build import trt_build
    from gspn2_deploy.build.reshapes import with_own_extents
    from gspn2_deploy.build.wire import engine_to_wire, request_from_wire

    request = request_from_wire(task)
    trt = _import_library()
    session = trt_build.Session(trt, channel)
    config = session.builder.create_builder_config()
    config.num_compute_capabilities = len(request.compute_capabilities)
    for index, name in enumerate(request.compute_capabilities):
        target = getattr(trt.ComputeCapability, f"SM{name.replace('.', '')}", None)
        if target is None or not config.set_compute_capability(target, index):
            raise UsageError(
                f"TensorRT for RTX {trt.__version__} has no target for this compute capability",
                got=name,
                hint=f"pip install --upgrade 'gspn2-deploy[{TensorRTRTXBackend.extra}]'",
            )
    model = with_own_extents(request.onnx_path)
    built = trt_build.build(session, config, request, cuda_version=_cuda_version(), model=model)
    return engine_to_wire(built)


def _import_library() -> ModuleType:
    module = next((name for name in _MODULES if importlib.util.find_spec(name)), _MODULES[0])
    try:
        return importlib.import_module(module)
    except ImportError as error:  # absent, or a part of it is, or made for another system
        reason = str(error)
        raise MissingDependencyError(_PACKAGE, TensorRTRTXBackend.extra, reason) from error


def _cuda_version() -> str | None:
    found = distribution_of(TensorRTRTXBackend.name)
    name = found.metadata["Name"].replace("_", "-") if found else ""
    return next((part[2:] for part in name.split("-") if part.startswith("cu")), None)
