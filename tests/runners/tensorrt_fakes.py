"""Stand-ins for TensorRT, pycuda and the CUDA driver, in memory that is NumPy's.

They keep the order of calls honest: the device's context must be current, freed memory cannot be
used, copies need the right sizes, a capturing stream neither runs nor waits, and everything must
be gone before the device's context is. Time passes by the millisecond: what an engine, a copy and
a replayed graph take is said by the double.
"""

import json
import sys
from enum import Enum, IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace

import ml_dtypes
import numpy as np

from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import Manifest, ShapeRange, TensorInfo, manifest_path
from gspn2_deploy.runners import tensorrt_runner

VERSION = "8.6.1"
DType = Enum("DType", "FLOAT HALF BF16")
TensorIOMode = Enum("TensorIOMode", "INPUT OUTPUT")
COPY_MS, ENGINE_MS, GRAPH_MS = 0.25, 2.0, 1.5

KINDS = {
    "float32": (DType.FLOAT, np.float32),
    "float16": (DType.HALF, np.float16),
    "bfloat16": (DType.BF16, ml_dtypes.bfloat16),
}
PLUGIN_LAYER = "block.prop2d"


class FakeCuda(ModuleType):
    """The parts of ``pycuda.driver`` that are used."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("pycuda.driver")
        self.memory = {}
        self.stack = []
        self.retained = 0
        self.devices = 1
        self.free_bytes = 80 << 30
        self.capturing = None  # what a capturing stream collects
        self.clock = 0.0
        self.next_address = 4096
        self.fails_on_synchronize = False

    def init(self):
        pass

    def Device(self, index):  # noqa: N802  (pycuda's name)
        if index >= self.devices:
            raise self.Error("invalid device ordinal")
        return SimpleNamespace(
            retain_primary_context=lambda: self._retain(index),
            compute_capability=lambda: (9, 0),
            name=lambda: "A GPU",
            pci_bus_id=lambda: "0000:01:00.0",
        )

    def _retain(self, index):
        self.retained += 1
        return SimpleNamespace(
            push=lambda: self.stack.append(index), pop=self.stack.pop, detach=self._detach
        )

    def _detach(self):
        self.retained -= 1
        assert self.retained or not self.memory, "device memory outlives the context"

    def do(self, milliseconds, action):
        """Run what is enqueued, or collect it where the stream is capturing."""
        assert self.stack, "the device's context is not current"
        if self.capturing is not None:
            self.capturing.append(action)
            return
        self.clock += milliseconds
        action()

    def Stream(self, flags=0):  # noqa: N802
        assert self.stack
        return SimpleNamespace(handle=7, synchronize=self.synchronize)

    def synchronize(self):
        assert self.stack
        assert self.capturing is None, "a capturing stream cannot be waited for"
        if self.fails_on_synchronize:
            raise self.Error("an illegal memory access was encountered")

    def Event(self):  # noqa: N802
        event = SimpleNamespace(at=None)
        event.record = lambda stream: setattr(event, "at", self.clock)
        event.synchronize = lambda: None
        event.time_since = lambda other: event.at - other.at
        return event

    def mem_get_info(self):
        assert self.stack
        used = sum(array.size for array in self.memory.values())
        return self.free_bytes - used, 80 << 30

    def pagelocked_empty(self, count, dtype):
        assert self.stack
        return np.full(count, 0xA5, dtype)

    def mem_alloc(self, size):
        assert self.stack
        if size > self.free_bytes:
            raise self.Error("out of memory")
        cuda, address = self, self.next_address
        self.next_address += (size + 4095) // 4096 * 4096 + 4096
        cuda.memory[address] = np.full(size, 0xFF, np.uint8)

        class Allocation:
            def __int__(self):
                return address

            def free(self):
                del cuda.memory[address]

        return Allocation()

    def memcpy_htod_async(self, device, host, stream):
        self.do(COPY_MS, lambda: self._write(int(device), host))

    def _write(self, address, host):
        self.memory[address][: host.size] = host

    def memcpy_dtoh_async(self, host, device, stream):
        def copy():
            host[:] = self.memory[int(device)][: host.size]

        self.do(COPY_MS, copy)

    def memcpy_htod(self, device, host):
        self._write(int(device), host.reshape(-1).view(np.uint8))

    def memcpy_dtoh(self, host, device):
        host.reshape(-1).view(np.uint8)[:] = self.memory[int(device)][: host.nbytes]

    def memcpy_dtod_async(self, destination, source, size, stream):
        self.do(COPY_MS, lambda: None)

    def array(self, values, strides=None):
        """An array on the GPU, as PyTorch's tensors present themselves."""
        values = np.ascontiguousarray(values)
        self.stack.append(0)
        allocation = self.mem_alloc(values.nbytes)
        self.stack.pop()
        self._write(int(allocation), values.reshape(-1).view(np.uint8))
        typestr = "<V2" if values.dtype.name == "bfloat16" else values.dtype.str
        interface = {
            "shape": values.shape,
            "typestr": typestr,
            "data": (int(allocation), False),
            "strides": strides,
            "version": 3,
        }
        return SimpleNamespace(
            __cuda_array_interface__=interface,
            free=allocation.free,
            numpy=lambda: (
                self.memory[int(allocation)].view(values.dtype)[: values.size].reshape(values.shape)
            ),
        )


