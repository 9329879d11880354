"""Propagations that take x too from the convolution that predicts their other inputs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from prediction_file import MAJORS, PredictionFile, check_packed

JOINED = "prediction_x"


@pytest.fixture
def convs():
    """The file with convolutions of z (n, 3, h, w) that give x and the prediction."""
    file = PredictionFile()
    file.add_conv("prediction")
    file.add_conv("x")
    return file


def check_joined(file, model, graph):
    check_packed(model, graph, (30, 0, 8, -1, 16), (JOINED,))
    assert [node.name for node in graph.node] == ["prediction_conv", "p"]
    assert list(graph.node[0].output) == [JOINED]
    held = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    assert list(held) == list(graph.node[0].input[1:])  # nothing of before is left
    kind = helper.tensor_dtype_to_np_dtype(file.element)
    parts = [
        np.concatenate([file.weights.get(f"{part}_{what}", np.zeros(channels)) for part, channels in
                        (("prediction", 30), ("x", 2))]).astype(kind)
        for what in ("weight", "bias")
    ]  # fmt: skip
    for value, part in zip(held.values(), parts, strict=False):
        assert value.dtype == kind
        np.testing.assert_array_equal(value, part)
    (described,) = (value for value in graph.value_info if value.name == JOINED)
    extents = described.type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in extents] == ["n", 32, "h", "w"]
    assert described.type.tensor_type.elem_type == file.element
    assert model.node_types["prediction_conv"] == str(kind)


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_one_convolution_gives_x_too(convs, tmp_path, element, major):
    convs.element = element
    check_joined(convs, *convs.prepare(tmp_path, major))


@pytest.mark.parametrize("biased", [("prediction",), ("x",), ()], ids=lambda value: str(value))
def test_a_missing_bias_is_zero(tmp_path, biased):
    file = PredictionFile()
    for part in ("x", "prediction"):
        file.add_conv(part, bias=part in biased)
    file.convs.reverse()
    model, graph = file.prepare(tmp_path)
    check_joined(file, model, graph)
    assert len(graph.initializer) == (2 if biased else 1)


def test_convolutions_with_every_attribute(tmp_path):
    file = PredictionFile()
    plain = {"group": 1, "pads": [0] * 4, "strides": [1, 1], "dilations": [1, 1]}
    file.add_conv("prediction", auto_pad="NOTSET", kernel_shape=[1, 1], **plain)
    file.add_conv("x", **plain)
    check_joined(file, *file.prepare(tmp_path))


def test_weights_from_constant_nodes(convs, tmp_path):
    given = {name: onnx.numpy_helper.from_array(value) for name, value in convs.weights.items()}
    nodes = [helper.make_node("Constant", [], [name], value=v) for name, v in given.items()]
    kept, convs.weights = convs.weights, {}
    convs.convs[:0] = nodes
    model, graph = convs.prepare(tmp_path)
    convs.weights = kept
    check_joined(convs, model, graph)


def test_weights_that_both_use(convs, tmp_path):
    """They stay for the one that keeps them."""
    convs.others.append(helper.make_node("Conv", ["z", "x_weight"], ["other"], name="other"))
    convs.outputs.append("other")
    model, graph = convs.prepare(tmp_path)
    check_packed(model, graph, (30, 0, 8, -1, 16), (JOINED,))
    held = [item.name for item in graph.initializer]
    assert held == ["x_weight", f"{JOINED}_weight", f"{JOINED}_bias"]


def test_names_that_the_file_has(convs, tmp_path):
    convs.weights[f"{JOINED}_weight"] = np.ones(1, np.float32)
    convs.others.append(helper.make_node("Relu", [f"{JOINED}_weight"], ["other"]))
    model, graph = convs.prepare(tmp_path)
    check_packed(model, graph, (30, 0, 8, -1, 16), (f"{JOINED}_",))


def test_optional_inputs_beside_what_one_convolution_gives(convs, tmp_path):
    convs.initializers["m"] = [1, 2, 3, 4]
    convs.inputs.append("m")
    check_packed(*convs.prepare(tmp_path), (30, 0, 8, -1, 16), (JOINED, "m"))


def x_elsewhere(file):
    file.outputs.append("x")


def part_elsewhere(file):
    file.outputs.append("lam")


def prediction_elsewhere(file):
    file.others.append(helper.make_node("Relu", ["prediction"], ["z2"]))


def x_of_another(file):
    file.convs.pop()
    file.add_conv("x", source="z2")


def external(file):
    file.saved = {"save_as_external_data": True, "size_threshold": 0, "location": "weights"}


def unknown(name):
    def forget(file):
        file.shapes[name] = list(file.weights.pop(name).shape)
        file.sources.append(name)

    return forget


def other(**attributes):
    def change(file):
        file.convs.pop()
        file.add_conv("x", **attributes)

    return change


UNJOINED = {
    "x elsewhere": x_elsewhere,
    "a part elsewhere": part_elsewhere,
    "the prediction elsewhere": prediction_elsewhere,
    "x of another tensor": x_of_another,
    "external weights": external,
    "unknown weight": unknown("x_weight"),
    "unknown bias": unknown("prediction_bias"),
    "3x3": other(size=(3, 3), pads=[1] * 4),
    "strides": other(strides=[2, 2]),
    "pads": other(pads=[1, 1, 0, 0]),
    "auto_pad": other(auto_pad="SAME_UPPER"),
}


@pytest.mark.parametrize("change", UNJOINED.values(), ids=UNJOINED)
def test_x_stays_on_its_own(convs, tmp_path, change):
    change(convs)
    model, graph = convs.prepare(tmp_path)
    check_packed(model, graph)
    assert [node.op_type for node in graph.node].count("Conv") == 2


def test_groups_stay_on_their_own(tmp_path):
    file = PredictionFile()
    file.add_conv("prediction", group=3)
    file.add_conv("x")
    check_packed(*file.prepare(tmp_path))
