"""Make TensorRT before 10 compute in the file's types, which it takes as hints otherwise.

A weakly typed network says of few tensors what they are, and the builder chooses. So the file is
asked, tensor by tensor, and what it says is set as a constraint of the layer that gives it.
"""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

from gspn2_deploy.build.backend import BuildRequest
from gspn2_deploy.build.tensorrt_model import PluginModel
from gspn2_deploy.runners.trt_tensors import dtype_name

# Layers that only move or make data: TensorRT 8 takes no precision for them.
_UNTYPED_LAYERS = ("CONSTANT", "CAST", "IDENTITY", "SHAPE")
# Layers that must compute in a reduced type. The others may compute wider than the type that they
# give: a norm's sums are better for it, and not every layer has a kernel for every type.
_REDUCED_LAYERS = (
    "CONVOLUTION",
    "DECONVOLUTION",
    "MATRIX_MULTIPLY",
    "FULLY_CONNECTED",
    "PLUGIN_V2",
)
_FLOATS = ("float32", "float16")
_CONSTRAINTS = {"obey": "OBEY_PRECISION_CONSTRAINTS", "prefer": "PREFER_PRECISION_CONSTRAINTS"}
# A layer that the parser added for a node says so: "[ONNX Layer: NODE]".
_NODE = re.compile(r"\[ONNX Layer: ([^|\]]+?)\s*[|\]]")


def honour_precision(
    trt: ModuleType, network: Any, config: Any, request: BuildRequest, model: PluginModel
) -> None:
    """Constrain every layer to the type that the file gives its output.

    Args:
        trt: TensorRT's module.
        network: The parsed network, weakly typed.
        config: The builder configuration.
        request: Whose precision and constraints hold.
        model: The file, with its types.
    """
    if request.precision in (None, "fp32"):
        return  # float32 is all that the builder may use unless a flag allows more
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(getattr(trt.BuilderFlag, _CONSTRAINTS[request.options.precision_constraints]))
    untyped = _layer_types(trt, _UNTYPED_LAYERS)
    reduced = _layer_types(trt, _REDUCED_LAYERS)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type in untyped or layer.num_outputs == 0:
            continue
        types = [_output_type(layer, output, model) for output in range(layer.num_outputs)]
        if types[0] == "float32" or (types[0] == "float16" and layer.type in reduced):
            layer.precision = getattr(trt, types[0])
        for output, dtype in enumerate(types):
            if dtype in _FLOATS:
                layer.set_output_type(output, getattr(trt, dtype))


def _layer_types(trt: ModuleType, names: tuple[str, ...]) -> set[Any]:
    return {getattr(trt.LayerType, name) for name in names if hasattr(trt.LayerType, name)}


def _output_type(layer: Any, output: int, model: PluginModel) -> str:
    """The file's type of a tensor; of a tensor between a node's layers, that of the node."""
    tensor = layer.get_output(output)
    network_type = dtype_name(tensor.dtype)
    if network_type not in _FLOATS:  # shapes and masks, which the network knows
        return network_type
    if tensor.name in model.tensor_types:
        return model.tensor_types[tensor.name]
    node = _NODE.search(getattr(layer, "metadata", None) or "")
    names = (layer.name, node[1].strip() if node else "")
    found = (model.node_types[name] for name in names if name in model.node_types)
    return next(found, network_type)