class FakeDriver:
    """The CUDA driver."""

    def __init__(self, cuda):
        self.cuda = cuda
        self.graphs = 0
        self.captures = 0

    def capture(self, stream, enqueue):
        cuda = self.cuda
        cuda.capturing = []
        try:
            enqueue()
        finally:
            work, cuda.capturing = cuda.capturing, None
        self.graphs += 1
        self.captures += 1

        def launch(handle):
            cuda.do(GRAPH_MS, lambda: [action() for action in work])

        def free():
            self.graphs -= 1

        return SimpleNamespace(launch=launch, free=free)

    def device_of(self, address):
        return 0 if address in self.cuda.memory else None

    def current_context(self):
        return 0

    def pop_context(self):
        raise AssertionError("nothing was left to pop")


class FakeEngine:
    """One input ``x`` (N, 3), one output ``y`` = 2 x; two profiles over N.

    Args:
        cuda: Whose memory it works in.
        dtype: Of both tensors.
        function: What it computes: arrays by input name to arrays by output name.
        inputs, outputs: Its tensors; -1 where an extent varies.
        profiles: For each profile, (min, opt, max) by input name.
        layers: Its layers, as the inspector describes them.
    """

    def __init__(
        self,
        cuda,
        dtype="float32",
        *,
        function=None,
        inputs=None,
        outputs=None,
        profiles=None,
        layers=None,
    ):
        self.cuda = cuda
        self.inputs = inputs or (TensorInfo("x", dtype, (-1, 3)),)
        self.outputs = outputs or (TensorInfo("y", dtype, (-1, 3)),)
        self.tensors = {tensor.name: tensor for tensor in (*self.inputs, *self.outputs)}
        self.function = function or (lambda arrays: {"y": arrays["x"] * arrays["x"].dtype.type(2)})
        self.profiles = profiles or (
            {"x": ((1, 3), (2, 3), (4, 3))},
            {"x": ((5, 3), (8, 3), (16, 3))},
        )
        self.layers = layers if layers is not None else default_layers(dtype)
        self.fails = False
        self.contexts = 0
        self.refuses_context = False

    num_io_tensors = property(lambda self: len(self.tensors))
    num_optimization_profiles = property(lambda self: len(self.profiles))
    device_memory_size = 1 << 20

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        is_input = name in {tensor.name for tensor in self.inputs}
        return TensorIOMode.INPUT if is_input else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return KINDS[self.tensors[name].dtype][0]

    def get_tensor_shape(self, name):
        return self.tensors[name].shape

    def get_tensor_profile_shape(self, name, index):
        return list(self.profiles[index][name])

    def create_execution_context(self):
        assert self.contexts == 0, "TensorRT 8 gives a second context no profile"
        if self.refuses_context:
            return None
        return FakeContext(self)

    @property
    def num_layers(self):
        return len(self.layers)

    def create_engine_inspector(self):
        assert self.cuda.stack
        return FakeInspector(self)


class FakeInspector:
    def __init__(self, engine):
        self.engine, self.execution_context = engine, None

    def get_engine_information(self, form):
        assert self.execution_context.shapes, "it tells no types without shapes"
        return json.dumps({"Layers": self.engine.layers, "Bindings": list(self.engine.tensors)})

    def get_layer_information(self, index, form):
        assert self.execution_context.shapes, "it tells no types without shapes"
        return json.dumps(self.engine.layers[index])


def default_layers(dtype="float32"):
    """A convolution, a reformat and a plugin layer, as TensorRT 8.6 describes them."""
    word = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16"}[dtype]

    def layer(name, kind):
        def tensor(side):
            return {
                "Name": f"{name}.{side}",
                "Location": "Device",
                "Dimensions": [2, 3],
                "Format/Datatype": f"Row major linear {word} format",
            }

        return {
            "Name": name,
            "LayerType": kind,
            "Inputs": [tensor("in")],
            "Outputs": [tensor("out")],
            "ms": {"PluginV2": 0.5, "CaskConvolution": 1.0}.get(kind, 0.25),
        }

    return [
        layer("conv", "CaskConvolution"),
        layer("reformat", "Reformat"),
        layer(PLUGIN_LAYER, "PluginV2"),
    ]


