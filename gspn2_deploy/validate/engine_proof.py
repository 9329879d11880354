"""Proof that an engine ran every propagation in the plugin, and in which type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gspn2_deploy.runners.engine_layers import EngineLayer

# Element types by what a file says was baked in; a mixed file has both.
_WANTED = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class PluginRun:
    """One propagation in an engine.

    Args:
        name: Its layer, which has the name of its ONNX node.
        op_type: Its op; empty where the ONNX file is not known.
        dtype: The type that it gave, as the engine inspector says; None where it does not tell.
        milliseconds: How long it ran, as TensorRT's profiler says; None where it did not run.
    """

    name: str
    op_type: str
    dtype: str | None
    milliseconds: float | None


@dataclass(frozen=True)
class EngineProof:
    """What was seen of an engine's propagations.

    Args:
        plugins: Each of them.
        layers: How many layers ran.
        milliseconds: The sum of all layers' times.
        failures: What is wrong.
        unproven: What TensorRT did not tell.
    """

    plugins: tuple[PluginRun, ...]
    layers: int
    milliseconds: float
    failures: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()

    @property
    def plugin_milliseconds(self) -> float:
        """The sum of the plugins' times."""
        return sum(plugin.milliseconds or 0.0 for plugin in self.plugins)

    @property
    def summary(self) -> str:
        """One line."""
        ran = [plugin for plugin in self.plugins if plugin.milliseconds is not None]
        types = Counter(plugin.dtype or "a type that TensorRT does not tell" for plugin in ran)
        listed = ", ".join(f"{count} in {dtype}" for dtype, count in types.items())
        share = self.plugin_milliseconds / self.milliseconds if self.milliseconds else 0.0
        return (
            f"{len(ran)} of {len(self.plugins)} propagations ran in the plugin"
            + (f" ({listed})" if listed else "")
            + f", {share:.0%} of the layers' time"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "plugin_milliseconds": self.plugin_milliseconds,
            "summary": self.summary,
        }


def prove_plugins(
    layers: Sequence[EngineLayer],
    *,
    precision: str | None,
    nodes: Mapping[str, str] | None = None,
    counts: Mapping[str, int] | None = None,
) -> EngineProof:
    """Hold what ran against what the ONNX file asks for.

    Args:
        layers: An engine's layers with their times, as a run with the profiler gave them.
        precision: What the file says was baked in.
        nodes: The op type of every propagation by its node's name, where the file is at hand.
        counts: Propagations by op type, where only the manifest is.

    Returns:
        What was seen. It fails when a propagation is no plugin layer, did not run, or ran in
        another type.
    """
    by_name = {layer.name: layer for layer in layers}
    found = [layer for layer in layers if layer.is_plugin]
    if nodes is None:
        plugins = [PluginRun(item.name, "", item.dtype, item.milliseconds) for item in found]
        wanted = sum((counts or {}).values())
        missing = [f"{wanted - len(found)} of {wanted}"] if len(found) < wanted else []
    else:
        plugins = [_run(by_name.get(name), name, op_type) for name, op_type in nodes.items()]
        missing = [name for name in nodes if name not in by_name]
    idle = [item.name for item in plugins if item.milliseconds is None and item.name in by_name]
    failures = []
    if missing:
        failures.append(f"no plugin layer in the engine: {', '.join(missing)}")
    if idle:
        failures.append(f"a plugin layer did not run: {', '.join(idle)}")
    other = [item.name for item in plugins if item.name in by_name and not _plugin(by_name, item)]
    if other:
        failures.append(f"a propagation is no plugin layer: {', '.join(other)}")
    dtype = _WANTED.get(precision or "")
    wrong = [item for item in plugins if dtype and item.dtype not in (None, dtype)]
    if wrong:
        listed = ", ".join(f"{item.name} in {item.dtype}" for item in wrong)
        failures.append(f"a plugin layer ran in another type than {dtype}: {listed}")
    untold = [item.name for item in plugins if item.dtype is None and item.name in by_name]
    return EngineProof(
        tuple(plugins),
        layers=sum(layer.milliseconds is not None for layer in layers),
        milliseconds=sum(layer.milliseconds or 0.0 for layer in layers),
        failures=tuple(failures),
        unproven=(
            (
                f"TensorRT does not tell the types of {len(untold)} plugin layers: the engine was "
                "built without ProfilingVerbosity.DETAILED",
            )
            if untold
            else ()
        ),
    )


def _run(layer: EngineLayer | None, name: str, op_type: str) -> PluginRun:
    if layer is None:
        return PluginRun(name, op_type, None, None)
    return PluginRun(name, op_type, layer.dtype, layer.milliseconds)


def _plugin(by_name: Mapping[str, EngineLayer], item: PluginRun) -> bool:
    layer = by_name[item.name]
    return layer.is_plugin or not layer.kind  # without details there is no kind
