"""What is measured: one class for each executor, behind one interface.

The inputs and outputs of a GPU's subjects lie in page-locked host memory, so that copies run at
full speed and none of them is charged for an application's own copy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from gspn2_deploy.bench.machine import Device, cpu_device, gpu_device
from gspn2_deploy.bench.memory import HostPeak, Memory
from gspn2_deploy.bench.timing import Phases, Stopwatch
from gspn2_deploy.errors import PlatformError, UsageError
from gspn2_deploy.runners.base import Arrays
from gspn2_deploy.runners.onnxruntime_runner import CPU_PROVIDER, OnnxRuntimeRunner
from gspn2_deploy.runners.torch_runner import checked_device
from gspn2_deploy.runners.torch_tf32 import tf32

if TYPE_CHECKING:
    import torch
    from torch import nn

CPU_PLACE = "cpu"
CUDA_PLACE = "cuda"
CUDA_PROVIDER = "CUDAExecutionProvider"
_WARM_GRAPH_RUNS = 3  # torch.compile captures its graphs within the first runs

_Self = TypeVar("_Self", bound="Subject")


class Subject(ABC):
    """Something that runs a model and can be timed. A context manager, like a runner.

    Args:
        name: How tables call it.
        place: Where it runs: ``cpu``, or ``cuda:N``.
    """

    def __init__(self, name: str, place: str) -> None:
        self.name = name
        self.place = place

    def __enter__(self: _Self) -> _Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    @abstractmethod
    def device(self) -> Device:
        """What it runs on. Known once entered."""

    @abstractmethod
    def open(self) -> None:
        """Load the model."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    @abstractmethod
    def prepare(self, inputs: Arrays) -> None:
        """Make ready for these inputs, however long that takes: compile, allocate, capture."""

    @abstractmethod
    def run(self) -> Phases:
        """One inference, complete when it returns."""

    @abstractmethod
    def burst(self, count: int) -> float:
        """Run back to back on inputs that lie where the model takes them; milliseconds of all."""

    @abstractmethod
    def outputs(self) -> Arrays:
        """What the last run gave."""

    @abstractmethod
    def memory(self) -> Memory | None:
        """The peak since :meth:`open`; None where it is not known."""

    def describe(self) -> dict[str, Any]:
        """How it runs, for reports. JSON types only."""
        return {"name": self.name, "place": self.place}

    def bus_id(self) -> str | None:
        """The PCI bus id of its GPU, where it has one and knows it."""
        return None


