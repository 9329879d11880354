"""Proof that an engine ran every plugin layer, and in which type.

The propagations are held against the ONNX file, the layers that stand for standard ops of it
against the manifest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from gspn2_deploy.manifest import Manifest
from gspn2_deploy.runners.engine_layers import EngineLayer
from gspn2_deploy.spec import PRECISION_TYPES

_MISSING = "no plugin layer in the engine"
_UNKNOWN = "a plugin layer that the manifest does not name"


class PluginKind(str, Enum):
    """What a plugin layer stands for."""

    PROPAGATION = "propagation"
    FUSED = "fused"  # standard ops of the file


@dataclass(frozen=True)
class PluginRun:
    """One plugin layer of an engine.

    Args:
        name: Its layer; of a propagation it has the name of the ONNX node.
        op_type: Its op; empty where the ONNX file is not known.
        dtype: The type that it gave, as the engine inspector says; None where it does not tell.
        milliseconds: How long it ran, as TensorRT's profiler says; None where it did not run.
        kind: What it stands for.
    """

    name: str
    op_type: str
    dtype: str | None
    milliseconds: float | None
    kind: PluginKind = PluginKind.PROPAGATION


@dataclass(frozen=True)
class EngineProof:
    """What was seen of an engine's plugin layers.

    Args:
        plugins: Each of them, the propagations first.
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
    def propagations(self) -> tuple[PluginRun, ...]:
        """The propagations among them."""
        return tuple(item for item in self.plugins if item.kind is PluginKind.PROPAGATION)

    @property
    def plugin_milliseconds(self) -> float:
        """The sum of the plugins' times."""
        return sum(plugin.milliseconds or 0.0 for plugin in self.plugins)

    @property
    def summary(self) -> str:
        """One line."""
        share = self.plugin_milliseconds / self.milliseconds if self.milliseconds else 0.0
        return f"{_ran(self.plugins)}; {share:.0%} of the layers' time in the plugin"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "plugin_milliseconds": self.plugin_milliseconds,
            "summary": self.summary,
        }


@dataclass(frozen=True)
class PluginNode:
    """A plugin layer that an engine has to have.

    Args:
        name: Its layer.
        op_type: Its op.
        dtype: The element type that it has to give; None where that is not known.
        kind: What it stands for.
    """

    name: str
    op_type: str
    dtype: str | None
    kind: PluginKind = PluginKind.PROPAGATION


def fused_nodes(
    layers: Sequence[EngineLayer], manifest: Manifest
) -> tuple[tuple[PluginNode, ...], tuple[str, ...]]:
    """Return the plugin layers that stand for standard ops.

    Args:
        layers: An engine's layers.
        manifest: Of its plan.

    Returns:
        Those that the manifest names, or where it is of a build that did not name them those of
        the engine; and those of the engine that the manifest ought to name and does not.
    """
    dtype = PRECISION_TYPES.get(manifest.precision or "")
    found = {layer.node: layer.fused_type or "" for layer in layers if layer.is_fused}
    named = found if manifest.fused is None else manifest.fused
    nodes = (PluginNode(name, kind, dtype, PluginKind.FUSED) for name, kind in named.items())
    return tuple(nodes), tuple(name for name in found if name not in named)


def prove_plugins(
    layers: Sequence[EngineLayer], nodes: Sequence[PluginNode], manifest: Manifest
) -> EngineProof:
    """Hold what ran against what the ONNX file and the manifest ask for.

    Args:
        layers: An engine's layers with their times, as a run with the profiler gave them.
        nodes: The file's propagations.
        manifest: The plan's, which says what else the plugin runs.

    Returns:
        What was seen. It fails when a node is no plugin layer, did not run, or ran in another
        type, and when the engine has a plugin layer that the manifest does not name.
    """
    fused, unknown = fused_nodes(layers, manifest)
    plugins, problems = _hold(layers, (*nodes, *fused))
    return _proof(plugins, layers, {**problems, _UNKNOWN: unknown})


def prove_counts(layers: Sequence[EngineLayer], manifest: Manifest) -> EngineProof:
    """Hold what ran against a manifest, where the ONNX file is not at hand.

    Args:
        layers: As for :func:`prove_plugins`.
        manifest: The plan's.
    """
    counts = {op_type: count for op_type, count in manifest.propagations.items() if count}
    op_type = next(iter(counts)) if len(counts) == 1 else ""
    dtype = PRECISION_TYPES.get(manifest.precision or "")
    fused, unknown = fused_nodes(layers, manifest)
    others = {node.name for node in fused}
    found = dict.fromkeys(
        layer.node for layer in layers if layer.is_propagation and layer.node not in others
    )
    nodes = [PluginNode(name, op_type, dtype) for name in found]
    plugins, problems = _hold(layers, (*nodes, *fused))
    wanted = sum(counts.values())
    lacking = [f"{wanted - len(found)} of {wanted}"] if len(found) < wanted else []
    missing = (*lacking, *problems[_MISSING])
    return _proof(plugins, layers, {**problems, _MISSING: missing, _UNKNOWN: unknown})


def _hold(
    layers: Sequence[EngineLayer], nodes: Sequence[PluginNode]
) -> tuple[tuple[PluginRun, ...], dict[str, Sequence[str]]]:
    """Look for each node among the layers; return what ran, and what is wrong."""
    by_node = _by_node(layers)
    plugins = tuple(_run(by_node.get(node.name), node) for node in nodes)
    missing = [node.name for node in nodes if node.name not in by_node]
    # Without details an engine does not tell what kind its layers are.
    kinds = {name: layer.is_plugin or not layer.kind for name, layer in by_node.items()}
    other = [node for node in nodes if not kinds.get(node.name, True)]
    wrong = [
        f"{node.name} in {plugin.dtype} instead of {node.dtype}"
        for node, plugin in zip(nodes, plugins, strict=True)
        if None not in (node.dtype, plugin.dtype) and node.dtype != plugin.dtype
    ]
    idle = [item.name for item in plugins if item.milliseconds is None and item.name not in missing]
    return plugins, {
        _MISSING: missing,
        "a propagation is no plugin layer": _names(other, PluginKind.PROPAGATION),
        "a fused layer is no plugin layer": _names(other, PluginKind.FUSED),
        "a plugin layer did not run": idle,
        "a plugin layer ran in another type": wrong,
    }


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


def _run(layer: EngineLayer | None, node: PluginNode) -> PluginRun:
    dtype, milliseconds = (None, None) if layer is None else (layer.dtype, layer.milliseconds)
    return PluginRun(node.name, node.op_type, dtype, milliseconds, node.kind)


def _names(nodes: Sequence[PluginNode], kind: PluginKind) -> list[str]:
    return [node.name for node in nodes if node.kind is kind]


def _ran(plugins: Sequence[PluginRun]) -> str:
    """Say how many of each op ran, and in which types, as in ``2 of 3 GspnProp2D ran, float16``."""
    ran = [item for item in plugins if item.milliseconds is not None]
    every = Counter(item.op_type or "propagations" for item in plugins)
    counts = Counter(item.op_type or "propagations" for item in ran)
    ops = ", ".join(
        f"{counts[op]} {op}" if counts[op] == count else f"{counts[op]} of {count} {op}"
        for op, count in every.items()
    )
    types = Counter(item.dtype or "a type that TensorRT does not tell" for item in ran)
    listed = (
        next(iter(types), "")
        if len(types) == 1
        else ", ".join(f"{count} in {dtype}" for dtype, count in types.items())
    )
    return f"{ops or 'no plugin layers'} ran" + (f", {listed}" if listed else "")
