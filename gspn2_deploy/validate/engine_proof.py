"""Proof that an engine ran every propagation in the plugin, and in which type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gspn2_deploy.runners.engine_layers import EngineLayer
from gspn2_deploy.spec import PRECISION_TYPES


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


@dataclass(frozen=True)
class PluginNode:
    """A propagation of an ONNX file.

    Args:
        name: Its node.
        op_type: Its op.
        dtype: The element type that the file gives it; None where it does not say.
    """

    name: str
    op_type: str
    dtype: str | None


def prove_plugins(layers: Sequence[EngineLayer], nodes: Sequence[PluginNode]) -> EngineProof:
    """Hold what ran against what the ONNX file asks for.

    Args:
        layers: An engine's layers with their times, as a run with the profiler gave them.
        nodes: The file's propagations.

    Returns:
        What was seen. It fails when a propagation is no plugin layer, did not run, or ran in
        another type.
    """
    by_node = _by_node(layers)
    plugins = [_run(by_node.get(node.name), node.name, node.op_type) for node in nodes]
    missing = [node.name for node in nodes if node.name not in by_node]
    # Without details an engine does not tell what kind its layers are.
    kinds = {name: layer.is_plugin or not layer.kind for name, layer in by_node.items()}
    other = [node.name for node in nodes if not kinds.get(node.name, True)]
    wrong = [
        f"{node.name} in {plugin.dtype} instead of {node.dtype}"
        for node, plugin in zip(nodes, plugins, strict=True)
        if None not in (node.dtype, plugin.dtype) and node.dtype != plugin.dtype
    ]
    idle = [item.name for item in plugins if item.milliseconds is None and item.name not in missing]
    return _proof(
        plugins,
        layers,
        {
            "no plugin layer in the engine": missing,
            "a propagation is no plugin layer": other,
            "a plugin layer did not run": idle,
            "a plugin layer ran in another type": wrong,
        },
    )


def prove_counts(
    layers: Sequence[EngineLayer], counts: Mapping[str, int], precision: str | None
) -> EngineProof:
    """Hold what ran against a manifest, where the ONNX file is not at hand.

    Args:
        layers: As for :func:`prove_plugins`.
        counts: Propagations by op type.
        precision: What the file says was baked in.
    """
    found = [layer for layer in _by_node(layers).values() if layer.is_propagation]
    plugins = [_run(layer, layer.node, "") for layer in found]
    wanted = sum(counts.values())
    dtype = PRECISION_TYPES.get(precision or "")
    wrong = [
        f"{item.name} in {item.dtype} instead of {dtype}"
        for item in plugins
        if dtype and item.dtype not in (None, dtype)
    ]
    lacking = [f"{wanted - len(found)} of {wanted}"] if len(found) < wanted else []
    return _proof(
        plugins,
        layers,
        {
            "no plugin layer in the engine": lacking,
            "a plugin layer did not run": [
                item.name for item in plugins if item.milliseconds is None
            ],
            "a plugin layer ran in another type": wrong,
        },
    )


def _by_node(layers: Sequence[EngineLayer]) -> dict[str, EngineLayer]:
    """Layers by node; of several profiles' the one that ran."""
    found: dict[str, EngineLayer] = {}
    for layer in layers:
        if layer.node not in found or found[layer.node].milliseconds is None:
            found[layer.node] = layer
    return found


def _proof(
    plugins: Sequence[PluginRun],
    layers: Sequence[EngineLayer],
    problems: Mapping[str, Sequence[str]],
) -> EngineProof:
    untold = [item for item in plugins if item.dtype is None and item.milliseconds is not None]
    sentence = (
        f"TensorRT does not tell the types of {len(untold)} plugin layers: an engine tells them "
        "that was built with ProfilingVerbosity.DETAILED"
    )
    return EngineProof(
        tuple(plugins),
        layers=sum(layer.milliseconds is not None for layer in layers),
        milliseconds=sum(layer.milliseconds or 0.0 for layer in layers),
        failures=tuple(f"{what}: {', '.join(names)}" for what, names in problems.items() if names),
        unproven=(sentence,) if untold else (),
    )


def _run(layer: EngineLayer | None, name: str, op_type: str) -> PluginRun:
    if layer is None:
        return PluginRun(name, op_type, None, None)
    return PluginRun(name, op_type, layer.dtype, layer.milliseconds)
