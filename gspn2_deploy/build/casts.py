"""Leave the casts of a model's inputs to the copies that TensorRT makes of them anyway.

A file in half precision takes float32 images and casts them first. TensorRT 8.6 makes that a layer
of its own, 20 us for one image of 224x224 on an H200, ahead of a copy to the layout that the first
convolution wants. An input that the network has in float16, and the engine in float32, takes the
copy alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from gspn2_deploy.build.graph_view import GraphView, attributes_of


def drop_input_casts(
    graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto]
) -> tuple[str, ...]:
    """Let inputs in float32 that are only cast to float16 be of that type, in place.

    Whoever parses the graph gives the inputs their own type back: see PluginModel.

    Args:
        graph: A model's main graph.
        constants: Its initializers and constants by name.

    Returns:
        The names of these inputs.
    """
    file = GraphView(graph, constants)
    dropped = []
    for value in graph.input:
        cast = file.only_user(value.name, "Cast")
        if (
            cast is None
            or value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT
            or attributes_of(cast)["to"] != onnx.TensorProto.FLOAT16
        ):
            continue
        users = file.users.get(cast.output[0], [])
        if file.uses[cast.output[0]] != len(users):  # an output, or of an inner graph
            continue
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        for user in users:
            for index, name in enumerate(user.input):
                if name == cast.output[0]:
                    user.input[index] = value.name
        graph.node.remove(cast)
        dropped.append(value.name)
    return tuple(dropped)
