"""Run an engine that was just built, on zeros, to learn what TensorRT tells only after a run.

TensorRT 8.6 does not tell the types of layers with dynamic shapes before. The engine runs as the
runners run it, on pycuda; nothing is made of its outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gspn2_deploy.manifest import Profile, TensorInfo
from gspn2_deploy.runners.base import Array, Arrays
from gspn2_deploy.runners.cuda_driver import CudaDriver, import_extra, release_context
from gspn2_deploy.runners.engine_layers import EngineLayer, inspect_layers
from gspn2_deploy.runners.engine_session import EngineSession, numpy_dtype


def inspect_after_run(
    trt: Any,
    engine: Any,
    inputs: tuple[TensorInfo, ...],
    outputs: tuple[TensorInfo, ...],
    profiles: tuple[Profile, ...],
) -> list[EngineLayer]:
    """Run an engine once at each profile's tuned shapes, and ask for its layers each time.

    Args:
        trt: TensorRT's module.
        engine: An engine of this machine's first GPU, without a context.
        inputs: Its inputs.
        outputs: Its outputs.
        profiles: Its profiles; empty when every shape is fixed.

    Returns:
        The layers, once for each run.

    Raises:
        MissingDependencyError: pycuda is not installed.
        PlatformError: There is no GPU, or the engine did not run.
    """
    driver = CudaDriver()  # first: without a driver pycuda does not even import
    cuda = import_extra("pycuda.driver")
    found: list[EngineLayer] = []
    with _primary_context(cuda, driver):
        session = EngineSession(cuda, driver, engine, inputs, outputs, name="the engine")
        try:
            for profile in profiles or ({},):
                session.stage(_zeros(inputs, profile))
                session.copy_in()
                session.launch()
                session.synchronize()
                found += inspect_layers(trt, engine, session.context)
        finally:
            session.close()
    return found


def _zeros(inputs: tuple[TensorInfo, ...], profile: Profile) -> Arrays:
    zeros: dict[str, Array] = {}
    for tensor in inputs:
        shape = tuple(extent for extent in tensor.shape if isinstance(extent, int))
        if tensor.name in profile:
            shape = profile[tensor.name].opt
        zeros[tensor.name] = np.zeros(shape, numpy_dtype(tensor.dtype))
    return zeros


@contextmanager
def _primary_context(cuda: Any, driver: CudaDriver) -> Iterator[None]:
    """Have the first GPU's primary context current, which TensorRT works in, too."""
    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    try:
        yield
    finally:
        context.pop()
        release_context(driver, context)
