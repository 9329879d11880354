"""The calls of the CUDA driver that pycuda does not wrap: graphs, and what a pointer points to."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from gspn2_deploy.errors import MissingDependencyError
from gspn2_deploy.runners.plan_errors import NoGpuError, RunFailedError

_LIBRARY = "libcuda.so.1"
_CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may do as they like
_POINTER_DEVICE_ORDINAL = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
_POINTER_MEMORY_TYPE = 2  # CU_POINTER_ATTRIBUTE_MEMORY_TYPE
_MEMORY_HOST = 1  # CU_MEMORYTYPE_HOST


class CudaDriver:
    """The driver's library.

    Args:
        library: Its name, for tests.

    Raises:
        NoGpuError: There is no driver here.
    """

    def __init__(self, library: str = _LIBRARY) -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise NoGpuError(
                "there is no CUDA driver",
                got=error,
                hint="use a machine with an NVIDIA GPU and its driver; a container needs --gpus",
            ) from error

    def capture(self, stream: int, enqueue: Callable[[], None]) -> CudaGraph:
        """Record what a function enqueues, instead of running it.

        Args:
            stream: The handle of the stream that it enqueues on; not the default stream.
            enqueue: May neither wait nor allocate.

        Returns:
            The graph, ready to be replayed.

        Raises:
            RunFailedError: Something that was enqueued cannot be captured.
        """
        handle = ctypes.c_void_p(stream)
        mode = ctypes.c_int(_CAPTURE_THREAD_LOCAL)
        self._check("cuStreamBeginCapture_v2", "start capturing", handle, mode)
        graph = ctypes.c_void_p()
        try:
            enqueue()
        except BaseException:
            # Ends the capture, whatever came of it: the stream must be usable again.
            self._call("cuStreamEndCapture", handle, ctypes.byref(graph))
            self._destroy("cuGraphDestroy", graph)
            raise
        self._check("cuStreamEndCapture", "capture the engine", handle, ctypes.byref(graph))
        executable = ctypes.c_void_p()
        try:
            self._check(
                "cuGraphInstantiateWithFlags",
                "make a graph of the engine",
                ctypes.byref(executable),
                graph,
                ctypes.c_ulonglong(0),
            )
        finally:
            self._destroy("cuGraphDestroy", graph)
        return CudaGraph(self, executable)

    def device_of(self, address: int) -> int | None:
        """The number of the GPU whose memory an address is; None where it is no GPU's.

        Freed memory is no GPU's, unless the address has been allocated again.
        """
        ordinal, kind = ctypes.c_int(-1), ctypes.c_uint(0)
        for attribute, result in (
            (_POINTER_MEMORY_TYPE, kind),
            (_POINTER_DEVICE_ORDINAL, ordinal),
        ):
            status = self._call(
                "cuPointerGetAttribute",
                ctypes.byref(result),
                ctypes.c_int(attribute),
                ctypes.c_uint64(address),
            )
            if status != 0:
                return None
        return None if kind.value == _MEMORY_HOST else ordinal.value

    def current_context(self) -> int:
        """The handle of this thread's current context, 0 without one."""
        handle = ctypes.c_void_p()
        status = self._call("cuCtxGetCurrent", ctypes.byref(handle))
        return handle.value or 0 if status == 0 else 0

    def pop_context(self) -> None:
        """Take this thread's current context off its stack."""
        self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def launch(self, executable: ctypes.c_void_p, stream: int) -> None:
        """Enqueue a graph.

        Raises:
            RunFailedError: The driver refused.
        """
        self._check("cuGraphLaunch", "replay the graph", executable, ctypes.c_void_p(stream))

    def destroy(self, executable: ctypes.c_void_p) -> None:
        """Free a graph."""
        self._destroy("cuGraphExecDestroy", executable)

    def _destroy(self, function: str, handle: ctypes.c_void_p) -> None:
        if handle.value:
            self._call(function, handle)

    def _call(self, function: str, *arguments: Any) -> int:
        return int(getattr(self._library, function)(*arguments))

    def _check(self, function: str, doing: str, *arguments: Any) -> None:
        status = self._call(function, *arguments)
        if status != 0:
            raise RunFailedError(
                f"CUDA could not {doing}", got=f"{function}: {self._error_name(status)}"
            )

    def _error_name(self, status: int) -> str:
        name = ctypes.c_char_p()
        self._call("cuGetErrorName", ctypes.c_int(status), ctypes.byref(name))
        return (name.value or b"").decode(errors="replace") or f"error {status}"


def import_extra(name: str) -> ModuleType:
    """Import a module of the extra ``tensorrt``.

    Raises:
        MissingDependencyError: It is not installed, or does not load.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(name.partition(".")[0], "tensorrt", str(error)) from error


def release_context(driver: CudaDriver, context: Any) -> None:
    """Let go of a primary context that pycuda retained, and that is not current."""
    before = driver.current_context()
    context.detach()
    if driver.current_context() != before:
        # To release a context that is not current pycuda (2026.1) makes it so, and leaves it.
        driver.pop_context()


class CudaGraph:
    """Work that was captured and can be replayed. Made by :meth:`CudaDriver.capture`."""

    def __init__(self, driver: CudaDriver, executable: ctypes.c_void_p) -> None:
        self._driver = driver
        self._executable = executable

    def launch(self, stream: int) -> None:
        """Enqueue all of it on a stream, by its handle."""
        self._driver.launch(self._executable, stream)

    def free(self) -> None:
        """Let go of it; it must not be launched again."""
        self._driver.destroy(self._executable)
        self._executable = ctypes.c_void_p()
