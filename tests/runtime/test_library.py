"""The real library: what it exports, and how it refuses what it cannot open.

With ``TENSORRT_LIB_DIR`` naming the folder of TensorRT 8.6's libraries, and the plugin built
(``make plugin``), everything before the GPU is real.
"""

import ctypes.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from runtime.runtime_build import has_gpu, run
from runtime.runtime_plans import ONNX_SHA256, write_manifest

from gspn2_deploy.bundle import write_bundle
from gspn2_deploy.golden import GoldenSample, GoldenSamples
from gspn2_deploy.manifest import manifest_path

pytestmark = pytest.mark.tensorrt

ROOT = Path(__file__).parents[2]
STATUS = {"File": 2, "Manifest": 3, "Altered": 4, "Library": 5, "Version": 6, "NoGpu": 7}
STATUS |= {"Gpu": 8, "Plugin": 9, "Engine": 10}
LIBM = "libm.so.6"
KERNELS = "libgspn2_kernels.so [0];  generating link map"


@pytest.fixture
def plan(tmp_path):
    """A plan that is none, with a manifest that Python wrote."""
    path = tmp_path / "nano.plan"
    path.write_bytes(b"not a plan" * 100)
    write_manifest(path)
    return path


def opened(build, *arguments):
    """Open through both APIs, which must agree; return the error's kind and its text."""
    cpp = build.program("open_engine", *arguments)
    c = build.program("open_engine_c", *arguments)
    kind, _, text = cpp.stdout.partition("\n")
    assert (cpp.returncode, c.returncode) == (1, 1), cpp.stderr + c.stderr
    status, _, message = c.stdout.partition("\n")
    assert int(status) == STATUS[kind]
    assert message == text
    return kind, text


def tensorrt_8():
    folder = os.environ.get("TENSORRT_LIB_DIR")
    if not folder or not (Path(folder) / "libnvinfer.so.8").is_file():
        pytest.skip("TENSORRT_LIB_DIR names no folder with libnvinfer.so.8")
    return folder


def plugin(version):
    place = Path(os.environ.get("GSPN2_PLUGIN_BUILD") or ROOT / "build/kernels/tensorrt")
    found = sorted(place.glob(f"{version}*/libgspn2_tensorrt.so"))
    if not found:
        pytest.skip(f"no plugin for TensorRT {version} under {place}: run `make plugin`")
    return found[0]


def test_only_the_api_is_exported(build):
    lines = run("nm", "-DC", "--defined-only", build.library).stdout.splitlines()
    names = [line.split(" ", 2)[2] for line in lines]
    foreign = [name for name in names if "gspn2" not in name and not name.startswith(STANDARD)]
    assert foreign == []
    assert not [name for name in names if "::Impl::" in name]
    assert "gspn2_engine_open_bundle" in names


STANDARD = ("std::", "void std::", "bool std::", "typeinfo for std::", "typeinfo name for std::")
STANDARD += ("vtable for std::", "guard variable for std::", "auto std::")


def test_no_tensorrt_and_no_cuda_library_is_linked(build):
    needed = run("readelf", "-d", build.library).stdout
    assert "libc.so" in needed
    assert not [word for word in ("nvinfer", "cudart", "libcuda", "torch") if word in needed]


def test_missing_files(build, tmp_path):
    assert opened(build, tmp_path / "absent.plan")[0] == "File"
    assert opened(build, tmp_path)[0] == "File"


def test_damaged_manifests(build, plan):
    beside = manifest_path(plan)
    beside.write_text(beside.read_text()[:-3])
    kind, text = opened(build, plan)
    assert kind == "Manifest"
    assert "is damaged" in text
    write_manifest(plan, backend="tensorrt-rtx")
    assert "got:      tensorrt-rtx" in opened(build, plan)[1]


def test_altered_plans(build, plan):
    plan.write_bytes(plan.read_bytes()[:-1])
    kind, text = opened(build, plan)
    assert kind == "Altered"
    assert "truncated: 999 bytes instead of 1000" in text


def test_tensorrt_that_is_not_there(build, plan, tmp_path):
    kind, text = opened(build, plan, tmp_path)
    assert kind == "Library"
    assert f"{tmp_path}/libnvinfer.so.8" in text


def test_a_library_that_is_not_tensorrt(build, plan):
    kind, text = opened(build, plan, ctypes.util.find_library("m"))
    assert kind == "Library"
    assert "the library is not TensorRT" in text
    assert "no function getInferLibVersion" in text


