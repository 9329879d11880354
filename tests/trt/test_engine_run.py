"""Running an engine that was just built, on stand-ins for TensorRT, pycuda and the driver."""

import sys

import pytest
from runners.tensorrt_fakes import PLUGIN_LAYER, FakeEngine, install

from gspn2_deploy.build import engine_run
from gspn2_deploy.build.engine_run import inspect_after_run
from gspn2_deploy.errors import MissingDependencyError
from gspn2_deploy.manifest import ShapeRange, TensorInfo
from gspn2_deploy.runners.plan_errors import NoGpuError, RunFailedError
from gspn2_deploy.runners.trt_tensors import engine_interface

PROFILES = tuple(
    {"x": ShapeRange(*((batch, 3) for batch in batches))} for batches in ((1, 2, 4), (5, 8, 16))
)


def make(monkeypatch, engine=None):
    machine = install(monkeypatch, engine)
    monkeypatch.setattr(engine_run, "CudaDriver", lambda: machine.driver)
    return machine


@pytest.fixture
def machine(monkeypatch):
    return make(monkeypatch)


def run(machine, profiles=PROFILES):
    trt, engine = machine.tensorrt, machine.engine
    return inspect_after_run(trt, engine, *engine_interface(trt, engine), profiles)


def test_it_runs_at_each_profiles_tuned_shapes(machine):
    seen = []
    machine.engine.function = lambda arrays: seen.append(arrays["x"].shape) or {"y": arrays["x"]}
    layers = run(machine)
    assert list(dict.fromkeys(seen)) == [(2, 3), (8, 3)]
    plugins = [layer for layer in layers if layer.name == PLUGIN_LAYER]
    assert [layer.dtype for layer in plugins] == ["float32", "float32"]


def test_fixed_shapes_need_no_profile(monkeypatch):
    inputs, outputs = ((TensorInfo(name, "float32", (2, 3)),) for name in ("x", "y"))
    machine = make(
        monkeypatch,
        lambda cuda: FakeEngine(cuda, inputs=inputs, outputs=outputs, profiles=({},)),
    )
    assert len(run(machine, ())) == len(machine.engine.layers)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(machine, fails):
    machine.engine.fails = fails
    if fails:
        with pytest.raises(RunFailedError):
            run(machine)
    else:
        run(machine)
    cuda = machine.cuda
    assert (cuda.stack, cuda.retained, cuda.memory, machine.engine.contexts) == ([], 0, {}, 0)


def test_what_is_missing_is_told(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(MissingDependencyError, match="pycuda"):
        run(machine)

    def no_driver():
        raise NoGpuError("there is no CUDA driver")

    monkeypatch.setattr(engine_run, "CudaDriver", no_driver)
    with pytest.raises(NoGpuError):
        run(machine)
