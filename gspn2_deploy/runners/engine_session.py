"""One execution context of an engine with its stream, its buffers and its graph, on pycuda.

The work of one inference is cut into parts, each of which only enqueues::

    session.stage(inputs)     profile, shapes, buffers; the inputs into page-locked memory
    session.copy_in()         to the GPU
    session.launch()          the engine
    session.copy_out()        back into page-locked memory
    session.synchronize()
    session.collect()         the outputs

so that a benchmark times what a runner runs. The device's context must be current throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gspn2_deploy.errors import DtypeError, ShapeError
from gspn2_deploy.manifest import Profile, ShapeRange, TensorInfo
from gspn2_deploy.runners.base import Arrays
from gspn2_deploy.runners.cuda_driver import CudaDriver, CudaGraph
from gspn2_deploy.runners.device_memory import StagingBuffer, array_interface, is_contiguous
from gspn2_deploy.runners.plan_errors import DeviceBufferError, PlanRefusedError, RunFailedError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: what others put on the default stream holds nothing up
_ALIGNMENT = 256  # bytes; what TensorRT may assume of a tensor's address
_OUT_OF_MEMORY = "most likely GPU memory ran out: lower the profile's largest shape, or free some"
# A caller's bfloat16 array says that its elements are two bytes and no more.
_TYPE_STRINGS = {"bfloat16": ("<V2", "|V2")}

_Key = tuple[tuple[str, tuple[int, ...]], ...]


class EngineSession:
    """Runs one engine, one inference at a time.

    Args:
        cuda: ``pycuda.driver``.
        driver: The CUDA driver.
        engine: A deserialised engine.
        inputs: Its inputs.
        outputs: Its outputs.
        name: How errors call what runs.
        profiler: A ``trt.IProfiler`` to be told every layer's time, or None.

    Raises:
        PlanRefusedError: TensorRT makes no context.
    """

    def __init__(
        self,
        cuda: Any,
        driver: CudaDriver,
        engine: Any,
        inputs: tuple[TensorInfo, ...],
        outputs: tuple[TensorInfo, ...],
        *,
        name: str,
        profiler: Any = None,
    ) -> None:
        self._cuda = cuda
        self._driver = driver
        self._engine = engine
        self._inputs = inputs
        self._outputs = outputs
        self._dtypes = {tensor.name: numpy_dtype(tensor.dtype) for tensor in (*inputs, *outputs)}
        self._name = name
        self._context = engine.create_execution_context()
        if self._context is None:
            raise PlanRefusedError(f"{name}: TensorRT makes no context", hint=_OUT_OF_MEMORY)
        if profiler is not None:
            # Told when it is asked for, not by every enqueue, which would then wait for the GPU.
            self._context.enqueue_emits_profile = False
            self._context.profiler = profiler
        self.stream = cuda.Stream(_NON_BLOCKING)
        self.profiles = profiles_of(engine, inputs)
        self._profile = -1
        self._buffers: dict[str, StagingBuffer] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._graph: CudaGraph | None = None
        self._graph_key: _Key = ()

    @property
    def context(self) -> Any:
        """TensorRT's context."""
        return self._context

    def covers(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a profile covers these input shapes."""
        return self._fitting_profile(shapes) is not None

    def stage(self, inputs: Arrays) -> None:
        """Choose the profile, set the shapes, have buffers, and take the inputs.

        Raises:
            ShapeError: No profile covers them, or an output's shape depends on data.
            RunFailedError: GPU memory ran out.
        """
        self.reshape({name: array.shape for name, array in inputs.items()})
        for name in self._dtypes:
            self._buffer(name, self._byte_count(name))
        for name, array in inputs.items():
            self._buffers[name].fill(array)
        for name, buffer in self._buffers.items():
            self._set_address(name, buffer.address)

    def copy_in(self) -> None:
        """Enqueue the copies of the inputs to the GPU."""
        for tensor in self._inputs:
            self._buffers[tensor.name].upload(self.stream)

    def launch(self) -> None:
        """Enqueue the engine.

        Raises:
            RunFailedError: TensorRT refused.
        """
        self._execute(self.stream.handle)

    def copy_out(self) -> None:
        """Enqueue the copies of the outputs from the GPU."""
        for name in self._outputs_by_name():
            self._buffers[name].download(self.stream)

    def replay(self) -> None:
        """Enqueue the engine as a CUDA graph, captured at the first call with these shapes.

        Raises:
            RunFailedError: The engine cannot be captured.
        """
        self.capture()
        assert self._graph is not None
        self._graph.launch(self.stream.handle)

    def capture(self) -> None:
        """Have the graph for the current shapes and buffers; the engine runs once to prepare."""
        key = tuple(sorted(self._shapes.items()))
        if self._graph is not None and key == self._graph_key:
            return
        self._drop_graph()
        self.launch()  # TensorRT prepares, and may allocate, at the first call with new shapes
        self.synchronize()
        self._graph = self._driver.capture(self.stream.handle, self.launch)
        self._graph_key = key

    def synchronize(self) -> None:
        """Wait for the stream.

        Raises:
            RunFailedError: What ran on it failed.
        """
        try:
            self.stream.synchronize()
        except self._cuda.Error as error:
            raise RunFailedError(f"{self._name}: running the engine failed", got=error) from error

    def collect(self) -> Arrays:
        """The outputs, after :meth:`synchronize`; the caller owns them."""
        return {
            name: self._buffers[name]
            .content()
            .view(self._dtypes[name])
            .reshape(self._shapes[name])
            .copy()
            for name in self._outputs_by_name()
        }

    def enqueue(self, buffers: Mapping[str, Any], stream: int) -> None:
        """Run on a caller's GPU memory, on a caller's stream, without waiting or allocating.

        Args:
            buffers: An array on the GPU for every input and output, by name: anything with
                ``__cuda_array_interface__`` (PyTorch, CuPy, pycuda's GPUArray). They must stay
                until the stream has passed the work.
            stream: The stream's handle.

        Raises:
            DeviceBufferError: One is missing, on the host, freed, not aligned or not contiguous.
            DtypeError: One has another dtype than the engine gives or takes.
            ShapeError: One has another shape, or no profile covers the shapes.
        """
        arrays = {name: array_interface(name, value) for name, value in buffers.items()}
        missing = [name for name in self._dtypes if name not in arrays]
        if missing or len(arrays) != len(self._dtypes):
            raise DeviceBufferError(
                f"{self._name}: the buffers' names are not those of the engine",
                got=", ".join(arrays),
                expected=", ".join(self._dtypes),
            )
        self._drop_graph()  # it is good for the addresses and shapes that it was captured with
        self.reshape({tensor.name: tuple(arrays[tensor.name]["shape"]) for tensor in self._inputs})
        for name, array in arrays.items():
            self._check_array(name, array)
            self._set_address(name, int(array["data"][0]))
        self._execute(stream)

    def reshape(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Set the inputs' shapes, and learn the outputs'."""
        if all(self._shapes.get(name) == shape for name, shape in shapes.items()):
            return
        self._shapes = {}
        self._drop_graph()
        self._choose_profile(shapes)
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise ShapeError(f"{self._name}: TensorRT refuses a shape of {name!r}", got=shape)
        found = dict(shapes)
        for name in self._outputs_by_name():
            found[name] = tuple(int(extent) for extent in self._context.get_tensor_shape(name))
            if any(extent < 0 for extent in found[name]):
                raise ShapeError(f"{self._name}: the shape of {name!r} depends on data")
        self._shapes = found

    def close(self) -> None:
        """Wait, then free the graph, the buffers and the context."""
        try:
            self.synchronize()
        finally:
            self._drop_graph()
            for buffer in self._buffers.values():
                buffer.free()
            self._buffers.clear()
            self._context = self.stream = None

    def _outputs_by_name(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self._outputs)

    def _byte_count(self, name: str) -> int:
        count = int(np.prod(self._shapes[name], dtype=np.int64))
        return count * self._dtypes[name].itemsize

    def _buffer(self, name: str, size: int) -> None:
        """Have a buffer of at least this many bytes."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.capacity < size:
            self._drop_graph()
            if buffer is not None:
                buffer.free()
                del self._buffers[name]
            try:
                self._buffers[name] = StagingBuffer(self._cuda, size)
            except self._cuda.Error as error:
                raise RunFailedError(
                    f"{self._name}: no memory for {name!r}", got=error, hint=_OUT_OF_MEMORY
                ) from error
        self._buffers[name].size = size

    def _set_address(self, name: str, address: int) -> None:
        # Before 10 the binding returns nothing where C++ returns whether it was accepted.
        if self._context.set_tensor_address(name, address) is False:
            raise DeviceBufferError(f"{self._name}: TensorRT refuses the buffer of {name!r}")

    def _execute(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise RunFailedError(
                f"{self._name}: TensorRT failed to run the engine",
                hint="its log above says why; often GPU memory",
            )

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.free()
            self._graph = None

    def _fitting_profile(self, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
        return next(
            (
                index
                for index, profile in enumerate(self.profiles)
                if all(_covers(profile[name], shape) for name, shape in shapes.items())
            ),
            None,
        )

    def _choose_profile(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        index = self._fitting_profile(shapes)
        if index is None:
            profiles = [
                ", ".join(f"{name}={ranges}" for name, ranges in profile.items())
                for profile in self.profiles
            ]
            raise ShapeError(
                f"{self._name}: no profile of the plan covers the input shapes",
                got=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
                expected="; or ".join(profiles),
                hint="build the plan with a --profile that covers them",
            )
        if index != self._profile:
            if not self._context.set_optimization_profile_async(index, self.stream.handle):
                raise RunFailedError(f"{self._name}: TensorRT refuses profile {index}")
            self.synchronize()  # what is enqueued next may be on another stream
            self._profile = index

    def _check_array(self, name: str, array: Mapping[str, Any]) -> None:
        dtype = self._dtypes[name]
        if array["typestr"] not in _TYPE_STRINGS.get(dtype.name, (dtype.str,)):
            raise DtypeError(
                f"{self._name}: the buffer of {name!r} has another dtype",
                got=array["typestr"],
                expected=dtype.name,
            )
        if tuple(array["shape"]) != self._shapes[name]:
            raise ShapeError(
                f"{self._name}: the buffer of {name!r} has another shape",
                got=tuple(array["shape"]),
                expected=self._shapes[name],
            )
        if not is_contiguous(array, dtype.itemsize):
            raise DeviceBufferError(f"{self._name}: the buffer of {name!r} is not contiguous")
        address = int(array["data"][0])
        if address % _ALIGNMENT:
            raise DeviceBufferError(
                f"{self._name}: the buffer of {name!r} is not aligned",
                got=f"{address % _ALIGNMENT} bytes past a multiple of {_ALIGNMENT}",
            )
        if self._driver.device_of(address) is None:
            raise DeviceBufferError(
                f"{self._name}: the GPU cannot reach the buffer of {name!r}",
                got="memory that was freed, or the host's",
                hint="keep it until the stream has passed the work",
            )


def profiles_of(engine: Any, inputs: tuple[TensorInfo, ...]) -> tuple[Profile, ...]:
    """The shapes that each of an engine's optimisation profiles covers."""

    def ranges(tensor: TensorInfo, index: int) -> ShapeRange:
        fixed = tuple(extent for extent in tensor.shape if isinstance(extent, int))
        if not tensor.dynamic_axes:
            return ShapeRange(fixed, fixed, fixed)
        return ShapeRange(*map(tuple, engine.get_tensor_profile_shape(tensor.name, index)))

    return tuple(
        {tensor.name: ranges(tensor, index) for tensor in inputs}
        for index in range(engine.num_optimization_profiles)
    )


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a name, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return dtype
    return np.dtype(name)


def _covers(shapes: ShapeRange, shape: tuple[int, ...]) -> bool:
    return len(shape) == len(shapes.min) and all(
        low <= extent <= high
        for low, extent, high in zip(shapes.min, shape, shapes.max, strict=True)
    )
