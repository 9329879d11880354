"""The build backend: scikit-build-core, told beforehand whether there is anything to compile.

Without nvcc there is nothing: the wheel is then pure Python, fits every machine (py3-none-any) and
takes neither CMake nor a compiler to build. scikit-build-core decides on that before CMake runs,
and cannot look for a program itself.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from scikit_build_core.build import *  # noqa: F403  the hooks that pip and build call


def _prepare() -> None:
    """Point CMake to nvcc, or ask for a pure Python build."""
    if os.environ.get("GSPN2_PURE_PYTHON") or os.environ.get("CUDACXX"):
        return
    if "CMAKE_CUDA_COMPILER" in os.environ.get("CMAKE_ARGS", "") or shutil.which("nvcc"):
        return
    # NVIDIA's installer leaves PATH alone.
    nvcc = Path(os.environ.get("CUDA_PATH") or "/usr/local/cuda") / "bin" / "nvcc"
    if nvcc.is_file():
        os.environ["CUDACXX"] = str(nvcc)
        return
    os.environ["GSPN2_PURE_PYTHON"] = "1"
    sys.stderr.write(
        "gspn2_deploy: nvcc was not found, so the CUDA kernels are left out (a pure Python build; "
        "set CUDACXX to nvcc's path to include them)\n"
    )


_prepare()
