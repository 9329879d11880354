"""Builds plugins/runtime for its tests."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "plugins/runtime"
CLASSIFY = ROOT / "examples/classify"


@dataclass(frozen=True)
class Build:
    """A build folder of the runtime."""

    folder: Path

    @property
    def library(self) -> Path:
        return self.folder / "libgspn2_runtime.so"

    def program(self, name: str, *arguments: object, check: bool = False):
        """Run one of the test programs."""
        return run(self.folder / "tests" / name, *arguments, check=check)


def run(*command: object, check: bool = True, timeout: int = 300, **options):
    result = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def missing() -> str | None:
    """Why the runtime cannot be built here, or None."""
    for tool in ("cmake", "ninja", "c++"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if shutil.which("nvcc") is None and not Path("/usr/local/cuda/include").is_dir():
        return "the CUDA headers are not installed"
    roots = [os.environ.get("TENSORRT_ROOT")] if os.environ.get("TENSORRT_ROOT") else []
    roots += list(Path("/opt/tensorrt").glob("*"))
    if not any((Path(root) / "include/NvInferRuntime.h").is_file() for root in roots):
        return "no TensorRT headers under TENSORRT_ROOT or /opt/tensorrt/<version>"
    return None


def configure(folder: Path, *options: str, target: str = "all") -> Build:
    # -Werror: a deprecated TensorRT call is a failure, in every version.
    run(
        *("cmake", "-S", RUNTIME, "-B", folder, "-G", "Ninja", "-DGSPN2_BUILD_TESTS=ON"),
        *("-DCMAKE_CXX_FLAGS=-Werror", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"),
        *("-DCMAKE_INSTALL_LIBDIR=lib", *options),
    )
    run("cmake", "--build", folder, "--target", target)
    return Build(folder)


def has_gpu() -> bool:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 < count.value
