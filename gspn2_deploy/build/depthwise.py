"""Let the plugin compute depthwise convolutions, with the residual or the SiLU behind them.

The models have three to a block. TensorRT 8.6's kernels for them reach a tenth of the memory's
bandwidth and of the arithmetic, and leave the addition or the activation to a layer of its own.

The plugin takes half precision alone; a convolution of another form than the plugin's stays as it
is, and so does one whose result something else uses ahead of the residual or the activation.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from gspn2_deploy.build.graph_view import GraphView, is_op, keeps_size, pairs, put_plugins
from gspn2_deploy.spec import DEPTHWISE, DEPTHWISE_KERNELS, HALF_TYPES

_WEIGHT_RANK = 4


def fuse_depthwise(
    graph: onnx.GraphProto,
    constants: Mapping[str, onnx.TensorProto],
    types: Mapping[str, str],
) -> dict[str, str]:
    """Put one GspnDepthwise in the place of each depthwise convolution that it can be, in place.

    Args:
        graph: A model's main graph.
        constants: Its initializers and constants by name.
        types: The element type by tensor name, as far as the file says it.

    Returns:
        The op type by the name of each new node.
    """
    file = GraphView(graph, constants)
    found = {}
    for conv in graph.node:
        if not _is_depthwise(file, conv, types):
            continue
        output = conv.output[0]
        attributes: dict[str, str | int] = {}
        if (added := _with_residual(file, conv)) is not None:
            output, attributes = added, {"residual": 1}
        elif (activated := _with_silu(file, output)) is not None:
            output, attributes = activated, {"activation": "silu"}
        inputs = [name for name in conv.input if name]
        found[output] = conv.name or conv.output[0], inputs, attributes
    return put_plugins(graph, DEPTHWISE, found)


def _is_depthwise(file: GraphView, conv: onnx.NodeProto, types: Mapping[str, str]) -> bool:
    if not is_op(conv, "Conv"):
        return False
    weight = file.constants.get(conv.input[1])
    if weight is None or len(weight.dims) != _WEIGHT_RANK:
        return False
    channels, inner, kernel, width = weight.dims
    dtype = types.get(conv.output[0])
    return (
        inner == 1
        and kernel == width
        and kernel in DEPTHWISE_KERNELS
        and keeps_size(conv, kernel, channels)
        and dtype in HALF_TYPES
        and all(types.get(name) == dtype for name in conv.input if name)
    )


def _with_residual(file: GraphView, conv: onnx.NodeProto) -> str | None:
    """The sum of a convolution, which nothing else uses, and of what it convolves."""
    add = file.only_user(conv.output[0], "Add")
    wanted = (conv.output[0], conv.input[0])
    return str(add.output[0]) if add is not None and wanted in pairs(add) else None


def _with_silu(file: GraphView, name: str) -> str | None:
    """The product of a tensor and its sigmoid, which are all that uses it."""
    users = file.users.get(name, [])
    sigmoid = next((node for node in users if is_op(node, "Sigmoid")), None)
    if sigmoid is None or file.uses[name] != len(users) or len(users) != 2:
        return None
    product = file.only_user(sigmoid.output[0], "Mul")
    if product is None or (name, sigmoid.output[0]) not in pairs(product):
        return None
    return str(product.output[0])
