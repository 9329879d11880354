"""Stand-ins for TensorRT and pycuda: an engine that doubles its input, in memory that is NumPy's.

They keep the order of calls honest: freed memory cannot be used, copies need the right sizes, and
everything must be gone before the device's context is.
"""

from enum import Enum
from types import SimpleNamespace

import numpy as np

VERSION = "8.6.1"
DType = Enum("DType", "FLOAT HALF BF16")
TensorIOMode = Enum("TensorIOMode", "INPUT OUTPUT")


class FakeCuda:
    """The parts of ``pycuda.driver`` that the runner uses."""

    class Error(Exception):
        pass

    def __init__(self):
        self.memory = {}
        self.stack = []
        self.devices = 1
        self.Stream = lambda: SimpleNamespace(handle=7, synchronize=lambda: None)

    def init(self):
        pass

    def Device(self, index):  # noqa: N802  (pycuda's name)
        if index >= self.devices:
            raise self.Error("invalid device ordinal")
        context = SimpleNamespace(
            push=lambda: self.stack.append(index),
            pop=self._pop,
            detach=lambda: None,
        )
        return SimpleNamespace(
            retain_primary_context=lambda: context, compute_capability=lambda: (9, 0)
        )

    def _pop(self):
        assert not self.memory, "device memory outlives the context"
        self.stack.pop()

    def pagelocked_empty(self, count, dtype):
        assert self.stack
        return np.full(count, 0xA5, dtype)

    def mem_alloc(self, size):
        cuda = self

        class Allocation:
            def __init__(self):
                self.address = 4096 * (1 + max([0, *(key // 4096 for key in cuda.memory)]))
                cuda.memory[self.address] = np.full(size, 0xFF, np.uint8)

            def __int__(self):
                return self.address

            def free(self):
                del cuda.memory[self.address]

        return Allocation()

    def memcpy_htod_async(self, device, host, stream):
        self.memory[int(device)][: host.size] = host

    def memcpy_dtoh_async(self, host, device, stream):
        host[:] = self.memory[int(device)][: host.size]


class FakeEngine:
    """One input ``x`` (N, 3), one output ``y`` = 2 x; two profiles over N."""

    num_io_tensors = 2
    num_optimization_profiles = 2
    profiles = (((1, 3), (2, 3), (4, 3)), ((5, 3), (8, 3), (16, 3)))

    def __init__(self, cuda, dtype, numpy_dtype):
        self.cuda, self.dtype, self.numpy_dtype = cuda, dtype, numpy_dtype
        self.fails = False

    def get_tensor_name(self, index):
        return ("x", "y")[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return self.dtype

    def get_tensor_shape(self, name):
        return (-1, 3)

    def get_tensor_profile_shape(self, name, index):
        assert name == "x"
        return list(self.profiles[index])

    def create_execution_context(self):
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine):
        self.engine, self.profile, self.shape, self.addresses = engine, None, None, {}
        self.switches = []

    def set_optimization_profile_async(self, index, stream):
        self.profile = index
        self.switches.append(index)
        return True

    def set_input_shape(self, name, shape):
        low, _, high = self.engine.profiles[self.profile]
        assert low[0] <= shape[0] <= high[0]
        self.shape = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        return self.shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        engine = self.engine
        if engine.fails:
            return False
        count = int(np.prod(self.shape)) * np.dtype(engine.numpy_dtype).itemsize
        source = engine.cuda.memory[self.addresses["x"]][:count].view(engine.numpy_dtype)
        result = (source * engine.numpy_dtype(2)).astype(engine.numpy_dtype)
        engine.cuda.memory[self.addresses["y"]][:count] = result.view(np.uint8)
        return True


def fake_tensorrt(engine):
    """A ``tensorrt`` module whose runtime loads ``engine``."""

    class Logger:
        WARNING = 2

        def __init__(self, level):
            pass

    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
    return SimpleNamespace(
        __version__=VERSION,
        Logger=Logger,
        TensorIOMode=TensorIOMode,
        Runtime=lambda logger: runtime,
    )
