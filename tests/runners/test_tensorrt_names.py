"""Every name of TensorRT's Python that the runner uses is there, in old and in new versions.

TensorRT for RTX has the interface of TensorRT 10 and 11. TensorRT 8.6's is looked at where
``TENSORRT_PYTHON`` and ``TENSORRT_SITE`` name a Python with it.
"""

import os
import subprocess
import sys

import pytest

from gspn2_deploy.build.tensorrt_rtx import TensorRTRTXBackend

NAMES = {
    "IExecutionContext": (
        *("enqueue_emits_profile", "profiler", "report_to_profiler", "set_input_shape"),
        *("get_tensor_shape", "set_tensor_address", "execute_async_v3"),
        "set_optimization_profile_async",
    ),
    "ICudaEngine": (
        *("create_execution_context", "create_engine_inspector", "num_optimization_profiles"),
        *("get_tensor_profile_shape", "num_io_tensors", "get_tensor_name", "get_tensor_dtype"),
        *("get_tensor_shape", "get_tensor_mode", "num_layers"),
    ),
    "EngineInspector": (*("execution_context", "get_engine_information", "get_layer_information"),),
    "Runtime": ("deserialize_cuda_engine", "engine_host_code_allowed"),
    "LayerInformationFormat": ("JSON",),
    "TensorIOMode": ("INPUT",),
    "IProfiler": ("report_layer_time",),
    "ILogger": ("Severity", "log"),
}
SCRIPT = f"""
import importlib, sys
trt = importlib.import_module(sys.argv[1])
names = {NAMES!r}
missing = [f"{{kind}}.{{name}}" for kind in names for name in names[kind]
           if not hasattr(getattr(trt, kind), name)]
class Profiler(trt.IProfiler):
    def __init__(self):
        super().__init__()
        self.times = []
    def report_layer_time(self, layer_name, ms):
        self.times.append((layer_name, ms))
profiler = Profiler()
profiler.report_layer_time("a", 1.5)
assert profiler.times == [("a", 1.5)]
severities = "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"
assert all(getattr(trt.ILogger.Severity, name).name == name for name in severities)
print(trt.__version__, *missing)
"""


def look(python, module, env=None):
    done = subprocess.run(
        [python, "-c", SCRIPT, module], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.tensorrt
@pytest.mark.skipif(
    not TensorRTRTXBackend().is_available(), reason="TensorRT for RTX is not installed"
)
def test_the_new_interface_has_them():
    _, *missing = look(sys.executable, "tensorrt_rtx_bindings")
    assert missing == []


@pytest.mark.tensorrt
def test_the_old_interface_has_them():
    python, site = os.environ.get("TENSORRT_PYTHON"), os.environ.get("TENSORRT_SITE")
    if not python or not site:
        pytest.skip("TENSORRT_PYTHON and TENSORRT_SITE name no Python with TensorRT 8.6")
    folder = os.environ.get("TENSORRT_LIB_DIR", "")
    paths = (folder, os.environ.get("LD_LIBRARY_PATH"))
    env = {**os.environ, "PYTHONPATH": site, "LD_LIBRARY_PATH": ":".join(filter(None, paths))}
    version, *missing = look(python, "tensorrt", env)
    assert version.startswith("8.6")
    assert missing == []