def test_versions_without_a_driver(build, plan):
    write_manifest(plan, backend_version="7.2.3")
    kind, text = opened(build, plan)
    assert kind == "Version"
    assert "a plan of TensorRT 7" in text


def test_another_major_version_is_not_called(build, plan):
    write_manifest(plan, backend_version="10.16.1")
    library = Path(tensorrt_8()) / "libnvinfer.so.8"
    kind, text = opened(build, plan, library)
    assert kind == "Library"
    assert "it is TensorRT 8.6.0" in text


def test_everything_before_the_gpu_is_real(build, plan):
    kind, text = opened(build, plan, tensorrt_8(), plugin("8."))
    if has_gpu():
        assert kind == "Engine"
        assert "TensorRT refused the plan" in text
    else:
        assert kind == "NoGpu"
        assert text.startswith("no GPU can be used\n")


def test_another_patch_version(build, plan):
    write_manifest(plan, backend_version="8.6.9")
    kind, text = opened(build, plan, tensorrt_8(), plugin("8."))
    assert kind == "Version"
    assert "TensorRT 8.6.0" in text
    assert "TensorRT 8.6.9" in text


@pytest.mark.parametrize(
    "name, words",
    [
        ("absent.so", "cannot be loaded"),
        (LIBM, "has no gspn2TensorRTHeaders"),
        (None, 'GspnProp2D (version "1", namespace "") missing'),
    ],
)
def test_plugins_that_are_none(build, plan, name, words):
    kind, text = opened(build, plan, tensorrt_8(), *([name] if name else []))
    assert kind == "Plugin"
    assert words in text


def test_plugins_for_another_tensorrt(build, plan):
    kind, text = opened(build, plan, tensorrt_8(), plugin("10."))
    assert kind == "Plugin"
    assert "is for TensorRT 10" in text


def test_libraries_that_do_not_load(build, plan):
    kind, text = opened(build, plan, tensorrt_8(), plugin("8."), "absent.so")
    assert kind == "Plugin"
    assert "a library that the plugin needs cannot be loaded" in text


def write(plan, tmp_path, library):
    """Write a bundle with Python."""
    images = np.zeros((1, 1, 8, 8), dtype=np.float32)
    arrays = {"images": images}, {"scores": images[0, 0, :1]}, {"scores": images[0, 0, :1]}
    golden = tmp_path / "nano.golden.npz"
    GoldenSamples((GoldenSample(*arrays),), ONNX_SHA256, "cd" * 32, "nano", "fp32").save(golden)
    write_bundle(plan, tmp_path / "out", golden=golden, plugin=library)
    return tmp_path / "out"


@pytest.fixture
def bundle(plan, tmp_path):
    library = tmp_path / "libgspn2_tensorrt.so"
    library.write_bytes(b"\x7fELF initLibGspn2Plugins")
    return write(plan, tmp_path, library)


def test_a_bundles_plugin_runs_on_the_bundles_kernels(build, plan, tmp_path, monkeypatch):
    folder = write(plan, tmp_path, plugin("8."))
    assert opened(build, folder, tensorrt_8())[0] == ("Engine" if has_gpu() else "NoGpu")
    monkeypatch.setenv("LD_DEBUG", "files")
    loaded = build.program("open_engine", folder, tensorrt_8()).stderr
    kernels = {
        line.split("file=")[1].split(" ")[0] for line in loaded.splitlines() if KERNELS in line
    }
    assert kernels == {str(folder / "libgspn2_kernels.so")}


def test_pythons_bundles_are_read(build, bundle, tmp_path):
    kind, text = opened(build, bundle, tmp_path)  # where there is no TensorRT
    assert kind == "Library"
    assert "altered" not in text


@pytest.mark.parametrize("name", ["nano.plan", "nano.plan.json", "libgspn2_tensorrt.so"])
def test_altered_bundles(build, bundle, name):
    (bundle / name).write_bytes(b"altered")
    kind, text = opened(build, bundle)
    assert kind == "Altered"
    assert f"{name} is " in text


def test_bundles_that_point_elsewhere(build, bundle):
    content = json.loads((bundle / "bundle.json").read_text())
    content["plugin"] = "../libgspn2_tensorrt.so"
    (bundle / "bundle.json").write_text(json.dumps(content))
    kind, text = opened(build, bundle)
    assert kind == "Manifest"
    assert "is not the name of a file in the bundle" in text
