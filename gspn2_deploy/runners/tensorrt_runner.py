"""A TensorRT plan as a runner, on pycuda: needs no PyTorch, and shares its context where it is.

The primary context of the device is used, which PyTorch uses too. It is current only while this
runner works: whatever the calling thread had current before stays so. pycuda ties a context to its
thread; a runner is used in the thread that entered it.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from gspn2_deploy.manifest import Manifest, ManifestError, Profile, TensorInfo, manifest_path
from gspn2_deploy.runners.base import Array, Arrays, Kind, Runner, check_inputs
from gspn2_deploy.runners.cuda_driver import CudaDriver, import_extra, release_context
from gspn2_deploy.runners.engine_layers import (
    EngineLayer,
    inspect_layers,
    make_profiler,
    with_times,
)
from gspn2_deploy.runners.engine_session import EngineSession
from gspn2_deploy.runners.plan_errors import (
    NoGpuError,
    PlanRefusedError,
    RunFailedError,
    check_plan,
    other_plugin,
)
from gspn2_deploy.runners.trt_log import make_logger
from gspn2_deploy.runners.trt_tensors import engine_interface
from gspn2_deploy.tensorrt_plugin import find_plugin, last_error, library_version, load_plugin

logger = logging.getLogger(__name__)

_BACKEND = "tensorrt"  # whose plans this runs
_LEVELS = {  # of what TensorRT says by its severity; all else is for debugging
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
}

_Value = TypeVar("_Value")

_hearers: list[list[str]] = []  # who waits for errors
_warned: set[tuple[str, Path]] = set()  # plans by their hash, and plugin libraries that differ


class TensorRTRunner(Runner):
    """Runs a plan with dynamic shapes, one inference at a time.

    The manifest beside the plan is checked before the plan is deserialised: a plan is a program.
    A plugin library that is not the one that the plan was built with is warned of.

    Args:
        plan_path: The plan; its manifest lies beside it.
        device: The GPU's index.
        graph: Whether to replay the engine as a CUDA graph, captured anew for each shape.
        name: The runner's name in reports.
    """

    kind: ClassVar[Kind] = Kind.ENGINE

    def __init__(
        self, plan_path: Path, *, device: int = 0, graph: bool = False, name: str = "tensorrt"
    ) -> None:
        super().__init__(name)
        self._path = plan_path
        self._device = device
        self._graph = graph
        self._trt: Any = None
        self._cuda: Any = None
        self._driver: CudaDriver | None = None
        self._cuda_context: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._session: EngineSession | None = None
        self._gpu: dict[str, str] = {}
        self.free_before_load = 0  # bytes of GPU memory, once entered
        self._manifest: Manifest | None = None
        self._plugin: Path | None = None
        self._inputs: tuple[TensorInfo, ...] = ()
        self._outputs: tuple[TensorInfo, ...] = ()

    @property
    def input_specs(self) -> tuple[TensorInfo, ...]:
        """The plan's inputs; the manifest's names of dynamic extents."""
        return self._inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        """The plan's outputs."""
        return tuple(tensor.name for tensor in self._outputs)

    @property
    def manifest(self) -> Manifest:
        """The plan's manifest. Known once entered."""
        return _entered(self._manifest)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The shapes that each profile covers. Known once entered."""
        return _entered(self._session).profiles

    @property
    def session(self) -> EngineSession:
        """What runs. It works only inside :meth:`current`."""
        return _entered(self._session)

    @property
    def cuda(self) -> Any:
        """``pycuda.driver``, for events and memory beside the engine."""
        return self._cuda

    def activate(self) -> None:
        """Check the manifest, then load the plugin and the plan.

        Raises:
            ManifestError: The plan is not the one that its manifest describes
                (:class:`~gspn2_deploy.runners.plan_errors.AlteredPlanError`), or was built for
                another TensorRT (``PlanVersionError``) or GPU (``PlanGpuError``).
            MissingDependencyError: TensorRT or pycuda is not installed.
            NoGpuError: There is no such GPU.
            KernelLibraryError: The plugin library is missing or does not fit.
            PlanRefusedError: TensorRT does not load the plan.
        """
        self._trt = import_extra("tensorrt")
        self._driver = CudaDriver()  # first: without a driver pycuda does not even import
        self._cuda = import_extra("pycuda.driver")
        try:
            self._open_device()
            self._manifest = self._checked_manifest()
            with self.current():
                self.free_before_load = int(self._cuda.mem_get_info()[0])
                self._load()
        except BaseException:
            self.deactivate()
            raise

    def deactivate(self) -> None:
        """Free the buffers, the engine and the hold on the device's context."""
        if self._cuda_context is None:
            return
        try:
            with self.current():
                # Contexts before engines before runtimes, and all before the device's context.
                if self._session is not None:
                    self._session.close()
        finally:
            with self.current():
                self._session = self._engine = self._runtime = None
            self._release_device()

    @contextmanager
    def current(self) -> Iterator[EngineSession | None]:
        """Make the device's context current for a block."""
        self._cuda_context.push()
        try:
            yield self._session
        finally:
            self._cuda_context.pop()

    def can_run(self, inputs: Mapping[str, Array]) -> bool:
        """Whether a profile covers the shapes."""
        return self.session.covers({name: array.shape for name, array in inputs.items()})

    def infer_impl(self, inputs: Arrays) -> Arrays:
        """Copy in, run, copy out, on this runner's own stream."""
        session = self.session
        with self.current():
            session.stage(inputs)
            session.copy_in()
            session.replay() if self._graph else session.launch()
            session.copy_out()
            session.synchronize()
            return session.collect()

    def enqueue(self, buffers: Mapping[str, Any], stream: int) -> None:
        """Run on GPU memory of the caller's, on the caller's stream; returns at once.

        Args:
            buffers: An array on the GPU for every input and output, by name: anything with
                ``__cuda_array_interface__``, such as PyTorch's tensors.
            stream: The stream's handle, as ``torch.cuda.current_stream().cuda_stream``.

        Raises:
            DeviceBufferError: A buffer is missing, on the host, freed, or not aligned.
            DtypeError: A buffer's dtype is not the tensor's.
            ShapeError: A buffer's shape is not the tensor's, or no profile covers the shapes.
            RunFailedError: TensorRT refused.
        """
        with self.current():
            self.session.enqueue(buffers, stream)

    def profile(self, inputs: Mapping[str, Array], *, runs: int = 10) -> tuple[EngineLayer, ...]:
        """Run with TensorRT's profiler, which slows the engine down and says what ran.

        Args:
            inputs: As for :meth:`infer`.
            runs: How often, at least once, after one run that is not counted.

        Returns:
            Every layer with the median of its times.

        Raises:
            RunFailedError: TensorRT gave no times.
        """
        checked = check_inputs(self.name, self.input_specs, inputs)
        profiler = make_profiler(self._trt)
        taken: list[list[tuple[str, float]]] = []
        with self.current():
            # A context of its own, and never a second one beside it: TensorRT 8 does not allow
            # that to every engine.
            self.session.close()
            self._session = None
            session = self._session = self._open_session(profiler)
            try:
                session.stage(checked)
                session.copy_in()
                for _ in range(runs + 1):
                    profiler.times.clear()
                    session.launch()
                    session.synchronize()
                    if not session.context.report_to_profiler():
                        raise RunFailedError(f"{self.name}: TensorRT reports no layer times")
                    taken.append(list(profiler.times))
                layers = inspect_layers(self._trt, self._engine, session.context)
            finally:
                session.close()
                self._session = None
                self._session = self._open_session()
        return with_times(layers, taken[1:])

    def describe(self) -> dict[str, Any]:
        """Versions, the GPU, the plugin, and the precision that the manifest names."""
        manifest = self._manifest
        return {
            "name": self.name,
            "tensorrt": library_version(self._trt) if self._trt else None,
            "gpu": dict(self._gpu),
            "plan": str(self._path),
            "plan_sha256": manifest.plan_sha256 if manifest else None,
            "plugin": str(self._plugin) if self._plugin else None,
            "precision": manifest.precision if manifest else None,
            "cuda_graph": self._graph,
        }

    def _checked_manifest(self) -> Manifest:
        manifest = Manifest.load(manifest_path(self._path))
        if manifest.backend != _BACKEND:
            raise ManifestError(
                f"{self._path} is a plan of another kind",
                (f"backend {manifest.backend}, this runner takes {_BACKEND}",),
                "build the plan with gspn2-deploy build --backend tensorrt",
            )
        check_plan(
            manifest,
            self._path,
            version=library_version(self._trt),
            compute_capability=self._gpu["compute_capability"],
        )
        return manifest

    def _open_device(self) -> None:
        try:
            self._cuda.init()
            device = self._cuda.Device(self._device)
            self._cuda_context = device.retain_primary_context()
        except self._cuda.Error as error:
            raise NoGpuError(
                f"GPU {self._device} cannot be used",
                got=error,
                hint="nvidia-smi lists the GPUs; a container needs --gpus",
            ) from error
        major, minor = device.compute_capability()
        self._gpu = {
            "name": device.name(),
            "compute_capability": f"{major}.{minor}",
            "pci_bus_id": device.pci_bus_id(),
        }

    def _release_device(self) -> None:
        context, self._cuda_context = self._cuda_context, None
        release_context(_entered(self._driver), context)

    def _load(self) -> None:
        trt, manifest = self._trt, self.manifest
        carried = manifest.options.get("embed_plugin") is True
        library = None
        if any(manifest.propagations.values()) and not carried:
            self._plugin = find_plugin(library_version(trt))
            library = load_plugin(trt, self._plugin)
            _warn_of_other_plugin(manifest, self._path, self._plugin)
        self._runtime = trt.Runtime(make_logger(trt, _log))
        if manifest.holds_host_code:  # as much a program as a plugin library is
            self._runtime.engine_host_code_allowed = True
        with _heard_errors(library) as errors:
            self._engine = self._runtime.deserialize_cuda_engine(self._path.read_bytes())
        if self._engine is None:
            raise PlanRefusedError.explained(self._path, errors)
        inputs, self._outputs = engine_interface(trt, self._engine)
        named = {tensor.name: tensor for tensor in manifest.inputs}
        self._inputs = tuple(named.get(tensor.name, tensor) for tensor in inputs)
        self._session = self._open_session()

    def _open_session(self, profiler: Any = None) -> EngineSession:
        return EngineSession(
            self._cuda,
            _entered(self._driver),
            self._engine,
            self._inputs,
            self._outputs,
            name=self.name,
            profiler=profiler,
        )


