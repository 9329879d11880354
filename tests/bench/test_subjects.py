"""Every subject: what it runs, its phases, and that it lets go. GPUs are stand-ins."""

import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from runners.small_models import TwoHeads, images, write_onnx
from runners.tensorrt_fakes import COPY_MS, ENGINE_MS, GRAPH_MS, install, write_plan

from gspn2_deploy.bench import subjects
from gspn2_deploy.bench.engine import EngineSubject
from gspn2_deploy.bench.subjects import OnnxRuntimeSubject, TorchSubject
from gspn2_deploy.errors import MissingDependencyError, PlatformError, ShapeError, UsageError
from gspn2_deploy.runners.plan_errors import NoGpuError, RunFailedError

NAMES = ["logits", "aux"]
# PyTorch's own use of what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def torch_subject(model=None, **options):
    return TorchSubject(model or TwoHeads(), ["images"], NAMES, **options)


def expected(inputs):
    with torch.inference_mode():
        results = TwoHeads()(torch.from_numpy(inputs["images"]))
    return {name: value.numpy() for name, value in zip(NAMES, results, strict=True)}


def check(subject, inputs):
    """Prepare, run, run back to back; the outputs must be right."""
    subject.prepare(inputs)
    phases = subject.run()
    assert phases.total > 0
    assert subject.burst(3) > 0
    for name, value in expected(inputs).items():
        np.testing.assert_allclose(subject.outputs()[name], value, rtol=1e-4, atol=1e-5)
    return phases


class TestTorch:
    def test_eager_on_the_cpu(self):
        with torch_subject() as subject:
            for batch in (1, 5):
                phases = check(subject, {"images": images(batch)})
                assert phases.compute is phases.copy_in is phases.copy_out is None
            assert subject.memory() is None or subject.memory().bytes >= 0
            assert subject.device.kind == "cpu"
            assert subject.describe()["compile_mode"] is None

    def test_threads_are_set_and_set_back(self):
        before = torch.get_num_threads()
        with torch_subject(threads=1) as subject:
            assert torch.get_num_threads() == 1
            assert subject.describe()["threads"] == 1
        assert torch.get_num_threads() == before

    def test_it_is_compiled_for_every_shape(self, monkeypatch):
        seen = []

        def compile_(model, *, mode, dynamic):
            seen.append((mode, dynamic))
            return model

        monkeypatch.setattr(torch, "compile", compile_)
        with torch_subject(compile_mode="max-autotune") as subject:
            assert subject.name == "pytorch compiled (max-autotune)"
            for batch in (1, 2):
                check(subject, {"images": images(batch)})
        assert seen == [("max-autotune", False)] * 2

    @pytest.mark.slow
    def test_compiled_for_real(self):
        with torch_subject(compile_mode="default") as subject:
            check(subject, {"images": images(2)})

    def test_what_a_model_raises_is_said(self):
        class Broken(TwoHeads):
            def forward(self, x):
                raise ValueError("no")

        with torch_subject(Broken()) as subject, pytest.raises(PlatformError, match="ValueError"):
            subject.prepare({"images": images()})

    def test_no_gpu_is_said(self):
        with pytest.raises(PlatformError, match="PyTorch sees no GPU"), torch_subject(place="cuda"):
            pass

    @pytest.fixture
    def gpu(self, monkeypatch):
        """Let the CPU stand in for a GPU whose every step takes a millisecond."""
        calls = SimpleNamespace(marks=0, waits=0, clock=0.0)

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                calls.clock += 1.0
                self.at = calls.clock

            def synchronize(self):
                calls.waits += 1

            def elapsed_time(self, other):
                return other.at - self.at

        def wait(place):
            calls.waits += 1

        def mark():
            calls.marks += 1

        empty_like = torch.empty_like
        monkeypatch.setattr(subjects, "CUDA_PLACE", "cpu")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "synchronize", wait)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda place: None)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda place: 123)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        facts = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x1A, pci_device_id=0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda place: facts)
        monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", mark)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self.clone())
        monkeypatch.setattr(torch, "compile", lambda model, **_: model)
        monkeypatch.setattr(torch, "empty_like", lambda t, device, pin_memory: empty_like(t))
        return calls

    @pytest.mark.parametrize("mode", [None, "reduce-overhead"])
    def test_on_a_gpu_the_phases_are_apart(self, gpu, mode):
        with torch_subject(place="cpu:0", compile_mode=mode) as subject:
            phases = check(subject, {"images": images(2)})
            assert (phases.copy_in, phases.compute, phases.copy_out) == (1.0, 1.0, 1.0)
            for host, value in zip(
                subject._host_results, expected({"images": images(2)}).values(), strict=True
            ):
                np.testing.assert_allclose(host.numpy(), value, rtol=1e-4, atol=1e-5)
            assert subject.memory().bytes == 123
            assert subject.bus_id() == "00000000:1a:00.0"
            assert subject.describe()["tf32"] is False
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32
        assert gpu.waits > 0
        assert (gpu.marks > 0) == (mode is not None)


