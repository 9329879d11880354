"""The backend for TensorRT: plans in which every propagation is a layer of the GSPN-2 plugin.

TensorRT builds on the GPU that is to run the plan. Before 10 a network's types are hints: the
builder is told, layer by layer, to keep those of the file. From 10 on networks are strongly
typed. A propagation that is no plugin layer is an error, never a silent fallback.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import Any, ClassVar

from gspn2_deploy.build.backend import Backend, BuildRequest, BuiltEngine
from gspn2_deploy.build.gpu import current_gpu
from gspn2_deploy.build.tensorrt_rtx import normalise_compute_capability
from gspn2_deploy.build.wire import build_in_child
from gspn2_deploy.errors import MissingDependencyError, UsageError
from gspn2_deploy.packages import distribution_of
from gspn2_deploy.progress import Step

logger = logging.getLogger(__name__)

_MODULE = "tensorrt"
_PACKAGE = "TensorRT"
_BINDINGS = "bindings"  # in the name of a distribution that brings no library


class TensorRTBackend(Backend):
    """Builds plans with TensorRT and the GSPN-2 plugin, in a child process, on the target GPU."""

    name: ClassVar[str] = "tensorrt"
    extra: ClassVar[str] = "tensorrt"

    def version(self) -> str:
        """Return the installed version without loading the library."""
        if importlib.util.find_spec(_MODULE) is None:
            raise MissingDependencyError(_PACKAGE, self.extra)
        found = distribution_of(self.name)
        # Plans belong to the library, and bindings may be of another patch level.
        if found is None or _BINDINGS in found.metadata["Name"]:
            return "unknown"
        return found.version

    def resolve_compute_capabilities(
        self, names: tuple[str, ...], dtypes: frozenset[str]
    ) -> tuple[str, ...]:
        """Check the targets: TensorRT builds for the GPU of this machine and no other."""
        here = current_gpu().compute_capability
        for name in names:
            if normalise_compute_capability(name) != here:
                raise UsageError(
                    "TensorRT builds only for the GPU of this machine",
                    got=name,
                    expected=here,
                    hint="leave --compute-capability out, and build on the GPU that is to run it",
                )
        return (here,)

    def build(self, request: BuildRequest, progress: Step) -> BuiltEngine:
        """Build the plan in a child process."""
        self.version()
        return build_in_child(f"{__name__}:build_here", request, progress, logger)


def build_here(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    """Build in this process: what the child runs.

    Args:
        task: A request as :func:`gspn2_deploy.build.wire.request_to_wire` gives it.
        channel: A :class:`gspn2_deploy.build.worker.Channel`.

    Returns:
        A built engine for :func:`gspn2_deploy.build.wire.engine_from_wire`.
    """
    from gspn2_deploy.build import tensorrt_engine
    from gspn2_deploy.build.wire import engine_to_wire, request_from_wire

    request = request_from_wire(task)
    try:
        trt = importlib.import_module(_MODULE)
    except ImportError as error:
        raise MissingDependencyError(_PACKAGE, TensorRTBackend.extra, str(error)) from error
    return engine_to_wire(tensorrt_engine.build(trt, channel, request, current_gpu()))