def _warn_of_other_plugin(manifest: Manifest, plan: Path, plugin: Path) -> None:
    """Warn once a process, however often a plan is opened."""
    pair = (manifest.plan_sha256, plugin)
    if pair in _warned:
        return
    if warning := other_plugin(manifest, plan, plugin):
        _warned.add(pair)
        logger.warning("%s", warning)


@contextmanager
def _heard_errors(plugin: ctypes.CDLL | None) -> Iterator[list[str]]:
    """Collect what is logged as an error meanwhile, by the plugin too: that first."""
    # Of several loggers in a process TensorRT keeps to the first in part, which may be that of
    # another runner: so all of them are heard.
    errors: list[str] = []
    before = last_error(plugin) if plugin is not None else ""
    _hearers.append(errors)
    try:
        yield errors
    finally:
        _hearers[:] = [hearer for hearer in _hearers if hearer is not errors]
    said = last_error(plugin) if plugin is not None else ""
    if said not in ("", before):
        errors.insert(0, said)


def _log(severity: str, text: str) -> None:
    if _LEVELS.get(severity) == logging.ERROR:
        for errors in _hearers:
            errors.append(text)
    logger.log(_LEVELS.get(severity, logging.DEBUG), "TensorRT: %s", text)


def _entered(value: _Value | None) -> _Value:
    if value is None:
        raise RuntimeError("the runner must be entered first: use `with`")
    return value
