"""Depthwise convolutions that are joined with the norms of their results."""

import numpy as np
import onnx
import pytest
from fusing_file import File, check_order, fused_nodes, kinds
from onnx import helper, numpy_helper

from gspn2_deploy.build.graph_view import attributes_of
from gspn2_deploy.spec import CHANNEL_NORM, DEPTHWISE, DEPTHWISE_NORM, ONNX_DOMAIN


def joined(file, **conv):
    """A convolution with its residual, and the norm of that."""
    sum_ = file.add("Add", [file.depthwise(**conv), "x"], "sum")
    return file.norm(sum_)


@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_and_its_norm(tmp_path, bias):
    file = File()
    result = joined(file)
    if bias:
        file.nodes[0].input.append(file.constant("given", np.ones(8)))
    model = file.prepare(tmp_path, result)
    (node,) = fused_nodes(model).values()
    assert node.op_type == DEPTHWISE_NORM
    added = "given" if bias else "sum_bias"
    assert list(node.input) == ["x", "weight", added, "scale", "shift"]
    assert list(node.output) == ["sum", "z"]
    assert attributes_of(node) == {"residual": 1, "epsilon": pytest.approx(1e-6)}
    assert model.fused == (node.name,)
    assert model.plugins == {"prop": "GspnProp2D", node.name: DEPTHWISE_NORM}
    assert model.node_types[node.name] == "float16"
    weights = {
        item.name: numpy_helper.to_array(item)
        for item in onnx.load_from_string(model.content).graph.initializer
    }
    np.testing.assert_array_equal(weights[added], np.full(8, bias, np.float16))
    assert weights[added].dtype == np.float16
    check_order(model)


def test_others_use_the_convolution_that_is_joined_with_a_norm(tmp_path):
    file = File()
    file.norm(file.depthwise())
    file.add("Identity", ["conv"], "other")
    file.extra_outputs += ["conv", "other"]
    model = file.prepare(tmp_path, file.add("Add", ["conv", "z"], "result"))
    (node,) = fused_nodes(model).values()
    assert (node.op_type, list(node.output)) == (DEPTHWISE_NORM, ["conv", "z"])
    check_order(model)


def test_one_of_two_norms_is_joined(tmp_path):
    file = File()
    first, second = (file.norm(file.depthwise(), output) for output in ("z", "other"))
    del file.nodes[4]  # the convolution once
    model = file.prepare(tmp_path, file.add("Add", [first, second], "result"))
    assert kinds(model) == {DEPTHWISE_NORM: 1, CHANNEL_NORM: 1}
    check_order(model)


def test_a_norm_with_a_response_is_not_joined(tmp_path):
    file = File()
    joined(file)
    model = file.prepare(tmp_path, file.response())
    assert kinds(model) == {DEPTHWISE: 1, CHANNEL_NORM: 1}


def test_a_norm_with_a_projection_is_not_joined(tmp_path):
    file = File()
    sum_ = file.projected(features=file.depthwise(output="local"))
    model = file.prepare(tmp_path, file.norm(sum_))
    assert kinds(model) == {DEPTHWISE: 1, CHANNEL_NORM: 1}


def test_a_larger_kernel_is_not_joined(tmp_path):
    file = File()
    result = joined(file, kernel=5)
    assert kinds(file.prepare(tmp_path, result)) == {DEPTHWISE: 1, CHANNEL_NORM: 1}


def test_parameters_that_come_behind_the_convolution_are_not_joined(tmp_path):
    file = File()
    result = joined(file)
    file.nodes[-2].input[1] = "late"
    value = numpy_helper.from_array(np.ones(8, np.float16))
    file.nodes.insert(-2, helper.make_node("Constant", [], ["late"], name="n_late", value=value))
    assert kinds(file.prepare(tmp_path, result)) == {DEPTHWISE: 1, CHANNEL_NORM: 1}


@pytest.mark.parametrize("weight", ["weight", "x"])
def test_a_convolution_by_the_plugin_that_the_file_holds_is_not_joined(tmp_path, weight):
    file = File()
    file.constant("weight", np.ones((8, 1, 3, 3)))
    file.add(DEPTHWISE, ["x", weight], "conv", domain=ONNX_DOMAIN)
    model = file.prepare(tmp_path, file.norm("conv"))
    assert kinds(model) == {DEPTHWISE: 1, CHANNEL_NORM: 1}
    assert model.plugins["n_conv"] == DEPTHWISE
    assert "n_conv" in fused_nodes(model)
    assert list(model.fused) == [name for name in fused_nodes(model) if name != "n_conv"]


def test_a_norm_by_the_plugin_that_the_file_holds_is_not_joined(tmp_path):
    file = File()
    file.depthwise()
    parameters = [file.constant("scale", np.ones(8)), file.constant("shift", np.zeros(8))]
    result = file.add(CHANNEL_NORM, ["conv", *parameters], "z", domain=ONNX_DOMAIN)
    model = file.prepare(tmp_path, result)
    assert kinds(model) == {DEPTHWISE: 1, CHANNEL_NORM: 1}
    assert set(model.plugins) == {"prop", *fused_nodes(model)}


@pytest.mark.parametrize(("channels", "count"), [(1024, 1), (1032, 2)])
def test_as_many_channels_as_the_kernel_takes_are_joined(tmp_path, channels, count):
    file = File()
    wide = file.add(
        "Tile", ["x", file.constant("times", [1, channels // 8, 1, 1], np.int64)], "wide"
    )
    file.norm(file.depthwise(wide, channels=channels))
    file.constant("scale", np.ones(channels))
    file.constant("shift", np.zeros(channels))
    names = {"a": 0, "b": 8, "c": 1}
    ends = [file.constant(name, [value], np.int64) for name, value in names.items()]
    model = file.prepare(tmp_path, file.add("Slice", ["z", *ends], "part"))
    assert len(model.fused) == count


def test_channels_that_are_no_whole_vectors_are_not_joined(tmp_path):
    file = File()
    names = {"a": 0, "b": 4, "c": 1}
    ends = [file.constant(name, [value], np.int64) for name, value in names.items()]
    result = file.norm(file.depthwise(file.add("Slice", ["x", *ends], "half"), channels=4))
    file.constant("scale", np.ones(4))
    file.constant("shift", np.zeros(4))
    assert kinds(file.prepare(tmp_path, result)) == {DEPTHWISE: 1, CHANNEL_NORM: 1}
