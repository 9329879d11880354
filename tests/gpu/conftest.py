"""What every GPU test shares: the kernel library, the device, a fresh seed per run."""

from __future__ import annotations

import ctypes
import os

import pytest
import torch

from gspn2_deploy.errors import KernelLibraryError
from gspn2_deploy.ops import cuda

SEED = int(os.environ.get("GSPN2_TEST_SEED", int.from_bytes(os.urandom(4), "little")))


def pytest_report_header() -> list[str]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return [f"gpu: {device}; GSPN2_TEST_SEED={SEED}"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(SEED)


@pytest.fixture(scope="session")
def library() -> ctypes.CDLL:
    """The kernel library; skips where it has not been built."""
    try:
        return cuda.load_library()
    except KernelLibraryError as error:
        pytest.skip(f"no kernel library: {error.got}; {error.hint}")


@pytest.fixture(autouse=True)
def _needs_gpu(request: pytest.FixtureRequest) -> None:
    """Tests marked `gpu` skip without a CUDA device or the library."""
    if request.node.get_closest_marker("gpu") is None:
        return
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    request.getfixturevalue("library")
