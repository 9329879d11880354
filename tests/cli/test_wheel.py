"""A wheel without nvcc: pure Python, for every machine, the exporter in its installed place."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_without_nvcc_the_wheel_is_pure_python(tmp_path):
    pytest.importorskip("scikit_build_core", reason="scikit-build-core is not installed")
    # Neither nvcc nor a compiler is found.
    hidden = ("CUDACXX", "CMAKE_ARGS", "GSPN2_PURE_PYTHON", "CXX", "CC")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"PATH": str(tmp_path), "CUDA_PATH": str(tmp_path)}
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "-w", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nvcc was not found, so the CUDA kernels are left out" in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"gspn2_deploy/export/exporter.py", "gspn2_deploy/py.typed"} <= set(names)
    assert all(name.startswith("gspn2_deploy") for name in names)
    assert not [name for name in names if name.endswith(".so")]
