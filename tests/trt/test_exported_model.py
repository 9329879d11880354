"""What TensorRT 8's parser is given of a real export is what its opset allows."""

import onnx
import pytest
import torch
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx

from gspn2_deploy.build.tensorrt_model import prepare_model
from gspn2_deploy.models import create_model

OPSET = 17


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def prepared(request, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(request.param) / "nano.onnx"
    options = ExportOptions(precision=PrecisionPlan(request.param))
    export_onnx(create_model("nano").eval(), path, options)
    return prepare_model(path, 8), request.param


def test_every_node_is_of_the_opset(prepared):
    model = onnx.load_from_string(prepared[0].content)
    assert [item.version for item in model.opset_import if not item.domain] == [OPSET]
    for node in model.graph.node:
        if node.domain:
            continue
        schema = onnx.defs.get_schema(node.op_type, OPSET, "")
        assert {attribute.name for attribute in node.attribute} <= set(schema.attributes), node
        assert schema.min_input <= len(node.input) <= schema.max_input, node
    onnx.checker.check_model(model)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def test_the_file_says_the_type_of_every_tensor(prepared):
    """A weakly typed network is told by it what to compute in."""
    model, precision = prepared
    graph = onnx.load_from_string(model.content).graph
    names = {node.name: node for node in graph.node}
    assert names.keys() == model.node_types.keys()
    for node in graph.node:
        assert set(node.output) <= model.tensor_types.keys(), node
    dtype = "float32" if precision == "fp32" else "float16"
    assert {model.node_types[name] for name in model.plugins} == {dtype}
