"""1x1 convolutions whose weights a file holds; two of one tensor are made one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from gspn2_deploy.build.graph_view import GraphView, keeps_size

_CHANNELS = 1  # the axis of (N, C, H, W)
_BIAS = 2  # the input of a Conv


@dataclass(frozen=True)
class Pointwise:
    """A 1x1 convolution.

    Args:
        node: Its node.
        weight: (C, E, 1, 1).
        bias: (C,); None where it has none.
    """

    node: onnx.NodeProto
    weight: NDArray[np.generic]
    bias: NDArray[np.generic] | None

    @property
    def added(self) -> NDArray[np.generic]:
        """What it adds, (C,): its bias, or zeros."""
        if self.bias is not None:
            return self.bias
        zeros: NDArray[np.generic] = np.zeros(len(self.weight), self.weight.dtype)
        return zeros


def join_pointwise(file: GraphView, first: str, second: str) -> tuple[str, list[str]] | None:
    """Let the 1x1 convolution that gives one tensor give another one too, behind it, in place.

    Args:
        file: The graph, in which all that uses the two can be given the new tensor.
        first: A tensor (N, C, H, W); its convolution keeps its name and loses this output.
        second: Another one, the same but for C.

    Returns:
        The name of the new tensor, and those of tensors that it may leave without a use; None where
        the two are not 1x1 convolutions of one tensor, the file does not hold their weights, or
        they are used more than once each.
    """
    one, other = read_pointwise(file, first), read_pointwise(file, second)
    described = {value.name: value for value in file.graph.value_info}
    if one is None or other is None or not _match(one, other) or first not in described:
        return None
    replaced = [second, *one.node.input]
    output = file.free_name(f"{first}_{second}", "_weight", "_bias")
    weight = np.concatenate([one.weight, other.weight])
    constants = {f"{output}_weight": weight}
    if one.bias is not None or other.bias is not None:
        constants[f"{output}_bias"] = np.concatenate([one.added, other.added])
    file.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )
    one.node.input[1:] = constants
    one.node.output[0] = output
    value = file.graph.value_info.add()
    value.CopyFrom(described[first])
    value.name = output
    value.type.tensor_type.shape.dim[_CHANNELS].dim_value = len(weight)
    return output, replaced


def read_pointwise(file: GraphView, name: str) -> Pointwise | None:
    """Find the 1x1 convolution that gives a tensor which is used once.

    Args:
        file: The graph.
        name: The tensor.

    Returns:
        The convolution; None where it is another op, or the file does not hold its weights.
    """
    conv = file.producer(name, "Conv")
    if conv is None or file.uses[name] != 1:
        return None
    weight = file.values(conv, 1)
    has_bias = len(conv.input) > _BIAS and conv.input[_BIAS] != ""
    bias = file.values(conv, _BIAS) if has_bias else None
    if weight is None or weight.shape[2:] != (1, 1) or (bias is None) == has_bias:
        return None
    return Pointwise(conv, weight, bias) if keeps_size(conv, kernel=1, group=1) else None


def _match(one: Pointwise, other: Pointwise) -> bool:
    return one.node.input[0] == other.node.input[0] and one.weight.dtype == other.weight.dtype
