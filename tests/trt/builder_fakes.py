"""A stand-in for TensorRT's builder, in the versions that the backend tells apart.

It parses an ONNX file into layers, one a node, takes what a configuration is told, and makes a
plan whose engine inspector shows the types that were asked for. ``test_builder_fakes.py`` holds
its names against TensorRT's headers and bindings. Like the bindings, its objects take no
attribute that they do not have.
"""

from __future__ import annotations

import json
from enum import Enum, IntEnum
from types import SimpleNamespace

import onnx

OURS = ("GspnProp2D", "GspnLineScan")

# Enumerators by version, as the headers have them; of LayerType those that matter here.
ENUMS = {
    "8.6": {
        "BuilderFlag": "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 "
        "SPARSE_WEIGHTS SAFETY_SCOPE OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS "
        "DIRECT_IO REJECT_EMPTY_ALGORITHMS ENABLE_TACTIC_HEURISTIC VERSION_COMPATIBLE "
        "EXCLUDE_LEAN_RUNTIME FP8",
        "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH EXPLICIT_PRECISION",
        "HardwareCompatibilityLevel": "NONE AMPERE_PLUS",
        "PreviewFeature": "FASTER_DYNAMIC_SHAPES_0805 "
        "DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805 PROFILE_SHARING_0806",
        "TacticSource": "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    },
    "10.16": {
        "BuilderFlag": "FP16 INT8 DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 "
        "SPARSE_WEIGHTS SAFETY_SCOPE OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS "
        "DIRECT_IO REJECT_EMPTY_ALGORITHMS VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME FP8 "
        "ERROR_ON_TIMING_CACHE_MISS BF16 DISABLE_COMPILATION_CACHE STRIP_PLAN WEIGHTLESS "
        "REFIT_IDENTICAL WEIGHT_STREAMING INT4 REFIT_INDIVIDUAL STRICT_NANS MONITOR_MEMORY FP4 "
        "EDITABLE_TIMING_CACHE DISTRIBUTIVE_INDEPENDENCE",
        "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH STRONGLY_TYPED PREFER_JIT_PYTHON_PLUGINS "
        "PREFER_AOT_PYTHON_PLUGINS",
        "HardwareCompatibilityLevel": "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY",
        "PreviewFeature": "PROFILE_SHARING_0806 ALIASED_PLUGIN_IO_10_03 "
        "RUNTIME_ACTIVATION_RESIZE_10_10 MULTIDEVICE_RUNTIME_10_16",
        "TacticSource": "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    },
    "11.1": {
        "BuilderFlag": "DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS "
        "SAFETY_SCOPE DIRECT_IO VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME "
        "ERROR_ON_TIMING_CACHE_MISS DISABLE_COMPILATION_CACHE STRIP_PLAN REFIT_IDENTICAL "
        "WEIGHT_STREAMING REFIT_INDIVIDUAL STRICT_NANS MONITOR_MEMORY EDITABLE_TIMING_CACHE "
        "DISTRIBUTIVE_INDEPENDENCE",
        "NetworkDefinitionCreationFlag": "STRONGLY_TYPED PREFER_JIT_PYTHON_PLUGINS "
        "PREFER_AOT_PYTHON_PLUGINS",
        "HardwareCompatibilityLevel": "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY",
        "PreviewFeature": "ALIASED_PLUGIN_IO_10_03 RUNTIME_ACTIVATION_RESIZE_10_10",
        "TacticSource": "EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
    },
}
# Before 8.6 TensorRT has none of these; its enumerators are otherwise those of 8.6.
ENUMS["8.5"] = {
    **ENUMS["8.6"],
    "BuilderFlag": ENUMS["8.6"]["BuilderFlag"].replace(
        "VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME FP8", ""
    ),
    "HardwareCompatibilityLevel": "",
    "PreviewFeature": "FASTER_DYNAMIC_SHAPES_0805 DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805",
}
CONFIG_SINCE_86 = (
    "builder_optimization_level",
    "hardware_compatibility_level",
    "plugins_to_serialize",
)
SEVERITIES = "INTERNAL_ERROR ERROR WARNING INFO VERBOSE"

DataType = Enum("DataType", "FLOAT HALF BF16 INT32 INT64 BOOL")
LayerType = Enum(
    "LayerType",
    "CONVOLUTION DECONVOLUTION MATRIX_MULTIPLY PLUGIN_V2 CONSTANT CAST IDENTITY SHAPE ELEMENTWISE",
)
LayerTypeV3 = Enum("LayerTypeV3", [*LayerType.__members__, "PLUGIN_V3"])
_DATA_TYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.BFLOAT16: DataType.BF16,
    onnx.TensorProto.INT64: DataType.INT64,
}
_SPOKEN = {
    DataType.FLOAT: "Row major linear FP32",
    DataType.HALF: "Row major linear FP16 format",
    DataType.BF16: "Row major linear BFloat16 format",
}


class Strict:
    """Takes no attribute that it was not made with, as a class of the bindings."""

    def __init__(self, **attributes):
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name, value):
        if not hasattr(self, name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        object.__setattr__(self, name, value)


class ILogger:
    Severity = IntEnum("Severity", SEVERITIES, start=0)

    def __init__(self):
        pass


class IProgressMonitor:
    def __init__(self):
        pass


class Layer(Strict):
    def __init__(self, node, kind, tensors):
        super().__init__(
            name=node.name,
            type=kind,
            metadata=f"[ONNX Layer: {node.name}]",
            num_outputs=len(tensors),
            precision=None,
            tensors=tensors,
            output_types={},
        )

    def get_output(self, index):
        return self.tensors[index]

    def set_output_type(self, index, dtype):
        self.output_types[index] = dtype


class Config(Strict):
    """What the builder is asked for, by the names of flags and the attributes."""

    def __init__(self, trt):
        attributes = {
            "avg_timing_iterations": 1,
            "profiling_verbosity": trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
            "flags": {"TF32"},
            "profiles": [],
            "sources": None,
            "features": {},
            "pools": {},
            "cache": None,
        }
        if trt.version != "8.5":
            values = (3, trt.HardwareCompatibilityLevel.NONE, [])
            attributes |= dict(zip(CONFIG_SINCE_86, values, strict=True))
        if hasattr(trt, "IProgressMonitor"):
            attributes["progress_monitor"] = None
        super().__init__(trt=trt, **attributes)

    def set_flag(self, flag):
        assert isinstance(flag, self.trt.BuilderFlag)
        self.flags.add(flag.name)

    def clear_flag(self, flag):
        assert isinstance(flag, self.trt.BuilderFlag)
        self.flags.discard(flag.name)

    def set_memory_pool_limit(self, pool, size):
        self.pools[pool.name] = size

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def set_tactic_sources(self, mask):
        members = list(self.trt.TacticSource)
        if mask >> len(members):
            return False
        self.sources = [member.name for member in members if mask >> int(member) & 1]
        return True

    def set_preview_feature(self, feature, enabled):
        self.features[feature.name] = enabled

    def create_timing_cache(self, content):
        return TimingCache(bytes(content))

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        if cache.content == b"damaged":
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


class TimingCache(Strict):
    def __init__(self, content):
        super().__init__(content=content)

    def serialize(self):
        return self.content + b"learnt;"

    def combine(self, other, ignore_mismatch):
        assert not ignore_mismatch
        self.content += other.content
        return True


class Parser(Strict):
    """Knows every op but those in ``trt.unknown``."""

    def __init__(self, network, logger):
        super().__init__(network=network, logger=logger, errors=[], flags=set())
        network.trt.parser = self

    @property
    def num_errors(self):
        return len(self.errors)

    def get_error(self, index):
        return self.errors[index]

    def set_flag(self, flag):
        self.flags.add(flag.name)

    def parse(self, content, path):
        assert path
        trt, model = self.network.trt, onnx.load_from_string(content)
        assert not model.functions
        for index, node in enumerate(model.graph.node):
            if node.op_type in trt.unknown:
                self.errors.append(trt.parser_error(index, node, trt.unknown[node.op_type]))
                return False
            self.network.add(node, model.graph)
        self.network.inputs = [trt.tensor(item) for item in model.graph.input]
        self.network.outputs = [trt.tensor(item) for item in model.graph.output]
        return True


class Network(Strict):
    def __init__(self, trt, strongly_typed):
        super().__init__(trt=trt, strongly_typed=strongly_typed, layers=[], inputs=[], outputs=[])

    num_layers = property(lambda self: len(self.layers))
    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_layer(self, index):
        return self.layers[index]

    def get_input(self, index):
        return self.inputs[index]

    def get_output(self, index):
        return self.outputs[index]

    def add(self, node, graph):
        kinds = {"Conv": "CONVOLUTION", "Gemm": "MATRIX_MULTIPLY", "Cast": "CAST"}
        kind = kinds.get(node.op_type, "ELEMENTWISE")
        if node.op_type in OURS and node.op_type not in self.trt.swallowed:
            kind = "PLUGIN_V3" if self.strongly_typed else "PLUGIN_V2"
        values = {item.name: item for item in (*graph.value_info, *graph.output)}
        tensors = []
        for name in node.output:
            tensor = self.trt.tensor(values[name])
            if not self.strongly_typed and tensor.dtype in (DataType.HALF, DataType.BF16):
                tensor.dtype = DataType.FLOAT  # which a weakly typed network may say of all floats
            tensors.append(tensor)
        self.layers.append(Layer(node, self.trt.LayerType[kind], tensors))


class Builder(Strict):
    def __init__(self, trt, logger):
        if trt.starts_with is not None:
            logger.log(logger.Severity.WARNING, trt.starts_with)
            raise TypeError("pybind11::init(): factory function returned nullptr")
        super().__init__(trt=trt, logger=logger)

    def create_network(self, flags):
        flag = self.trt.NetworkDefinitionCreationFlag
        strongly_typed = getattr(flag, "STRONGLY_TYPED", None)
        is_typed = strongly_typed is not None and flags == 1 << int(strongly_typed)
        assert is_typed or flags == 1 << int(flag.EXPLICIT_BATCH)
        self.trt.network = Network(self.trt, is_typed)
        return self.trt.network

    def create_builder_config(self):
        self.trt.config = Config(self.trt)
        return self.trt.config

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        trt = self.trt
        if trt.build_errors:
            for text in trt.build_errors:
                self.logger.log(self.logger.Severity.ERROR, text)
            return None
        if getattr(config, "progress_monitor", None) is not None:
            config.progress_monitor.phase_start("Building engine", None, 2)
            assert config.progress_monitor.step_complete("Building engine", 0)
            config.progress_monitor.phase_finish("Building engine")
        self.logger.log(self.logger.Severity.VERBOSE, "Total Activation Memory: 4096 bytes")
        return b"a plan"


class Profile(Strict):
    def __init__(self):
        super().__init__(shapes={})

    def set_shape(self, name, low, tuned, high):
        self.shapes[name] = (low, tuned, high)


class Runtime(Strict):
    def __init__(self, trt, logger):
        super().__init__(trt=trt, logger=logger, engine_host_code_allowed=False)

    def deserialize_cuda_engine(self, plan):
        config = self.trt.config
        holds_code = getattr(config, "plugins_to_serialize", None) or (
            "VERSION_COMPATIBLE" in config.flags and "EXCLUDE_LEAN_RUNTIME" not in config.flags
        )
        errors = list(self.trt.load_errors)
        if holds_code and not self.engine_host_code_allowed:
            errors.append(
                "Cannot deserialize engine with lean runtime since "
                "IRuntime::getEngineHostCodeAllowed() is false."
            )
        for text in errors:
            self.logger.log(self.logger.Severity.ERROR, text)
        return None if errors else Engine(self.trt)


class Engine(Strict):
    def __init__(self, trt):
        super().__init__(trt=trt)

    num_io_tensors = property(lambda self: len(self._tensors()))
    num_layers = property(lambda self: len(self.trt.network.layers))

    def _tensors(self):
        return [*self.trt.network.inputs, *self.trt.network.outputs]

    def get_tensor_name(self, index):
        return self._tensors()[index].name

    def _tensor(self, name):
        return next(tensor for tensor in self._tensors() if tensor.name == name)

    def get_tensor_dtype(self, name):
        return self._tensor(name).dtype

    def get_tensor_shape(self, name):
        return self._tensor(name).shape

    def get_tensor_mode(self, name):
        names = [tensor.name for tensor in self.trt.network.inputs]
        modes = self.trt.TensorIOMode
        return modes.INPUT if name in names else modes.OUTPUT

    def create_execution_context(self):
        return Context(self)

    def create_engine_inspector(self):
        return Inspector(self)


class Context(Strict):
    def __init__(self, engine):
        super().__init__(engine=engine, profile=0, shapes={}, resolved=False)

    def set_optimization_profile_async(self, index, stream):
        assert index < len(self.engine.trt.config.profiles)
        self.profile, self.resolved = index, False
        return True

    def set_input_shape(self, name, shape):
        low, _, high = self.engine.trt.config.profiles[self.profile].shapes[name]
        assert all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        self.shapes[name], self.resolved = shape, False
        return True

    def infer_shapes(self):
        self.resolved = True
        if self.engine.trt.refuses_shapes:
            raise RuntimeError("infer_shapes error code: -1")
        return []


class Inspector(Strict):
    def __init__(self, engine):
        super().__init__(engine=engine, execution_context=None)

    def get_engine_information(self, form):
        trt = self.engine.trt
        assert form is trt.LayerInformationFormat.JSON
        assert trt.config.profiling_verbosity is trt.ProfilingVerbosity.DETAILED
        if trt.inspected is not None:
            return trt.inspected
        suffix = ""
        if len(trt.config.profiles) > 1:
            suffix = f" [profile {self.execution_context.profile}]"
        layers = [self._describe(layer, suffix) for layer in trt.network.layers]
        return json.dumps({"Layers": ["Reformatting CopyNode", *layers], "Bindings": []})

    def get_layer_information(self, index, form):
        return self.engine.trt.inspected  # asked for where the whole says nothing

    def _describe(self, layer, suffix):
        trt = self.engine.trt
        types = [
            layer.tensors[0].dtype
            if trt.network.strongly_typed
            else layer.output_types.get(0, DataType.FLOAT)
        ]
        if layer.name in trt.run_as:
            types = [trt.run_as[layer.name]]
        told = self.execution_context.resolved and trt.tells_types
        words = [_SPOKEN[dtype] if told else "N/A due to dynamic shapes" for dtype in types]
        tensors = [{"Name": "t", "Format/Datatype": word} for word in words]
        kinds = {"CONVOLUTION": "CaskConvolution", "MATRIX_MULTIPLY": "CaskGemmMatrixMultiply"}
        kind = kinds.get(layer.type.name, layer.type.name.title())
        name = layer.name + suffix
        return {"Name": name, "LayerType": kind, "Inputs": tensors, "Outputs": tensors}


def fake_builder(version):
    """A ``tensorrt`` module of that version (``8.5``, ``8.6``, ``10.16`` or ``11.1``).

    Its attributes beside TensorRT's steer it: ``unknown`` (what the parser says, by op type),
    ``swallowed`` (ops that it takes for something else than a plugin), ``build_errors`` and
    ``load_errors`` (what is logged, and nothing returned), ``starts_with`` (why no builder
    starts), ``run_as`` (the type that a layer runs in, by name), ``inspected`` (what the inspector
    says), ``tells_types`` (whether it tells them before an engine runs), ``refuses_shapes`` (of a
    context). ``network``, ``config`` and ``parser`` are those of the last build.
    """
    enums = {
        name: IntEnum(name, [(item, value) for value, item in enumerate(items.split())])
        for name, items in ENUMS[version].items()
        if items
    }
    major = int(version.split(".")[0])
    trt = SimpleNamespace(
        **enums,
        version=version,
        __version__=f"{version}.1",
        ILogger=ILogger,
        OnnxParser=Parser,
        OnnxParserFlag=Enum("OnnxParserFlag", "NATIVE_INSTANCENORM"),
        ProfilingVerbosity=Enum("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED"),
        LayerInformationFormat=Enum("LayerInformationFormat", "ONELINE JSON"),
        MemoryPoolType=Enum("MemoryPoolType", "WORKSPACE TACTIC_DRAM"),
        TensorIOMode=Enum("TensorIOMode", "INPUT OUTPUT"),
        LayerType=LayerTypeV3 if major >= 10 else LayerType,
        DataType=DataType,
        float32=DataType.FLOAT,
        float16=DataType.HALF,
        unknown={},
        swallowed=(),
        build_errors=(),
        load_errors=(),
        starts_with=None,
        run_as={},
        inspected=None,
        tells_types=True,
        refuses_shapes=False,
    )
    trt.Builder = lambda logger: Builder(trt, logger)
    trt.Runtime = lambda logger: Runtime(trt, logger)
    if major >= 10:
        trt.IProgressMonitor = IProgressMonitor
    trt.tensor = tensor
    trt.parser_error = lambda index, node, said: parser_error(major, index, node, said)
    return trt


def tensor(item):
    kind = item.type.tensor_type
    shape = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim]
    return Strict(name=item.name, dtype=_DATA_TYPES[kind.elem_type], shape=shape)


def parser_error(major, index, node, said):
    code, text = said
    error = {
        "code": lambda: SimpleNamespace(name=code),
        "desc": lambda: text,
        "node": lambda: index,
    }
    if major >= 10:
        error |= {"node_name": lambda: node.name, "node_operator": lambda: node.op_type}
    return SimpleNamespace(**error)
