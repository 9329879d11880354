"""Leave the casts of a model's inputs to the copies that TensorRT makes of them anyway.

A file in half precision takes float32 images and casts them first. TensorRT 8.6 makes that a layer
of its own, 20 us for one image of 224x224 on an H200, ahead of a copy to the layout that the first
convolution wants. An input that the network has in float16, and the engine in float32, takes the
copy alone.
"""

from __future__ import annotations

import onnx

from gspn2_deploy.build.graph_view import attributes_of, is_op


def drop_input_casts(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Let inputs in float32 that are only cast to float16 be of that type, in place.

    Whoever parses the graph gives the inputs their own type back: see PluginModel.

    Args:
        graph: A model's main graph.

    Returns:
        The names of these inputs.
    """
    outputs = {value.name for value in graph.output}
    dropped = []
    for value in graph.input:
        users = [node for node in graph.node if value.name in node.input]
        if (
            value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT
            or len(users) != 1
            or not is_op(users[0], "Cast")
            or attributes_of(users[0])["to"] != onnx.TensorProto.FLOAT16
            or users[0].output[0] in outputs
            or value.name in outputs
        ):
            continue
        cast = users[0]
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == cast.output[0]:
                    node.input[index] = value.name
        graph.node.remove(cast)
        dropped.append(value.name)
    return tuple(dropped)
