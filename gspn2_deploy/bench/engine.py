"""A TensorRT engine as a subject: enqueued, or replayed as a CUDA graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gspn2_deploy.bench.machine import Device, gpu_device
from gspn2_deploy.bench.memory import Memory
from gspn2_deploy.bench.subjects import Subject
from gspn2_deploy.bench.timing import Phases, Stopwatch
from gspn2_deploy.runners.base import Arrays, check_inputs
from gspn2_deploy.runners.engine_layers import EngineLayer
from gspn2_deploy.runners.tensorrt_runner import TensorRTRunner

_COPY_BYTES = 1 << 29  # more than every cache holds, by far
_COPIES = 10


class EngineSubject(Subject):
    """Runs a plan with the runner that applications use.

    Args:
        plan: The plan; its manifest lies beside it.
        device: The GPU's index.
        graph: Whether to replay it as a CUDA graph.
        label: What stands for the plan in tables; None where there is only one.
    """

    def __init__(
        self, plan: Path, *, device: int = 0, graph: bool = False, label: str | None = None
    ) -> None:
        which = f" {label}" if label else ""
        super().__init__(f"tensorrt{which}{' graph' if graph else ''}", f"cuda:{device}")
        self._runner = TensorRTRunner(plan, device=device)
        self._graph = graph
        self._inputs: Arrays = {}
        self._free_least = 0

    @property
    def device(self) -> Device:
        """The engine's GPU."""
        return gpu_device(self.bus_id())

    @property
    def replays(self) -> bool:
        """Whether it runs as a CUDA graph."""
        return self._graph

    def bus_id(self) -> str | None:
        """The GPU's."""
        gpu: dict[str, str] = self._runner.describe()["gpu"]
        return gpu.get("pci_bus_id")

    def open(self) -> None:
        """Load the plan."""
        self._runner.__enter__()
        self._free_least = self._runner.free_before_load
        self._note_least()

    def close(self) -> None:
        """Let go of the engine."""
        self._runner.__exit__(None, None, None)

    def prepare(self, inputs: Arrays) -> None:
        """Set the shapes, fill the page-locked memory, and run once."""
        runner = self._runner
        self._inputs = check_inputs(self.name, runner.input_specs, inputs)
        with runner.current():
            session = runner.session
            session.stage(self._inputs)
            session.copy_in()
            if self._graph:
                session.capture()
            self._launch()
            session.copy_out()
            session.synchronize()
        self._note_least()

    def run(self) -> Phases:
        """One inference, its phases by CUDA events."""
        runner = self._runner
        with runner.current():
            session = runner.session
            events = [runner.cuda.Event() for _ in range(4)]
            watch = Stopwatch()
            events[0].record(session.stream)
            session.copy_in()
            events[1].record(session.stream)
            self._launch()
            events[2].record(session.stream)
            session.copy_out()
            events[3].record(session.stream)
            session.synchronize()
            total = watch.total()
            copy_in, compute, copy_out = (
                float(events[index + 1].time_since(events[index])) for index in range(3)
            )
        return Phases(total, copy_in, compute, copy_out)

    def burst(self, count: int) -> float:
        """Enqueue without waiting in between."""
        with self._runner.current():
            session = self._runner.session
            session.synchronize()
            watch = Stopwatch()
            for _ in range(count):
                self._launch()
            session.synchronize()
            return watch.total()

    def outputs(self) -> Arrays:
        """The last results."""
        with self._runner.current():
            return self._runner.session.collect()

    def memory(self) -> Memory | None:
        """What the GPU had less of, once the device's context was there."""
        return Memory(
            self._runner.free_before_load - self._free_least,
            "GPU memory: the device's free memory before the plan was loaded, less the least after",
        )

    def describe(self) -> dict[str, Any]:
        """The runner's own description, and what the manifest says of the build."""
        manifest = self._runner.manifest
        return {
            **self._runner.describe(),
            **super().describe(),
            "cuda_graph": self._graph,
            "onnx_sha256": manifest.onnx_sha256,
            "activation_bytes": manifest.activation_bytes,
        }

    def layers(self, runs: int) -> tuple[EngineLayer, ...]:
        """Every layer with its time, on the inputs that it was prepared for."""
        return self._runner.profile(self._inputs, runs=runs)

    def copy_bytes_per_second(self) -> float:
        """Bytes read plus bytes written per second of a copy within the GPU's memory."""
        cuda = self._runner.cuda
        with self._runner.current():
            stream = self._runner.session.stream
            source, target = cuda.mem_alloc(_COPY_BYTES), cuda.mem_alloc(_COPY_BYTES)
            try:
                cuda.memcpy_dtod_async(target, source, _COPY_BYTES, stream)
                before, after = cuda.Event(), cuda.Event()
                before.record(stream)
                for _ in range(_COPIES):
                    cuda.memcpy_dtod_async(target, source, _COPY_BYTES, stream)
                after.record(stream)
                after.synchronize()
                seconds = float(after.time_since(before)) * 1e-3
            finally:
                source.free()
                target.free()
        return 2 * _COPY_BYTES * _COPIES / seconds

    def _launch(self) -> None:
        session = self._runner.session
        session.replay() if self._graph else session.launch()

    def _note_least(self) -> None:
        with self._runner.current():
            free = int(self._runner.cuda.mem_get_info()[0])
        self._free_least = min(self._free_least, free)
