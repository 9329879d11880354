"""The model that TensorRT's parser is given, and what is refused before it."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gspn2_deploy.build.tensorrt_model import prepare_model
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.spec import LINE_SCAN, ONNX_DOMAIN, PROP2D

SIZE = (2, 3, 4, 5)


def propagation(name, op_type=PROP2D, output="y"):
    return helper.make_node(
        op_type, ["x", "lam", "w", "u"], [output], name=name, domain=ONNX_DOMAIN, chunk=0
    )


def save(path, nodes, *, opset=18, initializers=(), functions=(), inputs=("x", "lam", "w", "u")):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "graph", values, outputs, list(initializers))
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(ONNX_DOMAIN, 1)]
    model = helper.make_model(
        graph, opset_imports=imports, ir_version=10, functions=list(functions)
    )
    onnx.save(model, path)
    return path


def parsed(path, major):
    prepared = prepare_model(path, major)
    return prepared, onnx.load_from_string(prepared.content)


def body(name):
    node = helper.make_node("Identity", ["x"], ["y"])
    imports = [helper.make_opsetid("", 18)]
    return helper.make_function(ONNX_DOMAIN, name, ["x", "lam", "w", "u"], ["y"], [node], imports)


def test_bodies_are_gone_and_nodes_are_named(tmp_path):
    variant = f"{LINE_SCAN}_top_to_bottom_softmax"
    nodes = [
        propagation("", output="a"),
        propagation("same", output="b"),
        propagation("same", variant, output="c"),
    ]
    path = save(tmp_path / "m.onnx", nodes, functions=[body(PROP2D), body(variant)])
    prepared, model = parsed(path, 11)
    assert not model.functions
    assert sorted(prepared.plugins.values()) == [LINE_SCAN, PROP2D, PROP2D]
    assert {node.name: node.op_type for node in model.graph.node} == dict(prepared.plugins)
    assert "same" in prepared.plugins


def test_newer_tensorrt_gets_the_opset_as_it_is(tmp_path):
    _, model = parsed(save(tmp_path / "m.onnx", [propagation("p")], opset=18), 10)
    assert next(item.version for item in model.opset_import if item.domain == "") == 18
    assert model.ir_version == 10


def reduce_node(**attributes):
    return helper.make_node("ReduceMean", ["x", "axes"], ["mean"], name="mean", **attributes)


def run_alone(model):
    """x and what the nodes behind the propagation make of it."""
    del model.graph.node[0]
    del model.graph.input[1:]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    return x, session.run(None, {"x": x})[0]


def test_constant_axes_become_an_attribute_with_the_same_result(tmp_path):
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [-1, 1])
    path = save(
        tmp_path / "m.onnx", [propagation("p"), reduce_node(keepdims=0)], initializers=[axes]
    )
    prepared, model = parsed(path, 8)
    assert list(prepared.plugins) == ["p"]
    assert next(item.version for item in model.opset_import if item.domain == "") == 17
    node = model.graph.node[1]
    assert list(node.input) == ["x"]
    assert [list(item.ints) for item in node.attribute if item.name == "axes"] == [[-1, 1]]
    # Alone, in the older opset, it computes what the newer one says.
    x, mean = run_alone(model)
    np.testing.assert_allclose(mean, x.mean(axis=(1, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keepdims, steps", [(1, [[3], [2]]), (0, [[2, 3]])])
def test_a_kept_mean_over_the_map_is_taken_one_axis_after_the_other(tmp_path, keepdims, steps):
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    nodes = [propagation("p"), reduce_node(keepdims=keepdims)]
    path = save(tmp_path / "m.onnx", nodes, initializers=[axes])
    _, model = parsed(path, 8)
    means = [node for node in model.graph.node if node.op_type == "ReduceMean"]
    taken = [list(item.ints) for node in means for item in node.attribute if item.name == "axes"]
    assert taken == steps
    assert len({node.name for node in means}) == len(means)
    x, mean = run_alone(model)
    expected = x.mean(axis=(2, 3), keepdims=bool(keepdims))
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bounds", [{"start": 2}, {"start": 1, "end": 3}, {"end": -1}, {}])
def test_a_part_of_a_shape_is_cut_out_of_the_whole(tmp_path, bounds):
    nodes = [propagation("p"), helper.make_node("Shape", ["x"], ["shape"], name="shape", **bounds)]
    path = save(tmp_path / "m.onnx", nodes)
    _, model = parsed(path, 8)
    assert not any(node.attribute for node in model.graph.node if node.op_type == "Shape")
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    _, shape = run_alone(model)
    assert list(shape) == list(SIZE[bounds.get("start", 0) : bounds.get("end")])


@pytest.mark.parametrize(
    "given, dtype", [({"value_ints": [2, 3]}, np.int64), ({"value_float": 0.5}, np.float32)]
)
def test_constants_become_tensors(tmp_path, given, dtype):
    nodes = [propagation("p"), helper.make_node("Constant", [], ["c"], name="c", **given)]
    _, model = parsed(save(tmp_path / "m.onnx", nodes), 8)
    (attribute,) = model.graph.node[1].attribute
    value = numpy_helper.to_array(attribute.t)
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, next(iter(given.values())))


def test_axes_from_a_constant_node_are_found(tmp_path):
    constant = helper.make_node("Constant", [], ["axes"], value_ints=[2])
    _, model = parsed(
        save(tmp_path / "m.onnx", [constant, propagation("p"), reduce_node(keepdims=1)]), 8
    )
    node = model.graph.node[2]
    assert [list(item.ints) for item in node.attribute if item.name == "axes"] == [[2]]


@pytest.mark.parametrize(
    "nodes, opset, message",
    [
        ([propagation("p"), reduce_node(keepdims=1)], 18, "only constant axes for ReduceMean"),
        (
            [
                propagation("p"),
                helper.make_node("ReduceMax", ["x"], ["m"], name="m", noop_with_empty_axes=1),
            ],
            18,
            "no ReduceMax over no axes",
        ),
        (
            [propagation("p"), helper.make_node("Pad", ["x", "lam", "", "w"], ["q"], name="pad")],
            18,
            "no axes for Pad",
        ),
        ([propagation("p")], 22, "opset is too new for TensorRT 8 and 9"),
    ],
)
def test_what_tensorrt_8_would_misread_is_refused(tmp_path, nodes, opset, message):
    inputs = ("x", "lam", "w", "u", "axes")
    path = save(tmp_path / "m.onnx", nodes, opset=opset, inputs=inputs)
    with pytest.raises(EngineLibraryError, match=message):
        prepare_model(path, 8)
    assert prepare_model(path, 10).plugins == {"p": PROP2D}


def test_a_file_without_propagations_is_refused(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    with pytest.raises(EngineLibraryError, match="holds no propagation"):
        prepare_model(save(tmp_path / "m.onnx", [node]), 11)
