"""The layers of an engine: what they are, in which type they run, and how long each takes.

The engine inspector says what is in an engine, TensorRT's profiler what ran. Both call a layer by
the same name; a plugin layer has that of its ONNX node.
"""

from __future__ import annotations

import json
import logging
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gspn2_deploy.spec import FUSED_TYPES

logger = logging.getLogger(__name__)

# Words of the inspector's description of a tensor ("Row major linear FP16 format" in 8.6, "Half"
# from 10 on), by our name of the type.
_TYPES = {
    "FP32": "float32",
    "Float": "float32",
    "FP16": "float16",
    "Half": "float16",
    "BF16": "bfloat16",
    "BFloat16": "bfloat16",
    "Int8": "int8",
    "INT8": "int8",
    "Int32": "int32",
    "INT32": "int32",
    "Int64": "int64",
    "INT64": "int64",
    "Bool": "bool",
    "BOOL": "bool",
    "FP8": "float8",
}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int32": 4, "int64": 8}
# An engine with several profiles has its layers once for each.
_PROFILE_SUFFIX = re.compile(r"\s*\[profile \d+\]$")
_PLUGIN = "plugin"  # PluginV2, PluginV2DynamicExt, PluginV3: whatever a version calls them


@dataclass(frozen=True)
class EngineTensor:
    """A tensor between two layers.

    Args:
        name: Its name.
        dtype: Its element type; None where TensorRT does not tell.
        shape: Its extents; None where TensorRT does not tell, or not all.
    """

    name: str
    dtype: str | None
    shape: tuple[int, ...] | None

    @property
    def bytes(self) -> int | None:
        """Its size in bytes, None where that is not known."""
        if self.shape is None or self.dtype is None:
            return None
        return math.prod(self.shape) * _BYTES.get(self.dtype, 1)


@dataclass(frozen=True)
class EngineLayer:
    """One layer.

    Args:
        name: Its name.
        kind: What it is, as TensorRT calls it; empty where it does not tell.
        inputs: What it reads, weights apart.
        outputs: What it writes.
        milliseconds: Median of the profiled runs; None where it did not run.
    """

    name: str
    kind: str = ""
    inputs: tuple[EngineTensor, ...] = ()
    outputs: tuple[EngineTensor, ...] = ()
    milliseconds: float | None = None

    @property
    def node(self) -> str:
        """Its name without the profile that it belongs to: for a plugin, its ONNX node's."""
        return _PROFILE_SUFFIX.sub("", self.name)

    @property
    def is_plugin(self) -> bool:
        """Whether a plugin runs it."""
        return self.kind.lower().startswith(_PLUGIN)

    @property
    def is_fused(self) -> bool:
        """Whether a plugin runs it that stands for standard ops; it is named after the plugin."""
        return self.is_plugin and self.fused_type is not None

    @property
    def fused_type(self) -> str | None:
        """The op type that its name begins with, of those that stand for standard ops."""
        # The underscore keeps GspnDepthwise and GspnDepthwiseNorm apart.
        return next((name for name in FUSED_TYPES if self.node.startswith(f"{name}_")), None)

    @property
    def is_propagation(self) -> bool:
        """Whether a plugin runs it that is a propagation of the file."""
        return self.is_plugin and not self.is_fused

    @property
    def dtype(self) -> str | None:
        """The element type of its first output."""
        return self.outputs[0].dtype if self.outputs else None

    @property
    def bytes(self) -> int | None:
        """The least bytes that it moves, weights apart; None where a tensor is not known."""
        sizes = [tensor.bytes for tensor in (*self.inputs, *self.outputs)]
        known = [size for size in sizes if size is not None]
        return sum(known) if sizes and len(known) == len(sizes) else None


def inspect_layers(trt: Any, engine: Any, context: Any) -> tuple[EngineLayer, ...]:
    """Ask TensorRT for an engine's layers.

    Args:
        trt: TensorRT's module.
        engine: The engine.
        context: A context of it whose shapes are set: without them it does not tell the types of
            layers whose shapes are dynamic. None where there is none.

    Returns:
        As :func:`read_layers`.
    """
    inspector = engine.create_engine_inspector()
    if context is not None:
        inspector.execution_context = context
    form = trt.LayerInformationFormat.JSON
    if layers := read_layers(inspector.get_engine_information(form)):
        return layers
    # A single layer's text can spoil the whole.
    items = (_parsed(inspector.get_layer_information(i, form)) for i in range(engine.num_layers))
    return tuple(_layer(item) for item in items if item is not None)


def read_layers(text: str) -> tuple[EngineLayer, ...]:
    """Read the engine inspector's JSON, in the forms that TensorRT 8.6 to 11 write.

    Args:
        text: What ``get_engine_information`` returns.

    Returns:
        The layers in order; only their names for an engine that was built without details, and
        nothing where the text is not the inspector's.
    """
    whole = _parsed(text)
    items = whole.get("Layers") if isinstance(whole, Mapping) else None
    return tuple(_layer(item) for item in items) if isinstance(items, list) else ()


def with_times(
    layers: Sequence[EngineLayer], runs: Iterable[Sequence[tuple[str, float]]]
) -> tuple[EngineLayer, ...]:
    """Give every layer the median of its times.

    Args:
        layers: What the inspector told.
        runs: For each profiled run, what the profiler was told: names and milliseconds.

    Returns:
        The layers, and behind them those that only the profiler knows.
    """
    times: dict[str, list[float]] = {}
    for run in runs:
        total: dict[str, float] = {}
        for name, milliseconds in run:  # a name may come more than once in a run
            total[name] = total.get(name, 0.0) + milliseconds
        for name, milliseconds in total.items():
            times.setdefault(name, []).append(milliseconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    known = {layer.name for layer in layers}
    timed = [replace(layer, milliseconds=medians.get(layer.name)) for layer in layers]
    extra = [
        EngineLayer(name, milliseconds=value)
        for name, value in medians.items()
        if name not in known
    ]
    return (*timed, *extra)


def make_profiler(trt: Any) -> Any:
    """Return a ``trt.IProfiler`` that collects (name, milliseconds) in its ``times``."""

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.times: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.append((layer_name, ms))

    return Profiler()


def _parsed(text: str) -> Any:
    try:
        # Not strict: 8.6 separates the names of fused layers by a bare control character.
        return json.loads(text, strict=False)
    except ValueError as error:
        at = getattr(error, "pos", 0)
        logger.debug(
            "the inspector's text is no JSON: %s: %r", error, text[max(at - 80, 0) : at + 40]
        )
        return None


def _layer(item: Any) -> EngineLayer:
    if not isinstance(item, Mapping):
        return EngineLayer(str(item))
    return EngineLayer(
        str(item.get("Name", "")),
        str(item.get("LayerType", "")),
        _tensors(item.get("Inputs")),
        _tensors(item.get("Outputs")),
    )


def _tensors(items: Any) -> tuple[EngineTensor, ...]:
    if not isinstance(items, list):
        return ()
    return tuple(_tensor(item) for item in items if isinstance(item, Mapping))


def _tensor(item: Mapping[str, Any]) -> EngineTensor:
    words = str(item.get("Format/Datatype", item.get("Datatype", ""))).replace(":", " ").split()
    types = [_TYPES[word] for word in words if word in _TYPES]
    extents = item.get("Dimensions")
    known = isinstance(extents, list) and all(
        isinstance(extent, int) and extent >= 0 for extent in extents
    )
    return EngineTensor(
        str(item.get("Name", "")),
        types[-1] if types else None,
        tuple(extents) if known and isinstance(extents, list) else None,
    )