class FakeContext:
    def __init__(self, engine):
        self.engine, self.index, self.shapes, self.addresses = engine, None, {}, {}
        self.switches = []
        self.enqueue_emits_profile = True
        self.profiler = None
        self.enqueued = False
        engine.contexts += 1

    def __del__(self):
        self.engine.contexts -= 1

    def set_optimization_profile_async(self, index, stream):
        self.index = index
        self.switches.append(index)
        self.shapes = {}
        return True

    def set_input_shape(self, name, shape):
        low, _, high = self.engine.profiles[self.index].get(name, (shape,) * 3)
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return False
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        if name in self.shapes:
            return self.shapes[name]
        arrays = {
            key: np.zeros(shape, KINDS[self.engine.tensors[key].dtype][1])
            for key, shape in self.shapes.items()
        }
        return self.engine.function(arrays)[name].shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        engine = self.engine
        if engine.fails:
            return False
        addresses, shapes = dict(self.addresses), dict(self.shapes)
        engine.cuda.do(ENGINE_MS, lambda: self._run(addresses, shapes))
        self.enqueued = True
        return True

    def _run(self, addresses, shapes):
        engine = self.engine
        arrays = {}
        for tensor in engine.inputs:
            kind = np.dtype(KINDS[tensor.dtype][1])
            shape = shapes[tensor.name]
            count = int(np.prod(shape)) * kind.itemsize
            content = engine.cuda.memory[addresses[tensor.name]][:count]
            arrays[tensor.name] = content.view(kind).reshape(shape)
        for name, value in engine.function(arrays).items():
            value = np.ascontiguousarray(value, KINDS[engine.tensors[name].dtype][1])
            content = value.reshape(-1).view(np.uint8)
            engine.cuda.memory[addresses[name]][: content.size] = content

    def report_to_profiler(self):
        if self.profiler is None or not self.enqueued:
            return False
        assert not self.enqueue_emits_profile
        for layer in self.engine.layers:
            if layer.get("ran", True):
                self.profiler.report_layer_time(layer["Name"], layer["ms"])
        return True


def fake_tensorrt(engine, version=VERSION):
    """A ``tensorrt`` module whose runtime loads ``engine``."""

    class ILogger:
        Severity = IntEnum("Severity", ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO"), start=0)

        def __init__(self):
            pass

    class IProfiler:
        pass

    module = ModuleType("tensorrt")
    runtime = SimpleNamespace(
        deserialize_cuda_engine=lambda plan: engine, engine_host_code_allowed=False
    )

    def make_runtime(logger):
        module.logger = logger
        return runtime

    module.runtime = runtime
    vars(module).update(
        __version__=version,
        ILogger=ILogger,
        IProfiler=IProfiler,
        TensorIOMode=TensorIOMode,
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        Runtime=make_runtime,
    )
    return module


def write_plan(path, dtype="float32", **changes):
    """Write a file that stands for a plan, and its manifest."""
    path.write_bytes(b"a plan")
    values = {
        "plan_file": path.name,
        "plan_bytes": path.stat().st_size,
        "plan_sha256": sha256_of(path),
        "onnx_file": "m.onnx",
        "onnx_sha256": "",
        "external_data_sha256": {},
        "backend": "tensorrt",
        "backend_version": VERSION,
        "package_version": "0",
        "cuda_version": None,
        "driver_version": None,
        "compute_capabilities": ("9.0",),
        "profiles": ({"x": ShapeRange((1, 3), (2, 3), (4, 3))},),
        "inputs": (TensorInfo("x", dtype, ("batch", 3)),),
        "outputs": (TensorInfo("y", dtype, ("batch", 3)),),
        "precision": {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[dtype],
        "layer_dtypes": {},
        "propagations": {"GspnProp2D": 1},
        "activation_bytes": None,
        "metadata": {},
        "unproven": (),
        "build_seconds": 0.0,
        "host": "",
        "created": "",
    }
    Manifest(**{**values, **changes}).save(manifest_path(path))
    return path


class Machine(SimpleNamespace):
    """A machine with a GPU and TensorRT: ``cuda``, ``driver``, ``engine``, ``tensorrt``."""

    def refuse(self, *texts, severity="ERROR"):
        """A ``deserialize_cuda_engine`` that logs texts and gives no engine."""

        def load(plan):
            for text in texts:
                self.tensorrt.logger.log(self.tensorrt.ILogger.Severity[severity], text)

        return load


def install(monkeypatch, engine=None, *, dtype="float32", version=VERSION):
    """Put the doubles in the place of TensorRT, pycuda and the driver.

    Args:
        monkeypatch: pytest's.
        engine: Makes the engine, given the cuda double; None for the one that doubles its input.
        dtype: Of that one.
        version: TensorRT's.
    """
    cuda = FakeCuda()
    made = FakeEngine(cuda, dtype) if engine is None else engine(cuda)
    driver = FakeDriver(cuda)
    package = ModuleType("pycuda")
    package.driver = cuda
    machine = Machine(cuda=cuda, driver=driver, engine=made, loaded=[])
    machine.tensorrt = fake_tensorrt(made, version)
    machine.runtime = machine.tensorrt.runtime
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", machine.tensorrt)
    monkeypatch.setattr(tensorrt_runner, "CudaDriver", lambda: driver)
    monkeypatch.setattr(tensorrt_runner, "find_plugin", lambda version: Path("plugin.so"))
    monkeypatch.setattr(
        tensorrt_runner, "load_plugin", lambda trt, path: machine.loaded.append(path)
    )
    return machine


def rows(batch, dtype="float32"):
    """A batch of the fake engine's input."""
    return np.arange(batch * 3).reshape(batch, 3).astype(KINDS[dtype][1])
