"""The TensorRT backend before it loads TensorRT."""

import importlib.util

import pytest

from gspn2_deploy.build import create_backend, gpu, tensorrt
from gspn2_deploy.errors import MissingDependencyError, PlatformError, UsageError


@pytest.fixture
def hopper(monkeypatch):
    monkeypatch.setattr(tensorrt, "current_gpu", lambda: gpu.Gpu("H200", "9.0"))


def test_it_is_a_backend_by_name():
    assert isinstance(create_backend("tensorrt"), tensorrt.TensorRTBackend)


def test_without_tensorrt_it_names_the_package(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorrt" else find(name)
    )
    with pytest.raises(MissingDependencyError, match=r"pip install 'gspn2-deploy\[tensorrt\]'"):
        create_backend("tensorrt").version()


@pytest.mark.parametrize(
    ("distribution", "version"),
    [("tensorrt", "8.6.1"), ("tensorrt_cu12", "8.6.1"), ("tensorrt_bindings", "unknown")],
)
def test_the_librarys_package_says_its_version(tmp_path, monkeypatch, distribution, version):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    metadata = tmp_path / f"{distribution}-8.6.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 8.6.1\n")
    assert create_backend("tensorrt").version() == version


def test_no_folder_of_the_tests_passes_for_tensorrt():
    spec = importlib.util.find_spec("tensorrt")
    assert spec is None or spec.origin is not None


@pytest.mark.parametrize("asked", [(), ("9.0",), ("sm_90",), ("90", "9.0")])
def test_the_gpu_of_this_machine_is_the_target(hopper, asked):
    backend = create_backend("tensorrt")
    assert backend.resolve_compute_capabilities(asked, frozenset({"float16"})) == ("9.0",)


def test_another_target_is_refused(hopper):
    with pytest.raises(UsageError, match="only for the GPU of this machine") as caught:
        create_backend("tensorrt").resolve_compute_capabilities(("9.0", "8.9"), frozenset())
    assert (caught.value.got, caught.value.expected) == ("8.9", "9.0")


def test_without_a_driver_it_says_so(monkeypatch):
    def no_driver(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(gpu.ctypes, "CDLL", no_driver)
    with pytest.raises(PlatformError, match="needs a GPU") as caught:
        create_backend("tensorrt").resolve_compute_capabilities((), frozenset())
    assert "libcuda.so.1" in str(caught.value.got)
