"""Let a Reshape take extents from the tensor it reshapes, not from formulas over the image size.

PyTorch's exporter writes the extents of a free height and width as formulas over the model's input
(``(height - 1)//32 + 1``). TensorRT for RTX 1.7.1 derives the same extents through the
convolutions, tries to prove the two equal where a propagation meets them, and with several
strides behind each other recurses until its stack ends: the process dies by SIGSEGV, whatever
the stack's size. Where the file's own shape annotations say that an output extent is an extent of
the reshaped tensor, reading it off that tensor says the same and leaves nothing to prove.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

Shape = list[int | str | None]
_SHAPE_SLICES_SINCE = 15  # the opset that gave Shape its start and end


def with_own_extents(path: Path) -> bytes | None:
    """Return a file's model with such Reshapes rewritten, or None where there are none.

    Args:
        path: The ONNX file; external data stays where it is, named relative to the file.

    Returns:
        The serialised model.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:  # the engine library's parser will say so
        return None
    opset = next((item.version for item in model.opset_import if not item.domain), 0)
    if opset < _SHAPE_SLICES_SINCE:
        return None
    shapes = annotated_shapes(model.graph)
    given = {extent for item in model.graph.input for extent in shapes[item.name]}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Reshape" and not node.domain:
            axes = _source_axes(node, shapes)
            derived = set(shapes.get(node.output[0], [])) - given
            if axes is not None and any(isinstance(extent, str) for extent in derived):
                nodes += _new_shape(node, axes)
        nodes.append(node)
    if len(nodes) == len(model.graph.node):
        return None
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    rewritten: bytes = model.SerializeToString()
    return rewritten


def annotated_shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Return the shapes that a graph states, by tensor: each extent's number, or its name."""
    return {
        item.name: [
            axis.dim_value if axis.HasField("dim_value") else (axis.dim_param or None)
            for axis in item.type.tensor_type.shape.dim
        ]
        for item in (*graph.input, *graph.value_info, *graph.output)
    }


def _source_axes(node: onnx.NodeProto, shapes: dict[str, Shape]) -> list[tuple[str, int]] | None:
    """For every output axis ("extent", its value) or ("axis", the input's axis); None if unknown.

    A name stands for one number throughout a file: where the output has the input's name, it has
    its extent.
    """
    before, after = (shapes.get(name) for name in (node.input[0], node.output[0]))
    if not before or not after:
        return None
    sources: list[tuple[str, int]] = []
    for extent in after:
        if isinstance(extent, int):
            sources.append(("extent", extent))
        elif extent is not None and extent in before:
            sources.append(("axis", before.index(extent)))
        else:
            return None
    return sources


def _new_shape(node: onnx.NodeProto, sources: list[tuple[str, int]]) -> list[onnx.NodeProto]:
    """Give a Reshape a new shape input and return the nodes that compute it."""
    from onnx import helper

    stem = f"{node.output[0]}_own_extents"
    nodes, parts = [], []
    for position, (kind, value) in enumerate(sources):
        part = f"{stem}_{position}"
        if kind == "extent":
            made = helper.make_node("Constant", [], [part], name=part, value_ints=[value])
        else:
            made = helper.make_node(
                "Shape", [node.input[0]], [part], name=part, start=value, end=value + 1
            )
        nodes.append(made)
        parts.append(part)
    nodes.append(helper.make_node("Concat", parts, [stem], name=stem, axis=0))
    node.input[1] = stem
    return nodes