class TestOnnxRuntime:
    @pytest.fixture
    def path(self, tmp_path):
        return write_onnx(tmp_path / "m.onnx")

    def test_on_the_cpu(self, path):
        with OnnxRuntimeSubject(path, threads=1) as subject:
            phases = check(subject, {"images": images(3)})
            assert phases.compute is None
            assert subject.device.kind == "cpu"
            assert subject.describe()["threads"] == 1

    def test_bound_to_a_device(self, path, monkeypatch):
        """The calls of a GPU, on the CPU: both are onnxruntime's own."""
        monkeypatch.setattr(subjects, "CUDA_PLACE", "cpu")
        monkeypatch.setattr(subjects, "CUDA_PROVIDER", "CPUExecutionProvider")
        if not hasattr(onnxruntime.OrtValue, "update_inplace"):
            pytest.skip("this onnxruntime has no update_inplace")
        with OnnxRuntimeSubject(path, place="cpu:0") as subject:
            phases = check(subject, {"images": images(3)})
            parts = (phases.copy_in, phases.compute, phases.copy_out)
            assert all(part >= 0 for part in parts)
            assert sum(parts) <= phases.total
            assert subject.memory() is None

    def test_a_provider_elsewhere_is_refused(self, path):
        with pytest.raises(UsageError, match="does not run where --device says"):
            OnnxRuntimeSubject(path, place="cuda:0")
        with pytest.raises(UsageError, match="does not run where --device says"):
            OnnxRuntimeSubject(path, providers=["CUDAExecutionProvider"])

    def test_a_provider_that_is_missing_is_named(self, path):
        subject = OnnxRuntimeSubject(path, providers=["CUDAExecutionProvider"], place="cuda:0")
        with pytest.raises(MissingDependencyError, match="onnxruntime-gpu"), subject:
            pass


class TestEngine:
    @pytest.fixture
    def world(self, monkeypatch, tmp_path):
        machine = install(monkeypatch)
        return machine, write_plan(tmp_path / "m.plan")

    def rows(self, batch):
        return np.arange(batch * 3, dtype=np.float32).reshape(batch, 3)

    @pytest.mark.parametrize("graph", [False, True])
    def test_the_phases_are_apart(self, world, graph):
        machine, plan = world
        with EngineSubject(plan, graph=graph) as subject:
            for batch in (2, 16):
                subject.prepare({"x": self.rows(batch)})
                phases = subject.run()
                assert phases.copy_in == phases.copy_out == pytest.approx(COPY_MS)
                assert phases.compute == pytest.approx(GRAPH_MS if graph else ENGINE_MS)
                np.testing.assert_array_equal(subject.outputs()["y"], 2 * self.rows(batch))
                clock = machine.cuda.clock
                subject.burst(4)
                assert machine.cuda.clock - clock == pytest.approx(4 * phases.compute)
            assert subject.memory().bytes > 0
            described = subject.describe()
            assert (described["cuda_graph"], described["tensorrt"]) == (graph, "8.6.1")
            assert subject.name == ("tensorrt graph" if graph else "tensorrt")
        assert machine.cuda.memory == {}
        assert machine.cuda.retained == 0

    def test_layers_and_bandwidth(self, world):
        machine, plan = world
        with EngineSubject(plan) as subject:
            subject.prepare({"x": self.rows(2)})
            layers = subject.layers(runs=2)
            assert [layer.milliseconds for layer in layers] == [1.0, 0.25, 0.5]
            assert subject.copy_bytes_per_second() == pytest.approx(2 * (1 << 29) / COPY_MS * 1e3)
            subject.prepare({"x": self.rows(2)})
            subject.run()
        assert machine.cuda.memory == {}

    def test_shapes_outside_the_profile(self, world):
        with EngineSubject(world[1]) as subject, pytest.raises(ShapeError, match="no profile"):
            subject.prepare({"x": self.rows(17)})

    def test_failures_are_typed(self, world):
        machine, plan = world
        with EngineSubject(plan) as subject:
            subject.prepare({"x": self.rows(2)})
            machine.engine.fails = True
            with pytest.raises(RunFailedError):
                subject.run()

    def test_no_gpu(self, world):
        with pytest.raises(NoGpuError), EngineSubject(world[1], device=4):
            pass

    def test_it_needs_no_torch(self, world, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        with EngineSubject(world[1]) as subject:
            subject.prepare({"x": self.rows(2)})
            assert subject.run().total > 0
