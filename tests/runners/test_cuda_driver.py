"""The driver's calls, into a compiled stand-in for libcuda: types and order of the arguments."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from gspn2_deploy.runners.cuda_driver import CudaDriver
from gspn2_deploy.runners.plan_errors import NoGpuError, RunFailedError

SOURCE = Path(__file__).with_name("fake_libcuda.c")
STREAM = 0x7F00_1234_5678  # a handle is a pointer: more than 32 bits


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    path = tmp_path_factory.mktemp("cuda") / "libfake_cuda.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, SOURCE], check=True)
    return path


@pytest.fixture
def world(built, tmp_path):
    """The driver over a library of its own, and that library's variables."""
    path = Path(shutil.copy(built, tmp_path / "libcuda.so"))
    library = ctypes.CDLL(str(path))

    class World:
        driver = CudaDriver(str(path))

        def get(self, name, kind=ctypes.c_int):
            return kind.in_dll(library, name).value

        def set(self, name, value):
            ctypes.c_int.in_dll(library, name).value = value

    return World()


def test_work_is_captured_and_replayed(world):
    seen = []
    graph = world.driver.capture(STREAM, lambda: seen.append(world.get("capturing")))
    assert seen == [1]
    assert world.get("capturing") == 0
    assert world.get("last_stream", ctypes.c_void_p) == STREAM
    assert world.get("last_mode") == 1
    assert (world.get("graphs"), world.get("executables")) == (0, 1)
    graph.launch(STREAM + 8)
    assert world.get("last_stream", ctypes.c_void_p) == STREAM + 8
    graph.free()
    graph.free()  # once is enough, twice does no harm
    assert world.get("executables") == 0


def test_a_failure_while_capturing_ends_the_capture(world):
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        world.driver.capture(STREAM, fail)
    assert (world.get("capturing"), world.get("graphs")) == (0, 0)


@pytest.mark.parametrize(
    "what, message",
    [
        ("fail_end", "cuStreamEndCapture: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"),
        ("fail_instantiate", "cuGraphInstantiateWithFlags: error 1"),
    ],
)
def test_what_cannot_be_captured_is_an_error(world, what, message):
    world.set(what, 1)
    with pytest.raises(RunFailedError, match=message):
        world.driver.capture(STREAM, lambda: None)
    assert (world.get("graphs"), world.get("executables")) == (0, 0)


def test_a_refused_launch_is_an_error(world):
    graph = world.driver.capture(STREAM, lambda: None)
    world.set("fail_launch", 1)
    with pytest.raises(RunFailedError, match="could not replay the graph"):
        graph.launch(STREAM)


def test_pointers_are_told_apart(world):
    assert world.driver.device_of(world.get("known_device", ctypes.c_void_p)) == 3
    assert world.driver.device_of(world.get("known_host", ctypes.c_void_p)) is None
    assert world.driver.device_of(STREAM) is None  # freed, or never allocated


def test_contexts_are_popped(world):
    assert world.driver.current_context() == 0
    world.set("contexts", 2)
    assert world.driver.current_context() != 0
    world.driver.pop_context()
    assert world.get("contexts") == 1


def test_no_driver_is_no_gpu():
    with pytest.raises(NoGpuError, match="no CUDA driver"):
        CudaDriver("libnonesuch.so.1")
