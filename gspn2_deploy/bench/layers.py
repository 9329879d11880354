"""What bounds an engine: its layers' times, what each moves, and the propagation's share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gspn2_deploy.runners.engine_layers import EngineLayer

PROPAGATION = "propagation"
FUSED = "norm and depthwise, by the plugin"
_OTHER = "other"
# Groups by what TensorRT calls a layer's kind, or by the layer's name where it does not tell; the
# first that fits counts. Of plugin layers the name tells.
_GROUPS = (
    ("reformat and copy", r"reformat|copy|shuffle|slice|concat|transpose|cast|identity|no-?op"),
    ("convolution", r"conv"),
    ("matrix product", r"gemm|mat(rix)?_?mul|fully"),
    ("fused by TensorRT", r"myelin|foreign"),
    ("elementwise and reduction", r"pointwise|elementwise|pwn|reduce|norm|scale|unary|activation"),
)
# From this share of the copy bandwidth on a layer is as fast as memory lets it be.
_MEMORY_BOUND = 0.6


@dataclass(frozen=True)
class LayerTime:
    """One layer.

    Args:
        name: Its name.
        kind: What TensorRT calls it.
        group: One of a few sorts of layers.
        dtype: The type that it gives, where TensorRT tells.
        milliseconds: Median of its times.
        share: Of the sum over all layers, 0 to 1.
        bytes: The least that it moves, weights apart, where TensorRT tells the shapes.
        of_copy: ``bytes`` by its time, as a share of the copy bandwidth; 0 to about 1.
    """

    name: str
    kind: str
    group: str
    dtype: str | None
    milliseconds: float
    share: float
    bytes: int | None
    of_copy: float | None


@dataclass(frozen=True)
class LayerReport:
    """An engine's layers on one set of inputs.

    Args:
        layers: Those that ran, the longest first.
        milliseconds: The sum of their times: more than the engine takes, which the profiler slows
            down.
        copy_bytes_per_second: Bytes read plus written of a copy within the GPU's memory.
    """

    layers: tuple[LayerTime, ...]
    milliseconds: float
    copy_bytes_per_second: float

    @property
    def groups(self) -> dict[str, float]:
        """Milliseconds by group, the longest first."""
        sums: dict[str, float] = {}
        for layer in self.layers:
            sums[layer.group] = sums.get(layer.group, 0.0) + layer.milliseconds
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    @property
    def propagation_share(self) -> float:
        """The propagations' part of all layers' time, 0 to 1."""
        return self.groups.get(PROPAGATION, 0.0) / self.milliseconds if self.milliseconds else 0.0

    @property
    def bound(self) -> str:
        """One sentence on what takes the time."""
        if not self.layers:
            return "no layer ran"
        name, milliseconds = next(iter(self.groups.items()))
        group = [layer for layer in self.layers if layer.group == name]
        told = [layer for layer in group if layer.of_copy is not None]
        text = (
            f"{name} takes {milliseconds / self.milliseconds:.0%} of the layers' time in "
            f"{len(group)} layers"
        )
        if told:
            time = sum(layer.milliseconds for layer in told)
            rate = sum(layer.bytes or 0 for layer in told) / (time * 1e-3)
            of_copy = rate / self.copy_bytes_per_second
            why = (
                "memory bounds it"
                if of_copy >= _MEMORY_BOUND
                else "arithmetic, launches or latency bound it, not memory"
            )
            text += f", moving at least {of_copy:.0%} of what a copy moves: {why}"
        return f"{text}; the propagation's share is {self.propagation_share:.0%}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "milliseconds": self.milliseconds,
            "copy_bytes_per_second": self.copy_bytes_per_second,
            "propagation_share": self.propagation_share,
            "bound": self.bound,
            "groups": self.groups,
            "layers": [vars(layer) for layer in self.layers],
        }


def report_layers(layers: Sequence[EngineLayer], copy_bytes_per_second: float) -> LayerReport:
    """Sort an engine's layers.

    Args:
        layers: With their times.
        copy_bytes_per_second: Of a copy within the GPU's memory, read plus written.
    """
    ran = [(layer, layer.milliseconds) for layer in layers if layer.milliseconds is not None]
    total = sum(milliseconds for _, milliseconds in ran)
    times = [
        LayerTime(
            layer.name,
            layer.kind,
            group_of(layer),
            layer.dtype,
            milliseconds,
            milliseconds / total if total else 0.0,
            layer.bytes,
            _of_copy(layer.bytes, milliseconds, copy_bytes_per_second),
        )
        for layer, milliseconds in ran
    ]
    times.sort(key=lambda item: -item.milliseconds)
    return LayerReport(tuple(times), total, copy_bytes_per_second)


def group_of(layer: EngineLayer) -> str:
    """The sort of layer that one is."""
    if layer.is_propagation:
        return PROPAGATION
    if layer.is_fused:
        return FUSED
    told = layer.kind or layer.name
    fitting = (name for name, words in _GROUPS if re.search(words, told, flags=re.IGNORECASE))
    return next(fitting, _OTHER)


def _of_copy(size: int | None, milliseconds: float, bandwidth: float) -> float | None:
    if size is None or milliseconds <= 0:
        return None
    return size / (milliseconds * 1e-3) / bandwidth