class TorchSubject(Subject):
    """PyTorch on the CPU or on a GPU, eager or compiled.

    Args:
        model: In the precision to be measured.
        input_names: In the order of its arguments.
        output_names: In the order in which it returns them.
        place: ``cpu`` or ``cuda:N``.
        compile_mode: A mode of ``torch.compile``; None for eager.
        threads: On the CPU; 0 for PyTorch's default.
        allow_tf32: Whether float32 products may be rounded to TF32 on a GPU.
    """

    def __init__(
        self,
        model: nn.Module,
        input_names: Sequence[str],
        output_names: Sequence[str],
        *,
        place: str = CPU_PLACE,
        compile_mode: str | None = None,
        threads: int = 0,
        allow_tf32: bool = False,
    ) -> None:
        suffix = f" compiled ({compile_mode})" if compile_mode else " eager"
        super().__init__(f"pytorch{suffix}", place)
        self._model = model
        self._input_names = tuple(input_names)
        self._output_names = tuple(output_names)
        self._mode = compile_mode
        self._threads = threads
        self._call: Any = None
        self._tf32 = allow_tf32
        self._stack = ExitStack()
        self._host: list[torch.Tensor] = []
        self._inputs: list[torch.Tensor] = []
        self._results: list[torch.Tensor] = []
        self._host_results: list[torch.Tensor] = []
        self._peak: HostPeak | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self.place.startswith(CUDA_PLACE)

    @property
    def device(self) -> Device:
        """PyTorch's device."""
        return gpu_device(self.bus_id()) if self.on_gpu else cpu_device()

    def bus_id(self) -> str | None:
        """The GPU's, where PyTorch tells."""
        if not self.on_gpu:
            return None
        import torch

        facts = torch.cuda.get_device_properties(self.place)
        parts = [getattr(facts, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
        if None in parts:
            return None
        domain, bus, device = (int(part) for part in parts if part is not None)
        return f"{domain:08x}:{bus:02x}:{device:02x}.0"

    def open(self) -> None:
        """Move the model there."""
        import torch

        checked_device(self.place)
        self._stack.enter_context(tf32(allowed=self._tf32))
        if self._threads and not self.on_gpu:
            self._stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(self._threads)
        self._peak = HostPeak()
        self._model.eval().to(self.place)
        if self.on_gpu:  # behind the first use of the GPU, before which PyTorch refuses it
            torch.cuda.reset_peak_memory_stats(self.place)

    def close(self) -> None:
        """Take the model off the GPU again."""
        import torch

        self._stack.close()
        self._host, self._inputs, self._results, self._host_results = [], [], [], []
        self._call = None
        if self.on_gpu:
            self._model.to(CPU_PLACE)
            torch.cuda.empty_cache()

    def prepare(self, inputs: Arrays) -> None:
        """Place the inputs; compile for their very shapes."""
        import torch

        from gspn2_deploy.runners.torch_runner import to_tensor

        self._host = [to_tensor(inputs[name]) for name in self._input_names]
        self._inputs = self._host
        if self.on_gpu:
            self._host = [tensor.pin_memory() for tensor in self._host]
            self._inputs = [tensor.to(self.place) for tensor in self._host]
        self._call = self._model
        if self._mode is not None:
            torch._dynamo.reset()  # else it gives up silently after eight shapes
            self._call = torch.compile(self._model, mode=self._mode, dynamic=False)
        try:
            for _ in range(_WARM_GRAPH_RUNS if self._mode else 1):
                self._compute()
        except Exception as error:  # a user's model, a compiler, GPU memory: anything may come
            shapes = ", ".join(f"{name} {value.shape}" for name, value in inputs.items())
            raise PlatformError(
                f"{self.name} failed on {shapes}", got=f"{type(error).__name__}: {error}"
            ) from error
        self._host_results = [
            torch.empty_like(result, device=CPU_PLACE, pin_memory=self.on_gpu)
            for result in self._results
        ]
        self._synchronize()

    def run(self) -> Phases:
        """One inference; on a GPU the phases by CUDA events."""
        if not self.on_gpu:
            watch = Stopwatch()
            self._compute()
            return Phases(watch.total())
        import torch

        event: Any = torch.cuda.Event  # the stubs do not type it
        events = [event(enable_timing=True) for _ in range(4)]
        watch = Stopwatch()
        events[0].record()
        for device, host in zip(self._inputs, self._host, strict=True):
            device.copy_(host, non_blocking=True)
        events[1].record()
        self._compute()
        events[2].record()
        for host, result in zip(self._host_results, self._results, strict=True):
            host.copy_(result, non_blocking=True)
        events[3].record()
        events[3].synchronize()
        total = watch.total()
        copy_in, compute, copy_out = (
            events[index].elapsed_time(events[index + 1]) for index in range(3)
        )
        return Phases(total, copy_in, compute, copy_out)

    def burst(self, count: int) -> float:
        """Calls without waiting in between."""
        self._synchronize()
        watch = Stopwatch()
        for _ in range(count):
            self._compute()
        self._synchronize()
        return watch.total()

    def outputs(self) -> Arrays:
        """The last results."""
        from gspn2_deploy.runners.torch_runner import to_array

        pairs = zip(self._output_names, self._results, strict=True)
        return {name: to_array(result) for name, result in pairs}

    def memory(self) -> Memory | None:
        """What PyTorch's allocator gave on a GPU; the process's memory on the CPU."""
        if not self.on_gpu:
            return self._peak.taken() if self._peak else None
        import torch

        return Memory(
            int(torch.cuda.max_memory_allocated(self.place)),
            "GPU memory: the peak of what PyTorch's allocator gave out",
        )

    def describe(self) -> dict[str, Any]:
        """The mode, the threads and the parameters' types."""
        import torch

        types = {str(value.dtype).removeprefix("torch.") for value in self._model.parameters()}
        return {
            **super().describe(),
            "torch": torch.__version__,
            "compile_mode": self._mode,
            "tf32": self._tf32 if self.on_gpu else None,
            "threads": None if self.on_gpu else self._threads or torch.get_num_threads(),
            "parameter_dtypes": sorted(types),
        }

    def _compute(self) -> None:
        import torch
        from torch.utils._pytree import tree_leaves

        if self.on_gpu and self._mode is not None:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with torch.inference_mode():
            result = self._call(*self._inputs)
        self._results = [item for item in tree_leaves(result) if isinstance(item, torch.Tensor)]

    def _synchronize(self) -> None:
        if self.on_gpu:
            import torch

            torch.cuda.synchronize(self.place)


class OnnxRuntimeSubject(Subject):
    """onnxruntime on the standard body of the custom op.

    Args:
        path: The ONNX file.
        providers: Execution providers in order of preference.
        place: ``cpu`` or ``cuda:N``: with the CUDA provider, where its tensors lie.
        threads: On the CPU; 0 for one per core.
    """

    def __init__(
        self,
        path: Path,
        *,
        providers: Sequence[str] = (CPU_PROVIDER,),
        place: str = CPU_PLACE,
        threads: int = 0,
    ) -> None:
        super().__init__("onnxruntime", place)
        self._runner = OnnxRuntimeRunner(path, providers=providers, threads=threads)
        self._providers = tuple(providers)
        self._inputs: Arrays = {}
        self._outputs: Arrays = {}
        self._binding: Any = None
        self._values: dict[str, Any] = {}
        self._peak: HostPeak | None = None
        if self.on_gpu != (CUDA_PROVIDER in self._providers):
            raise UsageError(
                "onnxruntime's provider does not run where --device says",
                got=f"{', '.join(self._providers)} for {place}",
                expected=CUDA_PROVIDER if self.on_gpu else "a provider that runs on the CPU",
                hint="give --provider, or leave onnxruntime out with --no-onnxruntime",
            )

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self.place.startswith(CUDA_PLACE)

    @property
    def device(self) -> Device:
        """The CPU, or the first GPU."""
        return gpu_device() if self.on_gpu else cpu_device()

    def open(self) -> None:
        """Create the session."""
        self._peak = HostPeak()
        self._runner.__enter__()

    def close(self) -> None:
        """Drop the session."""
        self._binding, self._values = None, {}
        self._runner.__exit__(None, None, None)

    def prepare(self, inputs: Arrays) -> None:
        """Run once; on a GPU bind inputs and outputs there."""
        self._inputs = inputs
        self._outputs = self._runner.infer(inputs)
        if not self.on_gpu:
            return
        import onnxruntime

        index = int(self.place.partition(":")[2] or 0)
        self._values = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(value, CUDA_PLACE, index)
            for name, value in inputs.items()
        }
        self._binding = self._runner.session.io_binding()
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        for name in self._runner.output_names:
            self._binding.bind_output(name, CUDA_PLACE, index)
        self._compute()

    def run(self) -> Phases:
        """One inference; on a GPU the phases by the host's clock: every call waits."""
        watch = Stopwatch()
        if not self.on_gpu:
            self._outputs = self._runner.infer(self._inputs)
            return Phases(watch.total())
        for name, value in self._values.items():
            value.update_inplace(self._inputs[name])
        copy_in = watch.lap()
        self._compute()
        compute = watch.lap()
        found = self._binding.copy_outputs_to_cpu()
        copy_out = watch.lap()
        self._outputs = dict(zip(self._runner.output_names, found, strict=True))
        return Phases(watch.total(), copy_in, compute, copy_out)

    def burst(self, count: int) -> float:
        """Calls one after the other."""
        watch = Stopwatch()
        for _ in range(count):
            if self.on_gpu:
                self._compute()
            else:
                self._runner.infer(self._inputs)
        return watch.total()

    def outputs(self) -> Arrays:
        """The last results."""
        return self._outputs

    def memory(self) -> Memory | None:
        """The process's memory on the CPU; onnxruntime does not tell what it has on a GPU."""
        return None if self.on_gpu or self._peak is None else self._peak.taken()

    def describe(self) -> dict[str, Any]:
        """The runner's own description."""
        return {**self._runner.describe(), **super().describe()}

    def _compute(self) -> None:
        self._runner.session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
