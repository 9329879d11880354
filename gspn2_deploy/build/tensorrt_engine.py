"""Parse, configure, build and check an engine with TensorRT and the plugin, in this process."""

from __future__ import annotations

import ctypes
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from gspn2_deploy.build import trt_network
from gspn2_deploy.build.backend import BuildRequest, BuiltEngine
from gspn2_deploy.build.gpu import Gpu
from gspn2_deploy.build.tensorrt_model import PluginModel, prepare_model
from gspn2_deploy.build.tensorrt_plugin import find_plugin, last_error, load_plugin
from gspn2_deploy.build.timing_cache import TimingCache
from gspn2_deploy.build.translate import (
    EngineLibraryError,
    ParserMessage,
    translate,
    translate_parser,
)
from gspn2_deploy.build.trt_build import (
    Session,
    check_plan,
    configure,
    driver_version,
    write_plan,
)

_STRONGLY_TYPED_MAJOR = 10
_PLUGIN_LAYERS = ("PLUGIN_V2", "PLUGIN_V3")
# Layers that only move or make data: TensorRT 8 takes no precision for them.
_UNTYPED_LAYERS = ("CONSTANT", "CAST", "IDENTITY", "SHAPE")
_PRECISION_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
# Words of the engine inspector's description of a tensor, by our name of the type.
_INSPECTED_TYPES = {
    "FP32": "float32",
    "Float": "float32",
    "FP16": "float16",
    "Half": "float16",
    "BF16": "bfloat16",
    "BFloat16": "bfloat16",
}


class PluginSession(Session):
    """A session whose network is strongly typed where TensorRT has such networks.

    Args:
        trt: TensorRT's module.
        channel: A :class:`gspn2_deploy.build.worker.Channel`.
    """

    def __init__(self, trt: ModuleType, channel: Any) -> None:
        self.major = int(trt.__version__.split(".")[0])  # decides on the network's flag
        self.monitor: Any = None  # TensorRT does not keep it alive
        super().__init__(trt, channel)

    @property
    def strongly_typed(self) -> bool:
        """Whether the network keeps the file's types by itself."""
        return self.major >= _STRONGLY_TYPED_MAJOR

    def _network_flag(self) -> Any:
        if self.strongly_typed:
            return super()._network_flag()
        return self.trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH


def build(trt: ModuleType, channel: Any, request: BuildRequest, gpu: Gpu) -> BuiltEngine:
    """Build the plan and write it.

    Args:
        trt: TensorRT's module.
        channel: A :class:`gspn2_deploy.build.worker.Channel`.
        request: What to build.
        gpu: The GPU that it is built on and for.

    Returns:
        What the plan holds.

    Raises:
        BuildError: The file was refused, a propagation is no plugin layer, or the build or the
            check of its plan failed.
        KernelLibraryError: The plugin library is missing or does not fit.
    """
    plugin_path = find_plugin(trt.__version__)
    plugin = load_plugin(trt, plugin_path)
    session = PluginSession(trt, channel)
    model = prepare_model(request.onnx_path, session.major)
    _parse(session, request, model, plugin)
    layers = check_plugins(trt, session.network, model.plugins)
    summary = trt_network.summarise(trt, session.network)
    # The propagations were counted as plugin layers: there are no function bodies to count.
    trt_network.check(replace(summary, propagations=request.propagations), request)
    config = session.builder.create_builder_config()
    _configure(session, config, request)
    cache = TimingCache.open(trt.__version__, gpu, driver_version(), plugin_path)
    cache.attach(config)
    plan = session.builder.build_serialized_network(session.network, config)
    if plan is None:
        raise translate(_with_plugin_error(session, plugin), "build the engine")
    cache.keep(config)
    write_plan(plan, request)
    session.take_errors()
    unproven = (
        *check_plan(session, plan, request),
        *check_engine_types(session, plan, layers, request),
    )
    return BuiltEngine(
        library_version=trt.__version__,
        cuda_version=None,
        driver_version=driver_version(),
        inputs=summary.inputs,
        outputs=summary.outputs,
        layer_dtypes=summary.layer_dtypes,
        activation_bytes=session.activation_bytes,
        unproven=unproven,
    )


