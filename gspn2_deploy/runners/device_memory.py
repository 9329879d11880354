"""GPU memory: this package's, with page-locked memory beside it, and a caller's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gspn2_deploy.runners.base import Array
from gspn2_deploy.runners.plan_errors import DeviceBufferError


class StagingBuffer:
    """GPU memory with page-locked host memory of the same size beside it.

    Args:
        cuda: ``pycuda.driver``.
        capacity: Bytes.
    """

    def __init__(self, cuda: Any, capacity: int) -> None:
        self.capacity = max(capacity, 1)
        self.size = capacity  # what the copies move
        self._cuda = cuda
        self._host = cuda.pagelocked_empty(self.capacity, np.uint8)
        self._device = cuda.mem_alloc(self.capacity)

    @property
    def address(self) -> int:
        """Of the GPU memory."""
        return int(self._device)

    def fill(self, array: Array) -> None:
        """Take an array into the host memory."""
        self._host[: self.size] = array.reshape(-1).view(np.uint8)

    def upload(self, stream: Any) -> None:
        """Enqueue the copy to the GPU."""
        self._cuda.memcpy_htod_async(self._device, self._host[: self.size], stream)

    def download(self, stream: Any) -> None:
        """Enqueue the copy from the GPU."""
        self._cuda.memcpy_dtoh_async(self._host[: self.size], self._device, stream)

    def content(self) -> Array:
        """What lies in the host memory."""
        bytes_: Array = self._host[: self.size]
        return bytes_

    def free(self) -> None:
        """Free the GPU memory; the host's goes with this object."""
        self._device.free()


def is_contiguous(array: Mapping[str, Any], itemsize: int) -> bool:
    """Whether an array's elements lie one after the other, the last axis first."""
    strides, step = array.get("strides"), itemsize
    if strides is None:
        return True
    for extent, stride in zip(reversed(array["shape"]), reversed(strides), strict=True):
        if extent != 1 and stride != step:
            return False
        step *= extent
    return True


def array_interface(name: str, value: Any) -> Mapping[str, Any]:
    """How an array on the GPU presents itself.

    Raises:
        DeviceBufferError: It is not on the GPU.
    """
    interface = getattr(value, "__cuda_array_interface__", None)
    if not isinstance(interface, Mapping):
        raise DeviceBufferError(
            f"the buffer of {name!r} is not on the GPU",
            got=type(value).__name__,
            expected="an array with __cuda_array_interface__",
            hint="use infer for arrays in host memory",
        )
    return interface
