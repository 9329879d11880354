"""Parse, configure, build and check an engine with TensorRT and the plugin, in this process."""

from __future__ import annotations

import ctypes
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from gspn2_deploy.build import trt_network
from gspn2_deploy.build.backend import BuildRequest, BuiltEngine
from gspn2_deploy.build.engine_checks import (
    check_plugin_layers,
    check_precision,
    dtype_counts,
    inspect_engine,
    merge_layers,
    misplaced_layers,
    untold_types,
)
from gspn2_deploy.build.engine_run import inspect_after_run
from gspn2_deploy.build.gpu import Gpu
from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.build.tensorrt_model import STRONGLY_TYPED_MAJOR, PluginModel, prepare_model
from gspn2_deploy.build.tensorrt_options import apply_options
from gspn2_deploy.build.timing_cache import TimingCache
from gspn2_deploy.build.translate import EngineLibraryError, translate
from gspn2_deploy.build.trt_build import Session, build_plan, configure, driver_version, parse
from gspn2_deploy.build.weak_typing import honour_precision
from gspn2_deploy.errors import Gspn2Error
from gspn2_deploy.files import sha256_of
from gspn2_deploy.runners.engine_layers import EngineLayer
from gspn2_deploy.runners.trt_tensors import dtype_name, engine_interface
from gspn2_deploy.spec import PRECISION_TYPES
from gspn2_deploy.tensorrt_plugin import (
    find_embeddable,
    find_plugin,
    last_error,
    library_version,
    load_plugin,
)

_PLUGIN_LAYERS = ("PLUGIN_V2", "PLUGIN_V3")


