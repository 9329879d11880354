"""What each library exports and what it needs, seen from outside."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from plugin_builds import EMBEDDABLE, LIBRARY, parametrize_builds

from gspn2_deploy import spec
from gspn2_deploy.ops.cuda import ABI_VERSION

COMMON = {
    "gspn2TensorRTHeaders",
    "gspn2TensorRTLastError",
    "initLibGspn2Plugins",
    "setLoggerFinder",
}
CALL = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.initLibGspn2Plugins.restype = ctypes.c_bool
library.initLibGspn2Plugins.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
namespace = None if len(sys.argv) == 2 else sys.argv[2].encode()
print(library.gspn2TensorRTHeaders(), library.initLibGspn2Plugins(None, namespace))
"""


def major(folder):
    return int(folder.name.split(".")[0])


def creators_function(folder):
    return "getPluginCreators" if major(folder) < 10 else "getCreators"


def tool_output(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} (binutils) is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def needed(library):
    dynamic = tool_output("readelf", "-d", library)
    return re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)


@parametrize_builds()
@pytest.mark.parametrize("name", [LIBRARY, EMBEDDABLE])
def test_exports_are_the_entry_points_alone(folder, name):
    symbols = tool_output("nm", "-D", "--defined-only", folder / name)
    strong = {line.split()[-1] for line in symbols.splitlines() if line.split()[1] in "TDB"}
    assert strong == COMMON | {creators_function(folder)}


@parametrize_builds()
def test_needs_no_tensorrt_library(folder):
    names = needed(folder / LIBRARY)
    assert "libgspn2_kernels.so" in names
    assert not [name for name in names if "nvinfer" in name or "tensorrt" in name]


@parametrize_builds()
def test_what_a_plan_carries_needs_nothing_of_ours(folder):
    names = needed(folder / EMBEDDABLE)
    system = ("libstdc++", "libgcc_s", "libc.", "libm.", "libdl", "libpthread", "librt", "ld-linux")
    assert [name for name in names if not name.startswith(system)] == []


CREATORS = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
count = ctypes.c_int32(-1)
getattr(library, sys.argv[2])(ctypes.byref(count))
print(count.value, library.initLibGspn2Plugins(None, None) % 256)
"""


def call_init(folder, *arguments):
    library = folder / "libgspn2_tensorrt.so"
    return subprocess.run(
        [sys.executable, "-c", CALL, library, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="session")
def other_kernels(tmp_path_factory):
    """A library whose ABI version stands before the kernel library's."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("kernels") / "other.so"
    source = b"int gspn2_kernels_abi_version(void) { return 999; }"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
    subprocess.run(command, input=source, check=True)
    return library


@parametrize_builds()
@pytest.mark.parametrize("name", [LIBRARY, EMBEDDABLE])
@pytest.mark.parametrize("preloads", [False, True])
def test_kernels_of_another_abi_version_are_refused(folder, name, preloads, other_kernels):
    function = creators_function(folder)
    environment = {**os.environ, "LD_PRELOAD": str(other_kernels)} if preloads else None
    result = subprocess.run(
        [sys.executable, "-c", CREATORS, folder / name, function],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    creators, registered = result.stdout.split()
    assert registered == "0"  # there is no TensorRT in any case
    refusal = (
        f"libgspn2_kernels.so has the ABI version 999, this library was built for {ABI_VERSION}"
    )
    if preloads and name == LIBRARY:
        assert creators == "0"
        for where in (function, "initLibGspn2Plugins"):
            assert f"gspn2 plugin, {where}: {refusal}" in result.stderr
    else:  # what a plan carries has its own kernels
        assert int(creators) == len(spec.PLUGIN_TYPES)
        assert "ABI version" not in result.stderr


@parametrize_builds()
def test_init_without_tensorrt_says_so(folder):
    result = call_init(folder)
    headers, registered = result.stdout.split()
    version = [int(part) for part in folder.name.split(".")]
    assert int(headers) // 100 == version[0] * 100 + version[1]
    assert registered == "False"
    assert f"libnvinfer.so.{version[0]} is not loaded in this process" in result.stderr


@parametrize_builds()
def test_init_refuses_another_namespace(folder):
    result = call_init(folder, "mine")
    assert result.stdout.split()[1] == "False"
    assert 'the plugin namespace is "mine"; expected ""' in result.stderr
