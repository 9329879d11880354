"""Where ``make plugin`` puts its libraries and test programs."""

import os
import subprocess
from pathlib import Path

import pytest

LIBRARY = "libgspn2_tensorrt.so"
EMBEDDABLE = "libgspn2_tensorrt_embed.so"  # with the kernels inside, to be carried by a plan
ROOT = Path(__file__).parents[2]
BUILD_VARIABLE = "GSPN2_PLUGIN_BUILD"
BUILD = Path(os.environ.get(BUILD_VARIABLE) or ROOT / "build/kernels/tensorrt")
ABSENT = f"no plugin under {BUILD}: run `make plugin`, or name its build folder in {BUILD_VARIABLE}"


def builds():
    """The folders that hold a built plugin, one per TensorRT version, oldest first."""
    found = [path.parent for path in BUILD.glob(f"*/{LIBRARY}")]
    return sorted(found, key=lambda folder: [int(part) for part in folder.name.split(".")])


def run_program(folder, *arguments):
    """Run the C++ test program of one build and return what it printed."""
    result = subprocess.run(
        [folder / "plugin_tests", *arguments], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def parametrize_builds(condition=lambda folder: True):
    """Run a test once for each build, or skip it with the reason where there is none."""
    cases = [pytest.param(folder, id=folder.name) for folder in builds() if condition(folder)]
    skipped = pytest.param(None, id="absent", marks=pytest.mark.skip(reason=ABSENT))
    return pytest.mark.parametrize("folder", cases or [skipped])
