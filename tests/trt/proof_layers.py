"""The case of the layers that a build fuses, for ``face_proof``: each form in every format.

N, H and W are dynamic. The channels are known, as the plugin asks where eight of them lie side by
side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import layer_reference
import numpy as np
import torch
from case_writer import PRECISIONS, Array, CaseWriter, Field, text
from tolerances import PROJECTED

from gspn2_deploy.spec import (
    CHANNEL_NORM,
    CHANNEL_NORM_INPUTS,
    DEPTHWISE,
    DEPTHWISE_KERNELS,
    DEPTHWISE_NORM,
    DEPTHWISE_NORM_INPUTS,
    DEPTHWISE_NORM_KERNEL,
    PROJECTION_MAX_CHANNELS,
    RESPONSE_INPUTS,
)
from gspn2_deploy.validate.tolerances import OP_TOLERANCES

SIZES = ((1, 1, 1), (2, 7, 7), (17, 5, 6), (3, 9, 33), (1, 40, 24))  # N, H, W
PROFILE = ((1, 1, 1), (2, 7, 7), (17, 48, 48))
PROXIES = range(1, PROJECTION_MAX_CHANNELS + 1)
NORM_CHANNELS = (20, 304)  # some behind the last vector, and more than a warp's lanes have vectors
JOINED_CHANNELS = (40, 304, 640)  # one, two and four vectors to a lane
CHANNELS = 40  # of depthwise convolutions: more than a block has


@dataclass(frozen=True)
class LayerNode:
    """A plugin layer with its inputs' shapes.

    Args:
        op_type: The plugin's name.
        channels: Of x.
        inputs: Its inputs behind x, with their shapes.
        fields: Its attributes.
        vectorised: Whether x and the outputs have eight channels side by side.
        proxies: Channels of a projection's proxy; 0 without one.
    """

    op_type: str
    channels: int
    inputs: dict[str, tuple[int, ...]]
    fields: dict[str, Field] = field(default_factory=dict)
    vectorised: bool = False
    proxies: int = 0

    @property
    def x(self) -> str:
        """The input that the nodes of as many channels share."""
        return f"x{self.channels}"

    @property
    def names(self) -> list[str]:
        """Its inputs in order: a projection's are the last three."""
        names = [self.x, *self.inputs]
        if self.proxies:
            names.insert(-2, f"proxy{self.proxies}")
        return names

    def outputs(self, index: int) -> list[str]:
        """The names of its outputs where it is the node of this number."""
        return [f"{name}{index}" for name in ("yz" if self.op_type == DEPTHWISE_NORM else "y")]

    def expected(self, values: list[Array]) -> list[Array]:
        """The outputs in float64, of x and the other inputs."""
        tensors = [torch.from_numpy(value.astype(np.float64)) for value in values]
        if self.op_type == CHANNEL_NORM:
            given = dict(self.fields)
            if self.proxies:
                *tensors, proxy, weight, bias = tensors
                given["projection"] = proxy, weight, bias
            return [layer_reference.channel_norm(*tensors, **given).numpy()]
        given = {
            "silu": self.fields["activation"] == "silu",
            "residual": bool(self.fields["residual"]),
        }
        if self.op_type == DEPTHWISE:
            return [layer_reference.depthwise(*tensors, **given).numpy()]
        given["epsilon"] = self.fields["epsilon"]
        return [output.numpy() for output in layer_reference.depthwise_norm(*tensors, **given)]


def _norms(vectorised: bool, proxies: int = 0) -> list[LayerNode]:
    nodes = []
    for channels in NORM_CHANNELS:
        for names in (CHANNEL_NORM_INPUTS[1:], (*CHANNEL_NORM_INPUTS[1:], *RESPONSE_INPUTS)):
            inputs: dict[str, tuple[int, ...]] = {
                f"{name}{channels}": (channels,) for name in names
            }
            if proxies:
                inputs[f"across{channels}_{proxies}"] = (proxies, channels)
                inputs[f"bias{channels}"] = (channels,)
            fields = {"epsilon": 1e-3, "response_epsilon": 1e-6}
            nodes.append(LayerNode(CHANNEL_NORM, channels, inputs, fields, vectorised, proxies))
    return nodes


