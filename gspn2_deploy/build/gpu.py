"""The GPU of this machine, asked of its driver alone: no CUDA toolkit, no framework."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from gspn2_deploy.errors import PlatformError

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NAME_BYTES = 128


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Args:
        name: As its driver calls it.
        compute_capability: As in ``9.0``.
    """

    name: str
    compute_capability: str


def current_gpu() -> Gpu:
    """Return the first GPU that this process may see (``CUDA_VISIBLE_DEVICES`` says which).

    Raises:
        PlatformError: There is none, or no driver.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise _no_gpu(f"no driver: {error}") from error
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    for status in (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, _NAME_BYTES, device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
    ):
        if status != 0:
            raise _no_gpu(f"CUDA driver error {status}")
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}")


def _no_gpu(reason: str) -> PlatformError:
    return PlatformError(
        "this needs a GPU, and none can be used here",
        got=reason,
        hint="run it on the machine whose GPU is to run the engine; the backend tensorrt-rtx "
        "builds without one",
    )
