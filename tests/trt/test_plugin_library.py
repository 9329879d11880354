"""Finding the plugin library, and refusing one that does not fit, without TensorRT."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import gspn2_deploy
from gspn2_deploy.errors import KernelLibraryError
from gspn2_deploy.spec import PLUGIN_TYPES
from gspn2_deploy.tensorrt_plugin import (
    LIBRARY_NAME,
    PLUGIN_VARIABLE,
    find_plugin,
    library_version,
    load_plugin,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(PLUGIN_VARIABLE, raising=False)
    for version in ("8.6", "10.3", "10.16", "11.1"):
        library = tmp_path / f"tensorrt-{version}" / LIBRARY_NAME
        library.parent.mkdir()
        library.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    "version, chosen",
    [
        ("8.6.1", "8.6"),
        ("8.5.3", "8.6"),  # nothing older: the oldest of its major version
        ("10.16.1", "10.16"),
        ("10.9.0", "10.3"),  # headers no newer than the library
        ("10.20.0", "10.16"),
        ("11.1.0.1", "11.1"),
    ],
)
def test_the_fitting_build_is_chosen(folder, version, chosen):
    assert find_plugin(version, [folder]).parent.name == f"tensorrt-{chosen}"


def test_every_folder_of_the_package_is_searched(folder, tmp_path, monkeypatch):
    sources, compiled = tmp_path / "sources", tmp_path / "compiled"
    sources.mkdir()
    compiled.mkdir()
    (compiled / "lib").symlink_to(folder)
    monkeypatch.setattr(gspn2_deploy, "__path__", [str(sources), str(compiled)])
    assert find_plugin("11.1.0").parent.name == "tensorrt-11.1"


def test_no_build_for_a_major_version_is_named(folder):
    with pytest.raises(KernelLibraryError, match="no plugin library for TensorRT 9") as caught:
        find_plugin("9.3.0", [folder])
    assert caught.value.got == "built for TensorRT 8.6, 10.3, 10.16, 11.1"


def test_the_environment_decides(folder, tmp_path, monkeypatch):
    named = tmp_path / "mine.so"
    monkeypatch.setenv(PLUGIN_VARIABLE, str(named))
    with pytest.raises(KernelLibraryError, match="missing") as caught:
        find_plugin("11.1.0", [folder])
    assert PLUGIN_VARIABLE in str(caught.value.got)
    named.write_bytes(b"")
    assert find_plugin("11.1.0", [folder]) == named


def test_a_damaged_library_is_refused(tmp_path):
    library = tmp_path / LIBRARY_NAME
    library.write_bytes(b"not a library")
    with pytest.raises(KernelLibraryError, match="does not load as the TensorRT plugin"):
        load_plugin(SimpleNamespace(__version__="8.6.1"), library)


def compile_library(tmp_path, source):
    code = tmp_path / "fake.c"
    code.write_text(source)
    library = tmp_path / LIBRARY_NAME
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, code], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return library


FAKE = """
int headers = 0;
int gspn2TensorRTHeaders(void) {{ return {headers}; }}
_Bool initLibGspn2Plugins(void* logger, const char* space) {{ return {accepts}; }}
const char* gspn2TensorRTLastError(void) {{ return "the reason"; }}
"""


def fake_tensorrt(version, creators):
    def look_up(name, plugin_version, namespace):
        return creators.get((name, plugin_version, namespace))

    registry = SimpleNamespace(get_creator=look_up, get_plugin_creator=look_up)
    return SimpleNamespace(__version__=version, get_plugin_registry=lambda: registry)


ALL = {(name, "1", ""): object() for name in PLUGIN_TYPES}


@pytest.mark.skipif(sys.platform != "linux", reason="the plugin is built for Linux")
def test_a_library_for_another_major_version_is_refused(tmp_path):
    library = compile_library(tmp_path, FAKE.format(headers=80600, accepts=1))
    load_plugin(fake_tensorrt("8.6.1", ALL), library)
    with pytest.raises(KernelLibraryError, match="built for another TensorRT") as caught:
        load_plugin(fake_tensorrt("10.3.0", ALL), library)
    assert caught.value.got == "headers of 8.6"


@pytest.mark.skipif(sys.platform != "linux", reason="the plugin is built for Linux")
@pytest.mark.parametrize("accepts, creators", [(0, ALL), (1, {})])
def test_a_missing_creator_is_named(tmp_path, accepts, creators):
    library = compile_library(tmp_path, FAKE.format(headers=100300, accepts=accepts))
    with pytest.raises(
        KernelLibraryError, match=r"\(GspnProp2D, version 1, namespace ''\)"
    ) as caught:
        load_plugin(fake_tensorrt("10.3.0", creators), library)
    assert caught.value.got == "the reason"


VERSION_SCRIPT = """
import ctypes, sys
from types import SimpleNamespace
from gspn2_deploy.tensorrt_plugin import library_version
ctypes.CDLL(sys.argv[1])
print(library_version(SimpleNamespace(__version__=sys.argv[2])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the plugin is built for Linux")
@pytest.mark.parametrize(
    "stated, number, version",
    [
        ("8.6.1", 8601, "8.6.1"),
        ("8.6.1", 8600, "8.6.0"),  # bindings of another patch level than the library
        ("10.16.1.11", 101601, "10.16.1.11"),
        ("10.16.1", 101610, "10.16.10"),
        ("11.1.0.106", 110100, "11.1.0.106"),
    ],
)
def test_the_librarys_version_counts(tmp_path, stated, number, version):
    code, major = tmp_path / "nvinfer.c", stated.split(".")[0]
    code.write_text(f"int getInferLibVersion(void) {{ return {number}; }}")
    library = tmp_path / f"libnvinfer.so.{major}"
    command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", library, code]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    result = subprocess.run(
        [sys.executable, "-c", VERSION_SCRIPT, library, stated],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == version


def test_without_the_library_the_module_says_its_version():
    assert library_version(SimpleNamespace(__version__="8.6.1")) == "8.6.1"


def test_the_version_of_an_installed_tensorrt_8():
    python, site = os.environ.get("TENSORRT_PYTHON"), os.environ.get("TENSORRT_SITE")
    if not python or not site:
        pytest.skip("TENSORRT_PYTHON and TENSORRT_SITE name no Python with TensorRT 8")
    script = (
        "import ctypes, tensorrt; from gspn2_deploy.tensorrt_plugin import library_version; "
        "print(library_version(tensorrt), ctypes.CDLL('libnvinfer.so.8').getInferLibVersion())"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([site, str(root)])}
    result = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, env=environment, timeout=120
    )
    assert result.returncode == 0, result.stderr
    version, number = result.stdout.split()
    major, minor, patch = map(int, version.split(".")[:3])
    assert major * 1000 + minor * 100 + patch == int(number)