def _depthwise() -> list[LayerNode]:
    nodes = []
    for index, kernel in enumerate(DEPTHWISE_KERNELS):
        weight = {f"weight{kernel}": (CHANNELS, 1, kernel, kernel)}
        bias = {"bias": (CHANNELS,)}
        for inputs in (weight, weight | bias):
            silu = (index + len(inputs)) % 2 == 0
            fields = {"activation": "silu" if silu else "identity", "residual": int(not silu)}
            nodes.append(LayerNode(DEPTHWISE, CHANNELS, inputs, fields, True))
    return nodes


def _depthwise_norms() -> list[LayerNode]:
    nodes = []
    for channels, silu in zip(JOINED_CHANNELS, (True, False, True), strict=True):
        weight, *rest = DEPTHWISE_NORM_INPUTS[1:]
        inputs: dict[str, tuple[int, ...]] = {
            f"{weight}{DEPTHWISE_NORM_KERNEL}_{channels}": (
                channels,
                1,
                DEPTHWISE_NORM_KERNEL,
                DEPTHWISE_NORM_KERNEL,
            )
        }
        inputs |= {f"{name}{channels}": (channels,) for name in rest}
        fields: dict[str, Field] = {
            "epsilon": 1e-3,
            "activation": "silu" if silu else "identity",
            "residual": int(not silu),
        }
        nodes.append(LayerNode(DEPTHWISE_NORM, channels, inputs, fields, True))
    return nodes


def layer_nodes(dtype: str) -> list[LayerNode]:
    """Every node of the case in this dtype: float32 has only what is linear."""
    if dtype == "float32":
        return _norms(vectorised=False)
    projected = [node for proxies in PROXIES for node in _norms(vectorised=True, proxies=proxies)]
    return [
        *_norms(vectorised=False),
        *_norms(vectorised=True),
        *projected,
        *_depthwise(),
        *_depthwise_norms(),
    ]


def write_layers(folder: Path, dtype: str) -> None:
    """Write the case of the fused layers in one dtype."""
    nodes = layer_nodes(dtype)
    writer = CaseWriter(folder, PRECISIONS[dtype])
    widths = {node.x: node.channels for node in nodes}
    widths |= {f"proxy{node.proxies}": node.proxies for node in nodes if node.proxies}
    fixed = {name: shape for node in nodes for name, shape in node.inputs.items()}
    for name, channels in widths.items():
        writer.profile(name, [(n, channels, h, w) for n, h, w in PROFILE])
    for index, node in enumerate(nodes):
        layout = {"vectorised": node.vectorised}
        writer.node(node.op_type, node.outputs(index), node.fields, *node.names, **layout)
    # Of norms whose input is rounded ahead of them.
    rounded = {
        node.outputs(index)[-1]: PROJECTED[getattr(torch, dtype)]
        for index, node in enumerate(nodes)
        if node.proxies or node.op_type == DEPTHWISE_NORM
    }
    for n, height, width in SIZES:
        random = np.random.default_rng(n + height + width)
        shapes = {name: (n, channels, height, width) for name, channels in widths.items()}
        inputs = {
            name: random.standard_normal(shape).astype(np.dtype(dtype))
            for name, shape in (shapes | fixed).items()
        }
        outputs = {
            name: output
            for index, node in enumerate(nodes)
            for name, output in zip(
                node.outputs(index),
                node.expected([inputs[name] for name in node.names]),
                strict=True,
            )
        }
        size = text((n, height, width))
        writer.sample(f"n{size}", inputs, outputs, OP_TOLERANCES[dtype], rounded)
    writer.save()
