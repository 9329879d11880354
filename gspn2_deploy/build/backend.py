"""The interface between the builder and an engine library, and the list of those that exist."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.errors import MissingDependencyError, UsageError
from gspn2_deploy.manifest import Profile, TensorInfo
from gspn2_deploy.progress import Step

# Module and class by the name that --backend takes; a module is imported when it is asked for.
_BACKENDS = {
    "tensorrt-rtx": ("gspn2_deploy.build.tensorrt_rtx", "TensorRTRTXBackend"),
    "tensorrt": ("gspn2_deploy.build.tensorrt", "TensorRTBackend"),
}
BACKEND_NAMES = tuple(_BACKENDS)


@dataclass(frozen=True)
class BuildRequest:
    """What to build. All of it was checked against the ONNX file before.

    Args:
        onnx_path: The ONNX file; its external data lies beside it.
        plan_path: Where the backend writes the plan: a place in a staging folder.
        inputs: The file's inputs.
        outputs: The file's outputs.
        precision: What the file says was baked in (``fp32``, ``fp16``, ``bf16``, ``mixed``), or
            None.
        propagations: Propagation ops in the file by op type.
        profiles: Optimisation profiles; empty when every input is fixed.
        compute_capabilities: The GPU architectures to build for, as in ``8.9``.
        workspace_bytes: The most scratch memory that a layer may use; None for the library's
            default.
        options: What else is asked for.
    """

    onnx_path: Path
    plan_path: Path
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    precision: str | None
    propagations: Mapping[str, int]
    profiles: tuple[Profile, ...]
    compute_capabilities: tuple[str, ...]
    workspace_bytes: int | None = None
    options: BuildOptions = field(default_factory=BuildOptions)


@dataclass(frozen=True)
class BuiltEngine:
    """What a backend says of the plan that it wrote.

    Args:
        library_version: The engine library's full version.
        cuda_version: The CUDA version that it was made for, if known.
        driver_version: The CUDA version of this machine's driver, None without one.
        inputs: The network's inputs as the engine library sees them.
        outputs: Its outputs.
        layer_dtypes: How many layers of the network give each element type.
        engine_dtypes: The same of the built engine, whose layers are fused; empty where the
            library does not tell.
        gpu: The GPU that it was built on, as its driver calls it; None without one.
        plugin_sha256: Hexadecimal SHA-256 of the plugin library that it was built with, if any.
        timing_cache: Where the measured times were kept, if they were.
        activation_bytes: GPU memory for activations at the largest profile, if known.
        unproven: What could not be checked on this machine, one sentence each.
        fused: The op type by the name of each plugin layer that stands for standard ops.
    """

    library_version: str
    cuda_version: str | None
    driver_version: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layer_dtypes: Mapping[str, int] = field(default_factory=dict)
    engine_dtypes: Mapping[str, int] = field(default_factory=dict)
    gpu: str | None = None
    plugin_sha256: str | None = None
    timing_cache: str | None = None
    activation_bytes: int | None = None
    unproven: tuple[str, ...] = ()
    fused: Mapping[str, str] = field(default_factory=dict)


class Backend(ABC):
    """Builds plans with one engine library."""

    name: ClassVar[str]
    extra: ClassVar[str]

    def is_available(self) -> bool:
        """Whether the engine library is installed here."""
        try:
            self.version()
        except MissingDependencyError:
            return False
        return True

    @abstractmethod
    def version(self) -> str:
        """Return the library's version without loading it.

        Raises:
            MissingDependencyError: It is not installed.
        """

    @abstractmethod
    def resolve_compute_capabilities(
        self, names: tuple[str, ...], dtypes: frozenset[str]
    ) -> tuple[str, ...]:
        """Check what GPUs are asked for, before anything costs time.

        Args:
            names: As given, in any spelling; empty for the backend's default.
            dtypes: The element types that the file uses.

        Returns:
            The compute capabilities to build for, as in ``8.9``, ascending, each once.

        Raises:
            UsageError: One is unknown, or this backend has no target for it.
        """

    def check_options(self, options: BuildOptions) -> None:  # noqa: B027
        """Refuse what this backend does not have at all, before anything costs time.

        What only some versions of the library lack is refused by :meth:`build`, which loads it.

        Raises:
            UsageError: Names the option and the reason.
        """

    @abstractmethod
    def build(self, request: BuildRequest, progress: Step) -> BuiltEngine:
        """Write the plan to ``request.plan_path``.

        Args:
            request: What to build.
            progress: Told how far the build is.

        Returns:
            What the plan holds.

        Raises:
            BuildError: The library refused the file or failed; its raw text is logged for debug.
        """


def create_backend(name: str) -> Backend:
    """Return the backend of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in _BACKENDS:
        raise UsageError(
            "no such backend", got=name, expected=", ".join(BACKEND_NAMES), hint="see --backend"
        )
    module, attribute = _BACKENDS[name]
    backend: type[Any] = getattr(importlib.import_module(module), attribute)
    created: Backend = backend()
    return created
