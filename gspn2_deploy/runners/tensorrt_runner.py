"""A TensorRT plan as a runner, on pycuda: needs no PyTorch, and shares its context where it is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gspn2_deploy.build.tensorrt_plugin import find_plugin, load_plugin
from gspn2_deploy.build.trt_network import engine_interface
from gspn2_deploy.errors import MissingDependencyError, PlatformError, ShapeError
from gspn2_deploy.manifest import Manifest, ShapeRange, TensorInfo, manifest_path
from gspn2_deploy.runners.base import Array, Arrays, Runner

_EXTRA = "tensorrt"


class TensorRTRunner(Runner):
    """Runs a plan with dynamic shapes, one inference at a time.

    The manifest beside the plan is checked before the plan is deserialised: a plan is a program.
    The device's primary context is used, which PyTorch uses too.

    Args:
        plan_path: The plan; its manifest lies beside it.
        device: The GPU's index.
        name: The runner's name in reports.
    """

    def __init__(self, plan_path: Path, *, device: int = 0, name: str = "tensorrt") -> None:
        super().__init__(name)
        self._path = plan_path
        self._device = device
        self._trt: Any = None
        self._cuda: Any = None
        self._cuda_context: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._stream: Any = None
        self._profile = -1
        self._buffers: dict[str, _Buffer] = {}
        self._manifest: Manifest | None = None
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

    def activate(self) -> None:
        """Check the manifest, then load the plugin and the plan.

        Raises:
            ManifestError: The plan is not the one that its manifest describes, or was built for
                another TensorRT or GPU.
            MissingDependencyError: TensorRT or pycuda is not installed.
            KernelLibraryError: The plugin library is missing or does not fit.
            PlatformError: There is no such GPU, or TensorRT does not load the plan.
        """
        self._trt = _import("tensorrt")
        self._cuda = _import("pycuda.driver")
        try:
            self._check_manifest(self._open_device())
            self._load()
        except BaseException:
            self.deactivate()
            raise

    def deactivate(self) -> None:
        """Free the buffers, the engine and the hold on the device's context."""
        if self._stream is not None:
            self._stream.synchronize()
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()
        # Contexts before engines before runtimes, and all of them before the device's context.
        self._context = self._engine = self._runtime = self._stream = None
        if self._cuda_context is not None:
            self._cuda_context.pop()
            self._cuda_context.detach()
            self._cuda_context = None

    def can_run(self, inputs: Mapping[str, Array]) -> bool:
        """Whether a profile covers the shapes."""
        return self._fitting_profile(inputs) is not None

    def infer_impl(self, inputs: Arrays) -> Arrays:
        """Copy in, run, copy out, on this runner's own stream."""
        self._choose_profile(inputs)
        for name, array in inputs.items():
            buffer = self._buffer(name, array.nbytes)
            buffer.upload(array, self._stream)
            if not self._context.set_input_shape(name, array.shape):
                raise ShapeError(f"{self.name}: TensorRT refuses a shape", got=array.shape)
            self._context.set_tensor_address(name, buffer.address)
        shapes = {name: self._output_shape(name) for name in self.output_names}
        dtypes = {tensor.name: _numpy_dtype(tensor.dtype) for tensor in self._outputs}
        for name, shape in shapes.items():
            count = int(np.prod(shape, dtype=np.int64))
            buffer = self._buffer(name, count * dtypes[name].itemsize)
            self._context.set_tensor_address(name, buffer.address)
        if not self._context.execute_async_v3(self._stream.handle):
            raise PlatformError(
                f"{self.name}: TensorRT failed to run {self._path}",
                hint="its log above says why; often a shape outside the profile or GPU memory",
            )
        for name in shapes:
            self._buffers[name].download(self._stream)
        self._stream.synchronize()
        return {
            name: self._buffers[name].content().view(dtypes[name]).reshape(shape).copy()
            for name, shape in shapes.items()
        }

    def describe(self) -> dict[str, Any]:
        """TensorRT's version, the GPU and the precision that the manifest names."""
        return {
            "name": self.name,
            "tensorrt": self._trt.__version__ if self._trt else None,
            "precision": self._manifest.precision if self._manifest else None,
            "compute_capabilities": (
                list(self._manifest.compute_capabilities) if self._manifest else []
            ),
        }

    def _open_device(self) -> str:
        try:
            self._cuda.init()
            device = self._cuda.Device(self._device)
            self._cuda_context = device.retain_primary_context()
            self._cuda_context.push()
        except self._cuda.Error as error:
            raise PlatformError(f"GPU {self._device} cannot be used", got=error) from error
        major, minor = device.compute_capability()
        return f"{major}.{minor}"

    def _check_manifest(self, compute_capability: str) -> None:
        self._manifest = Manifest.load(manifest_path(self._path))
        self._manifest.verify(
            self._path,
            library_version=self._trt.__version__,
            compute_capability=compute_capability,
        )

    def _load(self) -> None:
        trt = self._trt
        assert self._manifest is not None
        load_plugin(trt, find_plugin(trt.__version__))
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(self._path.read_bytes())
        if self._engine is None:
            raise PlatformError(
                f"TensorRT does not load {self._path}",
                hint="its log above says why; build the plan again on this machine",
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise PlatformError(
                f"no execution context for {self._path}", hint="most likely GPU memory ran out"
            )
        self._stream = self._cuda.Stream()
        self._profile = -1
        inputs, self._outputs = engine_interface(trt, self._engine)
        named = {tensor.name: tensor for tensor in self._manifest.inputs}
        self._inputs = tuple(named.get(tensor.name, tensor) for tensor in inputs)

    def _fitting_profile(self, inputs: Mapping[str, Array]) -> int | None:
        for index in range(self._engine.num_optimization_profiles):
            ranges = self._ranges(index)
            if all(_covers(ranges[name], array.shape) for name, array in inputs.items()):
                return index
        return None

    def _choose_profile(self, inputs: Arrays) -> None:
        index = self._fitting_profile(inputs)
        if index is None:
            profiles = [
                ", ".join(f"{name}={shapes}" for name, shapes in self._ranges(number).items())
                for number in range(self._engine.num_optimization_profiles)
            ]
            raise ShapeError(
                f"{self.name}: no profile of the plan covers the input shapes",
                got=", ".join(f"{name} {array.shape}" for name, array in inputs.items()),
                expected="; or ".join(profiles),
                hint="build the plan with a --profile that covers them",
            )
        if index != self._profile:
            if not self._context.set_optimization_profile_async(index, self._stream.handle):
                raise PlatformError(f"{self.name}: TensorRT refuses profile {index}")
            self._profile = index

    def _ranges(self, index: int) -> dict[str, ShapeRange]:
        return {
            tensor.name: ShapeRange(
                *map(tuple, self._engine.get_tensor_profile_shape(tensor.name, index))
            )
            for tensor in self._inputs
        }

    def _output_shape(self, name: str) -> tuple[int, ...]:
        shape = tuple(int(extent) for extent in self._context.get_tensor_shape(name))
        if any(extent < 0 for extent in shape):
            raise ShapeError(f"{self.name}: the shape of {name} depends on data", got=shape)
        return shape

    def _buffer(self, name: str, size: int) -> _Buffer:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.capacity < size:
            if buffer is not None:
                buffer.free()
            buffer = self._buffers[name] = _Buffer(self._cuda, size)
        buffer.size = size
        return buffer


class _Buffer:
    """Device memory with pinned host memory of the same size beside it."""

    def __init__(self, cuda: Any, capacity: int) -> None:
        self.capacity = max(capacity, 1)
        self.size = capacity
        self._cuda = cuda
        self._host = cuda.pagelocked_empty(self.capacity, np.uint8)
        self._device = cuda.mem_alloc(self.capacity)

    @property
    def address(self) -> int:
        return int(self._device)

    def upload(self, array: Array, stream: Any) -> None:
        self._host[: self.size] = array.reshape(-1).view(np.uint8)
        self._cuda.memcpy_htod_async(self._device, self._host[: self.size], stream)

    def download(self, stream: Any) -> None:
        self._cuda.memcpy_dtoh_async(self._host[: self.size], self._device, stream)

    def content(self) -> Array:
        bytes_: Array = self._host[: self.size]
        return bytes_

    def free(self) -> None:
        self._device.free()


def _covers(shapes: ShapeRange, shape: tuple[int, ...]) -> bool:
    return len(shape) == len(shapes.min) and all(
        low <= extent <= high
        for low, extent, high in zip(shapes.min, shape, shapes.max, strict=True)
    )


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return dtype
    return np.dtype(name)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(name.partition(".")[0], _EXTRA, str(error)) from error
