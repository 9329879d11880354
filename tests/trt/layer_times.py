"""Time an engine layer by layer: what the plugin takes, and what reformatting around it costs.

    layer_times.py PLAN BATCH...

Prints JSON: for each batch the milliseconds of the plugin layers, of the reformats into and out of
them, of all other reformats, and of everything. The second of these is the most that a format
other than linear could save. Needs TensorRT, pycuda and NumPy.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pycuda.driver as cuda
import tensorrt as trt

from gspn2_deploy.build.tensorrt_plugin import find_plugin, load_plugin
from gspn2_deploy.manifest import Manifest, manifest_path

REPEATS = 30
WARMUP = 5
REFORMAT = "Reformat"  # how TensorRT names the layers that it puts in to change formats


class Profiler(trt.IProfiler):
    """Adds up what each layer takes, in milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.times: Counter[str] = Counter()

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Take one layer of one run."""
        self.times[layer_name] += ms


def plugin_names(engine: trt.ICudaEngine) -> list[str]:
    """The names of the engine's plugin layers."""
    inspector = engine.create_engine_inspector()
    layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
    return [layer["Name"] for layer in layers if "Plugin" in str(layer.get("LayerType"))]


def measure(engine: trt.ICudaEngine, manifest: Manifest, batch: int) -> dict[str, float]:
    """Run one batch and sort its layers."""
    context = engine.create_execution_context()
    profiler = Profiler()
    buffers = []
    for tensor in (*manifest.inputs, *manifest.outputs):
        shape = [batch, *tensor.shape[1:]]
        if tensor in manifest.inputs:
            context.set_input_shape(tensor.name, shape)
        size = 4
        for extent in shape:
            size *= int(extent)
        buffers.append(cuda.mem_alloc(size))
        cuda.memset_d8(buffers[-1], 0x3C, size)  # 0.0115 in float32: neither zeros nor NaN
        context.set_tensor_address(tensor.name, int(buffers[-1]))
    stream = cuda.Stream()
    for repeat in range(WARMUP + REPEATS):
        if repeat == WARMUP:
            context.profiler = profiler
        assert context.execute_async_v3(stream.handle)
        stream.synchronize()
    names = plugin_names(engine)
    sums: Counter[str] = Counter()
    for layer, milliseconds in profiler.times.items():
        beside = any(name in layer for name in names)
        kind = "other"
        if REFORMAT in layer:
            kind = "reformats_at_plugins" if beside else "other_reformats"
        elif layer in names:
            kind = "plugins"
        sums[kind] += milliseconds / REPEATS
    total = sum(sums.values())
    return {"total_ms": total, **{f"{kind}_ms": value for kind, value in sums.items()}}


def main() -> None:
    """Measure what the command line names."""
    plan = Path(sys.argv[1])
    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    try:
        load_plugin(trt, find_plugin(trt.__version__))
        runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        engine = runtime.deserialize_cuda_engine(plan.read_bytes())
        manifest = Manifest.load(manifest_path(plan))
        report = {batch: measure(engine, manifest, int(batch)) for batch in sys.argv[2:]}
        sys.stdout.write(json.dumps({"gpu": cuda.Device(0).name(), "batches": report}) + "\n")
        del engine, runtime
    finally:
        context.pop()


if __name__ == "__main__":
    main()