class PluginSession(Session):
    """A session whose network is strongly typed where TensorRT has such networks.

    Args:
        trt: TensorRT's module.
        channel: A :class:`gspn2_deploy.build.worker.Channel`.
        plugin: The plugin library, whose messages are TensorRT's errors too.
    """

    def __init__(self, trt: ModuleType, channel: Any, plugin: ctypes.CDLL) -> None:
        self.major = int(trt.__version__.split(".")[0])  # decides on the network's flag
        self.monitor: Any = None  # TensorRT does not keep it alive
        self._plugin = plugin
        self._said = last_error(plugin)
        super().__init__(trt, channel)

    @property
    def strongly_typed(self) -> bool:
        """Whether the network keeps the file's types by itself."""
        return self.major >= STRONGLY_TYPED_MAJOR

    def take_errors(self) -> list[str]:
        """Return what the plugin and TensorRT logged as errors since the last call."""
        said = last_error(self._plugin)
        new = [said] if said and said != self._said else []
        self._said = said
        return [*new, *super().take_errors()]

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
        UsageError: This version of TensorRT lacks an option that is asked for, or the timing cache
            holds times averaged over another number of runs.
        BuildError: The file was refused, a propagation is no plugin layer, or the build or the
            check of its plan failed.
        KernelLibraryError: The plugin library is missing or does not fit.
    """
    options = request.options
    version = library_version(trt)
    plugin_path = find_plugin(version)
    embedded = find_embeddable(plugin_path) if options.embed_plugin else plugin_path
    cache = _open_cache(options, version, gpu, plugin_path)
    session = PluginSession(trt, channel, load_plugin(trt, plugin_path))
    config = session.builder.create_builder_config()
    apply_options(trt, config, options, strongly_typed=session.strongly_typed, plugin=embedded)
    model = prepare_model(request.onnx_path, session.major, fuse=fuses(options, session.major))
    channel.log(
        logging.DEBUG,
        f"{len(model.packed)} of {len(model.plugins) - len(model.fused)} propagations take a "
        f"prediction unsplit; {len(model.fused)} plugin layers stand for standard ops",
    )
    _parse(session, request, model)
    types = _plugin_types(session, request, model)
    summary = trt_network.summarise(trt, session.network)
    # The propagations were counted as plugin layers: there are no function bodies to count. The
    # types of a weakly typed network are not yet those of the file.
    stated = request.precision if session.strongly_typed else None
    trt_network.check(
        replace(summary, propagations=request.propagations), replace(request, precision=stated)
    )
    _configure(session, config, request, model)
    if cache is not None:
        cache.attach(config)
    plan = build_plan(session, config, request)
    layers, unproven = check_engine(session, plan, request, types)
    kept = cache.keep(config) if cache is not None else None
    return BuiltEngine(
        library_version=version,
        cuda_version=None,
        driver_version=driver_version(),
        inputs=summary.inputs,
        outputs=summary.outputs,
        # Of a weakly typed network the file's nodes: it tells its own layers' types only in part.
        layer_dtypes=summary.layer_dtypes
        if session.strongly_typed
        else dict(Counter(model.node_types.values())),
        engine_dtypes=dtype_counts(layers),
        gpu=gpu.name,
        plugin_sha256=sha256_of(embedded),
        timing_cache=None if kept is None else str(kept),
        activation_bytes=session.activation_bytes,
        unproven=unproven,
        fused={name: model.plugins[name] for name in model.fused},
    )


def fuses(options: BuildOptions, major: int) -> bool:
    """Whether the plugin takes over what it can around the propagations.

    Args:
        options: Of the build.
        major: TensorRT's major version. By default the plugin does that before 10, where it was
            measured.
    """
    if options.fuse is not None:
        return options.fuse
    return major < STRONGLY_TYPED_MAJOR and options.weights == "fixed"


def check_plugins(trt: ModuleType, network: Any, wanted: Mapping[str, str]) -> dict[str, str]:
    """Check that every propagation, and all else for the plugin, has become a plugin layer.

    Args:
        trt: TensorRT's module.
        network: The parsed network.
        wanted: The op type by the name of each node that must be one.

    Returns:
        The element type that the network has for each of these layers, by name.

    Raises:
        EngineLibraryError: One is missing, or gives tensors of different types.
    """
    kinds = {
        getattr(trt.LayerType, name) for name in _PLUGIN_LAYERS if hasattr(trt.LayerType, name)
    }
    layers = (network.get_layer(index) for index in range(network.num_layers))
    found = {layer.name: layer for layer in layers if layer.type in kinds}
    missing = [name for name in wanted if name not in found]
    if missing:
        counts = Counter(wanted[name] for name in missing)
        raise EngineLibraryError(
            "the network lacks plugin layers: "
            + ", ".join(f"{count} {op_type}" for op_type, count in counts.items()),
            got=f"{len(wanted) - len(missing)} of {len(wanted)}; missing: {', '.join(missing)}",
            expected="one layer for each propagation of the file, and for what was fused",
            hint="report this with the ONNX file: TensorRT took something else for the plugin",
        )
    types = {name: _output_types(found[name]) for name in wanted}
    mixed = [f"{name}: {', '.join(given)}" for name, given in types.items() if len(set(given)) > 1]
    if mixed:
        raise EngineLibraryError(
            "plugin layers give tensors of different types",
            got="; ".join(mixed),
            expected="one type for all that a layer gives",
            hint="report this with the ONNX file",
        )
    return {name: given[0] for name, given in types.items()}


def _output_types(layer: Any) -> list[str]:
    return [dtype_name(layer.get_output(index).dtype) for index in range(layer.num_outputs)]


def check_engine(
    session: Session, plan: Any, request: BuildRequest, plugin_types: Mapping[str, str]
) -> tuple[list[EngineLayer], tuple[str, ...]]:
    """Load the plan that was just built, and hold it against the file.

    Args:
        session: The session that built it.
        plan: The plan.
        request: What it was built from.
        plugin_types: The element type by the name of each plugin layer.

    Returns:
        The engine's layers as far as TensorRT tells them, and what could not be checked, one
        sentence each.

    Raises:
        BuildError: The plan does not load, or the engine differs from the file in its interface,
            its plugin layers or its precision.
    """
    trt, options = session.trt, request.options
    runtime = trt.Runtime(session.logger)
    if options.embed_plugin or options.version_compatible:
        runtime.engine_host_code_allowed = True  # it was built here a moment ago
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        errors = session.take_errors()
        if options.exclude_lean_runtime:
            return [], ("the plan was not loaded: it needs a lean runtime beside it",)
        raise translate(errors, "load the plan that it built")
    inputs, outputs = engine_interface(trt, engine)
    trt_network.check_interface(inputs, outputs, request)
    unproven = ["the engine was loaded but not run"]
    layers = inspect_engine(trt, engine, request.profiles)
    if not layers:
        return [], (*unproven, "the engine's layers were not checked: TensorRT does not tell them")
    untold = check_plugin_layers(layers, plugin_types)
    if untold:
        try:
            layers += inspect_after_run(trt, engine, inputs, outputs, request.profiles)
            layers = merge_layers(layers)
            unproven = ["the engine ran once, on zeros: its outputs were not compared"]
        except Exception as error:  # the plan is there, and what is not checked is said
            what = error.problem if isinstance(error, Gspn2Error) else error
            unproven = [f"the engine was loaded but did not run: {what}"]
        untold = check_plugin_layers(layers, plugin_types)
    if sentence := untold_types(layers, len(untold)):
        unproven.append(sentence)
    if options.precision_constraints == "obey":
        check_precision(layers, request.precision)
    elif misplaced := misplaced_layers(layers, request.precision):
        unproven.append(f"{len(misplaced)} layers do not run in {request.precision}")
    return layers, tuple(unproven)


def _open_cache(
    options: BuildOptions, version: str, gpu: Gpu, plugin_path: Path
) -> TimingCache | None:
    if not options.timing_cache:
        return None
    return TimingCache.open(
        version,
        gpu,
        driver_version(),
        plugin_path,
        options.timing_iterations,
        options.timing_cache_path,
    )


def _parse(session: PluginSession, request: BuildRequest, model: PluginModel) -> None:
    options = request.options
    flags = []
    if not session.strongly_typed and (
        options.version_compatible or options.hardware_compatibility != "none"
    ):
        # Such engines may not call the library's own plugins, which the parser would insert.
        flags.append(session.trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    parse(session, request.onnx_path, model.content, flags=flags, has_plugins=True)
    for index in range(session.network.num_inputs):
        tensor = session.network.get_input(index)
        if tensor.name in model.cast:
            tensor.dtype = session.trt.float32


def _plugin_types(
    session: PluginSession, request: BuildRequest, model: PluginModel
) -> dict[str, str]:
    """The types of the plugin layers: the one that was baked in, or the file's for each node."""
    found = check_plugins(session.trt, session.network, model.plugins)
    baked = PRECISION_TYPES.get(request.precision or "")
    return {name: baked or model.node_types.get(name, dtype) for name, dtype in found.items()}


def _configure(
    session: PluginSession, config: Any, request: BuildRequest, model: PluginModel
) -> None:
    trt = session.trt
    configure(session, config, request)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the check reads layers' types
    if hasattr(trt, "IProgressMonitor"):
        session.monitor = session.make_monitor()
        config.progress_monitor = session.monitor
    else:
        session.channel.progress(None, "TensorRT is timing kernels", important=True)
    if session.strongly_typed:
        return
    # Without it a plan has one execution context for each profile, and no more.
    sharing = getattr(trt.PreviewFeature, "PROFILE_SHARING_0806", None)
    if sharing is not None:
        config.set_preview_feature(sharing, True)
    honour_precision(trt, session.network, config, request, model)
