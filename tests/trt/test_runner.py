"""The TensorRT runner's own logic, on stand-ins for TensorRT and pycuda."""

import sys
from pathlib import Path
from types import ModuleType

import ml_dtypes
import numpy as np
import pytest
from tensorrt_fakes import VERSION, DType, FakeCuda, FakeEngine, fake_tensorrt

from gspn2_deploy.errors import MissingDependencyError, PlatformError, ShapeError
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import Manifest, ManifestError, ShapeRange, TensorInfo, manifest_path
from gspn2_deploy.runners import tensorrt_runner
from gspn2_deploy.runners.tensorrt_runner import TensorRTRunner

KINDS = {
    "float32": (DType.FLOAT, np.float32),
    "float16": (DType.HALF, np.float16),
    "bfloat16": (DType.BF16, ml_dtypes.bfloat16),
}


def write_plan(path: Path, dtype="float32", **changes):
    path.write_bytes(b"a plan")
    values = {
        "plan_file": path.name,
        "plan_bytes": path.stat().st_size,
        "plan_sha256": sha256_of(path),
        "onnx_file": "m.onnx",
        "onnx_sha256": "",
        "external_data_sha256": {},
        "backend": "tensorrt",
        "backend_version": VERSION,
        "package_version": "0",
        "cuda_version": None,
        "driver_version": None,
        "compute_capabilities": ("9.0",),
        "profiles": ({"x": ShapeRange((1, 3), (2, 3), (4, 3))},),
        "inputs": (TensorInfo("x", dtype, ("batch", 3)),),
        "outputs": (TensorInfo("y", dtype, ("batch", 3)),),
        "precision": "fp32",
        "layer_dtypes": {},
        "propagations": {},
        "activation_bytes": None,
        "metadata": {},
        "unproven": (),
        "build_seconds": 0.0,
        "host": "",
        "created": "",
    }
    Manifest(**{**values, **changes}).save(manifest_path(path))
    return path


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Install the stand-ins; returns a function that gives (runner, cuda, engine)."""

    def make(dtype="float32", *, device=0, **changes):
        cuda = FakeCuda()
        engine = FakeEngine(cuda, *KINDS[dtype])
        package = ModuleType("pycuda")
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(engine))
        monkeypatch.setattr(tensorrt_runner, "find_plugin", lambda version: Path("plugin.so"))
        monkeypatch.setattr(tensorrt_runner, "load_plugin", lambda trt, path: None)
        path = write_plan(tmp_path / "m.plan", dtype, **changes)
        return TensorRTRunner(path, device=device), cuda, engine

    return make


@pytest.mark.parametrize("dtype", KINDS)
def test_shapes_may_change_from_call_to_call(install, dtype):
    runner, cuda, _ = install(dtype)
    with runner:
        for batch in (2, 4, 1, 16, 3):
            x = np.arange(batch * 3).reshape(batch, 3).astype(KINDS[dtype][1])
            y = runner.infer({"x": x})["y"]
            assert y.dtype == x.dtype
            np.testing.assert_array_equal(y, x * x.dtype.type(2))
        assert len(cuda.memory) == 2  # buffers are used again, and grown ones replace them
    assert cuda.memory == {}
    assert cuda.stack == []


def test_outputs_are_the_callers(install):
    runner, _, _ = install()
    with runner:
        first = runner.infer({"x": np.ones((2, 3), np.float32)})["y"]
        runner.infer({"x": np.zeros((2, 3), np.float32)})
    np.testing.assert_array_equal(first, np.full((2, 3), 2, np.float32))


def test_the_profile_that_covers_the_shape_is_used(install):
    runner, _, _ = install()
    with runner:
        for batch in (1, 4, 5, 16, 2):
            runner.infer({"x": np.ones((batch, 3), np.float32)})
        assert runner._context.switches == [0, 1, 0]
        assert not runner.can_run({"x": np.ones((17, 3), np.float32)})
        with pytest.raises(ShapeError, match="no profile of the plan covers") as caught:
            runner.infer({"x": np.ones((17, 3), np.float32)})
    assert caught.value.expected == "x=1x3:2x3:4x3; or x=5x3:8x3:16x3"


def test_a_failed_run_is_an_error(install):
    runner, _, engine = install()
    with runner:
        engine.fails = True
        with pytest.raises(PlatformError, match="failed to run"):
            runner.infer({"x": np.ones((1, 3), np.float32)})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"backend_version": "10.3.0"}, "tensorrt is 8.6.1, the plan needs 10.3.0"),
        ({"compute_capabilities": ("8.9",)}, "compute capability 9.0, the plan was built for 8.9"),
        ({"plan_sha256": "0"}, "the plan is altered"),
        ({"plan_bytes": 100}, "the plan is truncated"),
    ],
)
def test_the_manifest_is_checked_before_the_plan_is_loaded(install, changes, message):
    runner, cuda, _ = install(**changes)
    sys.modules["tensorrt"].Runtime = None  # loading would fail in another way
    with pytest.raises(ManifestError, match=message), runner:
        pass
    assert cuda.stack == []


def test_a_plan_that_does_not_load_leaves_nothing_behind(install):
    runner, cuda, _ = install()
    sys.modules["tensorrt"] = fake_tensorrt(None)
    with pytest.raises(PlatformError, match="does not load"), runner:
        pass
    assert cuda.stack == []


def test_a_missing_gpu_is_named(install):
    runner, _, _ = install(device=3)
    with pytest.raises(PlatformError, match="GPU 3 cannot be used"), runner:
        pass


def test_a_missing_package_is_named(install, monkeypatch):
    runner, _, _ = install()
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(MissingDependencyError, match="pycuda is not available"), runner:
        pass
