"""What each library exports and what it needs, seen from outside."""

import re
import shutil
import subprocess
import sys

import pytest
from plugin_builds import EMBEDDABLE, LIBRARY, parametrize_builds

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
    creators = "getPluginCreators" if major(folder) < 10 else "getCreators"
    assert strong == COMMON | {creators}


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


def call_init(folder, *arguments):
    library = folder / "libgspn2_tensorrt.so"
    return subprocess.run(
        [sys.executable, "-c", CALL, library, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )


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