def check_plugins(trt: ModuleType, network: Any, wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Check that every propagation has become a plugin layer.

    Args:
        trt: TensorRT's module.
        network: The parsed network.
        wanted: The op type by the name of each node that must be one.

    Returns:
        The layers' names.

    Raises:
        EngineLibraryError: One is missing.
    """
    kinds = {
        getattr(trt.LayerType, name) for name in _PLUGIN_LAYERS if hasattr(trt.LayerType, name)
    }
    layers = (network.get_layer(index) for index in range(network.num_layers))
    found = {layer.name for layer in layers if layer.type in kinds}
    missing = [name for name in wanted if name not in found]
    if missing:
        counts = Counter(wanted[name] for name in missing)
        raise EngineLibraryError(
            "the network lacks plugin layers: "
            + ", ".join(f"{count} {op_type}" for op_type, count in counts.items()),
            got=f"{len(wanted) - len(missing)} of {len(wanted)}; missing: {', '.join(missing)}",
            expected="one layer for each propagation of the file",
            hint="report this with the ONNX file: TensorRT took something else for the plugin",
        )
    return tuple(wanted)


def _parse(
    session: PluginSession, request: BuildRequest, model: PluginModel, plugin: ctypes.CDLL
) -> None:
    parser = session.trt.OnnxParser(session.network, session.logger)
    # The path is where it looks for external weights.
    if parser.parse(model.content, str(request.onnx_path)) and parser.num_errors == 0:
        session.take_errors()
        return
    raw = _with_plugin_error(session, plugin)
    messages = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        # Before 10 an error knows neither the node's name nor its op.
        name = error.node_name() if hasattr(error, "node_name") else ""
        op_type = error.node_operator() if hasattr(error, "node_operator") else ""
        node = name or f"node {error.node()}"
        messages.append(ParserMessage(error.code().name, error.desc().strip(), op_type or "", node))
    raise translate_parser(messages, raw) if messages else translate(raw, "parse the ONNX file")


def _with_plugin_error(session: PluginSession, plugin: ctypes.CDLL) -> list[str]:
    said = last_error(plugin)
    return [*([said] if said else []), *session.take_errors()]


def _configure(session: PluginSession, config: Any, request: BuildRequest) -> None:
    trt = session.trt
    configure(session, config, request)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the check reads layers' types
    if hasattr(trt, "IProgressMonitor"):
        session.monitor = session.make_monitor()
        config.progress_monitor = session.monitor
    else:
        session.channel.progress(None, "TensorRT is timing kernels", important=True)
    if not session.strongly_typed:
        sources = trt.TacticSource
        # cuBLAS and cuDNN are slower to start and not needed by these models.
        config.set_tactic_sources(
            1 << int(sources.EDGE_MASK_CONVOLUTIONS) | 1 << int(sources.JIT_CONVOLUTIONS)
        )
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
        honour_precision(trt, session.network, config, request.precision)


def honour_precision(trt: ModuleType, network: Any, config: Any, precision: str | None) -> None:
    """Make TensorRT 8 and 9 compute in the file's types, which they take as hints otherwise.

    Args:
        trt: TensorRT's module.
        network: The parsed network, weakly typed.
        config: The builder configuration.
        precision: What the file says was baked in.
    """
    config.clear_flag(trt.BuilderFlag.TF32)
    if precision in (None, "fp32"):
        return
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    untyped = {getattr(trt.LayerType, name) for name in _UNTYPED_LAYERS}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in untyped or layer.num_outputs == 0:
            continue
        dtype = layer.get_output(0).dtype
        if dtype in (trt.float32, trt.float16):
            layer.precision = dtype
            for output in range(layer.num_outputs):
                layer.set_output_type(output, dtype)


def check_engine_types(
    session: Session, plan: Any, plugin_layers: tuple[str, ...], request: BuildRequest
) -> tuple[str, ...]:
    """Hold the types of the built engine's plugin layers against the file's precision.

    Args:
        session: The session that built it.
        plan: The plan.
        plugin_layers: The plugin layers' names.
        request: What it was built from.

    Returns:
        What could not be checked here, one sentence each.

    Raises:
        EngineLibraryError: A plugin layer is missing from the engine, or runs in another type.
    """
    trt = session.trt
    engine = trt.Runtime(session.logger).deserialize_cuda_engine(plan)
    if engine is None:
        return ("the types of the engine's layers were not checked: it does not load here",)
    inspector = engine.create_engine_inspector()
    # Without shapes it does not tell the types of layers whose shapes are dynamic.
    context = engine.create_execution_context()
    for name, shapes in (request.profiles[0] if request.profiles else {}).items():
        context.set_input_shape(name, shapes.opt)
    inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    found = inspected_types(text, plugin_layers)
    if found is None:
        return ("the types of the engine's layers were not checked: TensorRT does not tell them",)
    missing = [name for name in plugin_layers if name not in found]
    precision = request.precision
    wanted = _PRECISION_TYPES.get(precision or "")
    wrong = [name for name in found if wanted is not None and found[name] != wanted]
    if missing or wrong:
        raise EngineLibraryError(
            "plugin layers are missing from the engine"
            if missing
            else f"plugin layers do not run in {precision}, as the file says",
            got=", ".join(missing or [f"{name}: {found[name]}" for name in wrong]),
            expected=f"{len(plugin_layers)} plugin layers" + (f" in {precision}" if wanted else ""),
            hint="build again; if it persists, report it with the ONNX file",
        )
    return ()


def inspected_types(text: str, names: tuple[str, ...]) -> dict[str, str] | None:
    """Read the output types of named layers from the engine inspector's JSON.

    Args:
        text: What the inspector says of the whole engine.
        names: Layers to look for.

    Returns:
        The element type by layer name, for the layers that are there; None when the text is not
        in the form that TensorRT 8.6 to 11 write.
    """
    try:
        layers = json.loads(text)["Layers"]
        found = {}
        for layer in layers:
            if layer["Name"] in names:
                described = str(layer["Outputs"][0]["Format/Datatype"])
                words = described.replace(":", " ").split()
                types = [_INSPECTED_TYPES[word] for word in words if word in _INSPECTED_TYPES]
                found[str(layer["Name"])] = types[-1]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return found
