"""Norms and depthwise convolutions that the plugin computes: in exports, and in files by hand."""

from collections import Counter

import layer_reference
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from fusing_file import File, check_order, fused_nodes, kinds
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx
from onnx import helper, numpy_helper

from gspn2_deploy.build.graph_view import attributes_of
from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.build.tensorrt_engine import fuses
from gspn2_deploy.build.tensorrt_model import prepare_model
from gspn2_deploy.errors import UsageError
from gspn2_deploy.models import create_model
from gspn2_deploy.spec import (
    CHANNEL_NORM,
    DEPTHWISE,
    DEPTHWISE_NORM,
)

MAJORS = (8, 11)
NORMS = 21  # of nano: two in the stem, three downsamplings, three a block, one at the end
BLOCKS = 5
FLOAT16 = ExportOptions(precision=PrecisionPlan("fp16"))


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Write nano as it is asked for, once."""
    written = {}

    def write(options=None, **changes):
        key = (repr(options), *changes.items())
        if key not in written:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp("nano") / "nano.onnx"
            model = create_model("nano", **changes).eval()
            with torch.no_grad():
                for parameter in model.parameters():  # biases, scales and shifts that count
                    if parameter.dim() == 1:
                        parameter.add_(0.3 * torch.randn_like(parameter))
            export_onnx(model, path, options or ExportOptions())
            written[key] = path
        return written[key]

    return write


def is_projected(node):
    return node.op_type == CHANNEL_NORM and len(node.input) in (6, 8)


def compute(node, inputs):
    """What the plugin would give: the outputs."""
    x, *rest = (torch.from_numpy(np.asarray(value, np.float64)) for value in inputs)
    given = attributes_of(node)
    if node.op_type == CHANNEL_NORM:
        if is_projected(node):
            *rest, proxy, weight, bias = rest
            given["projection"] = proxy, weight, bias
        return [layer_reference.channel_norm(x, *rest, **given).numpy()]
    activation = given.pop("activation", b"identity")
    residual = bool(given.pop("residual", 0))
    options = {"silu": activation == b"silu", "residual": residual}
    if node.op_type == DEPTHWISE_NORM:
        return [
            output.numpy()
            for output in layer_reference.depthwise_norm(x, *rest, **options, **given)
        ]
    assert not given
    return [layer_reference.depthwise(x, *rest, **options).numpy()]


def check_values(path, model, images, rtol, atol):
    """Each new node gives what the file's own nodes give, from the same inputs."""
    source = onnx.load(path)
    nodes = fused_nodes(model)
    assert set(model.fused) == nodes.keys()
    prepared = onnx.load_from_string(model.content).graph
    weights = {item.name: numpy_helper.to_array(item) for item in prepared.initializer}
    names = {name for node in nodes.values() for name in (*node.input, *node.output)}
    wanted = names - weights.keys()
    wanted -= {value.name for value in (*source.graph.input, *source.graph.output)}
    source.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        source.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = dict(zip(wanted, session.run(list(wanted), {"images": images}), strict=True))
    for node in nodes.values():
        inputs = [weights[name] if name in weights else given[name] for name in node.input]
        for name, output in zip(node.output, compute(node, inputs), strict=True):
            np.testing.assert_allclose(output, given[name], rtol=rtol, atol=atol)


def images_of(path, batch=2):
    axes = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    size = [axis.dim_value or 40 for axis in axes[2:]]
    return np.random.default_rng(0).standard_normal((batch, 3, *size)).astype(np.float32)


@pytest.mark.parametrize(("grn", "dynamic"), [(True, False), (True, True), (False, False)])
def test_norms_of_an_export(export, grn, dynamic):
    path = export(ExportOptions(dynamic_size=True)) if dynamic else export(grn=grn)
    for major in MAJORS:
        model = prepare_model(path, major, fuse=True)
        nodes = fused_nodes(model)
        assert Counter(node.op_type for node in nodes.values()) == {CHANNEL_NORM: NORMS}
        responses = [node for node in nodes.values() if len(node.input) == 5]
        assert len(responses) == (BLOCKS if grn else 0)
        left = Counter(node.op_type for node in onnx.load_from_string(model.content).graph.node)
        assert not left.keys() & {"LayerNormalization", "Sqrt", "Transpose"}
        assert len(model.plugins) == NORMS + BLOCKS
    check_values(path, model, images_of(path), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_float16(export, kernel_size):
    path = export(FLOAT16, kernel_size=kernel_size)
    for major in MAJORS:
        model = prepare_model(path, major, fuse=True)
        nodes = fused_nodes(model)
        counts = Counter(node.op_type for node in nodes.values())
        assert counts == {
            CHANNEL_NORM: NORMS - 2 * BLOCKS,
            DEPTHWISE: BLOCKS,
            DEPTHWISE_NORM: 2 * BLOCKS,
        }
        for node in nodes.values():
            attributes = attributes_of(node)
            if node.op_type == DEPTHWISE:
                assert attributes == {"activation": b"silu"}
            elif node.op_type == DEPTHWISE_NORM:
                assert attributes == {"residual": 1, "epsilon": pytest.approx(1e-6)}
        check_order(model)
        assert {model.node_types[name] for name in nodes} == {"float16"}
        assert sum(is_projected(node) for node in nodes.values()) == BLOCKS
    check_values(path, model, images_of(path), rtol=2e-2, atol=2e-2)


def test_blocks_that_stay_in_float32(export):
    path = export(ExportOptions(precision=PrecisionPlan("fp16", ("stages.1*",))))
    model = prepare_model(path, 11, fuse=True)
    for name, node in fused_nodes(model).items():
        kinds = {model.tensor_types[tensor] for tensor in (*node.input, *node.output)}
        assert kinds == {model.node_types[name]}
        assert kinds == {"float16"} or (node.op_type == CHANNEL_NORM and not is_projected(node))
    check_values(path, model, images_of(path), rtol=2e-2, atol=2e-2)


def test_a_kernel_that_the_plugin_lacks_stays(export):
    model = prepare_model(export(FLOAT16, kernel_size=9), 8, fuse=True)
    counts = Counter(node.op_type for node in fused_nodes(model).values())
    assert counts == {CHANNEL_NORM: NORMS - 2 * BLOCKS, DEPTHWISE_NORM: 2 * BLOCKS}


def test_not_where_that_is_not_asked_for(export):
    model = prepare_model(export(grn=True), 8)
    assert model.fused == ()
    assert not fused_nodes(model)


def test_when_it_is_the_default():
    assert fuses(BuildOptions(), 8)
    assert not fuses(BuildOptions(), 10)  # not measured there
    assert fuses(BuildOptions(fuse=True), 11)
    assert not fuses(BuildOptions(fuse=False), 8)
    assert not fuses(BuildOptions(weights="refittable"), 8)
    with pytest.raises(UsageError, match="a refit would not find the weights"):
        BuildOptions(fuse=True, weights="stripped")


# ---- files by hand -----------------------------------------------------------------------------


def test_a_norm_and_its_response(tmp_path):
    file = File()
    file.norm()
    model = file.prepare(tmp_path, file.response())
    (node,) = fused_nodes(model).values()
    assert list(node.input) == ["x", "scale", "shift", "column_vector", "column_vector"]
    assert node.output[0] == "grn"
    given = attributes_of(node)
    assert given["epsilon"] == pytest.approx(1e-6)
    assert given["response_epsilon"] == pytest.approx(1e-6, rel=0.05)  # of float16


@pytest.mark.parametrize(
    "changes", [{"axes": (1, 2)}, {"one": 2.0}, {"mean_axes": (2,)}], ids=lambda value: str(value)
)
def test_another_response_stays(tmp_path, changes):
    file = File()
    file.norm()
    model = file.prepare(tmp_path, file.response(**changes))
    (node,) = fused_nodes(model).values()
    assert (len(node.input), node.output[0]) == (3, "z")


@pytest.mark.parametrize("used", ["root", "z", "factor", "square"])
def test_what_is_used_within_a_response_stays(tmp_path, used):
    file = File()
    file.norm()
    result = file.response()
    file.extra_outputs.append(used)
    (node,) = fused_nodes(file.prepare(tmp_path, result)).values()
    assert node.output[0] == "z"


def test_what_is_used_within_a_norm_stays(tmp_path):
    file = File()
    result = file.norm()
    file.extra_outputs.append("z_norm")
    assert not fused_nodes(file.prepare(tmp_path, result))


def test_a_norm_over_other_axes_stays(tmp_path):
    file = File()
    result = file.norm(axis=2)
    file.constant("scale", np.ones((6, 8)))
    file.constant("shift", np.zeros((6, 8)))
    assert not fused_nodes(file.prepare(tmp_path, result))


def test_a_norm_with_parameters_of_another_type_stays(tmp_path):
    file = File()
    result = file.norm()
    file.constant("scale", np.ones(8), np.float32)
    assert not fused_nodes(file.prepare(tmp_path, result))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_projection(tmp_path, swapped, bias):
    file = File()
    sum_ = file.projected(swapped=swapped, bias=bias)
    (node,) = fused_nodes(file.prepare(tmp_path, file.norm(sum_))).values()
    assert list(node.input) == ["x", "scale", "shift", "two", "across_columns", "conv_bias"]
    content = onnx.load(tmp_path / "hand.onnx").graph  # as it was
    assert {item.name for item in content.initializer} >= {"across"}


def test_a_projection_ahead_of_a_response(tmp_path):
    file = File()
    file.norm(file.projected())
    model = file.prepare(tmp_path, file.response())
    (node,) = fused_nodes(model).values()
    assert [*node.input][:3] == ["x", "scale", "shift"]
    assert [*node.input][3:5] == ["column_vector", "column_vector"]
    assert [*node.input][5:] == ["two", "across_columns", "conv_bias"]
    weights = {
        item.name: numpy_helper.to_array(item)
        for item in onnx.load_from_string(model.content).graph.initializer
    }
    np.testing.assert_array_equal(
        weights["across_columns"], file.constants["across"].reshape(8, 2).T
    )
    np.testing.assert_array_equal(weights["conv_bias"], np.zeros(8))


@pytest.mark.parametrize(
    "changes",
    [{"strides": [2, 2]}, {"pads": [1] * 4}, {"kernel": 3}, {"proxies": 3}, {"dtype": np.float32}],
    ids=str,
)
def test_another_projection_stays(tmp_path, changes):
    file = File()
    sum_ = file.projected(**changes)
    (node,) = fused_nodes(file.prepare(tmp_path, file.norm(sum_))).values()
    assert list(node.input) == ["sum", "scale", "shift"]


def test_a_projection_beside_constants_of_its_names(tmp_path):
    file = File()
    sum_ = file.projected(bias=True)
    for name in ("across_columns", "conv_bias"):
        file.constant(name, np.zeros(3))
    model = file.prepare(tmp_path, file.norm(sum_))
    (node,) = fused_nodes(model).values()
    assert list(node.input)[-2:] == ["across_columns_", "conv_bias_"]
    weights = {
        item.name: numpy_helper.to_array(item)
        for item in onnx.load_from_string(model.content).graph.initializer
    }
    columns = file.constants["across"].reshape(8, 2).T
    np.testing.assert_array_equal(weights["across_columns_"], columns)
    np.testing.assert_array_equal(weights["conv_bias_"], np.ones(8))


def test_a_projection_onto_what_is_spread_over_the_map_stays(tmp_path):
    file = File()
    features = file.constant("everywhere", np.ones((1, 8, 1, 1)))
    (node,) = fused_nodes(
        file.prepare(tmp_path, file.norm(file.projected(features=features)))
    ).values()
    assert list(node.input) == ["sum", "scale", "shift"]


@pytest.mark.parametrize("used", ["conv", "sum"])
def test_a_projection_that_is_used_elsewhere_stays(tmp_path, used):
    file = File()
    sum_ = file.projected()
    file.extra_outputs.append(used)
    (node,) = fused_nodes(file.prepare(tmp_path, file.norm(sum_))).values()
    assert list(node.input) == ["sum", "scale", "shift"]


def test_a_depthwise_convolution_alone(tmp_path):
    file = File()
    model = file.prepare(tmp_path, file.depthwise())
    (node,) = fused_nodes(model).values()
    assert (list(node.input), node.output[0], attributes_of(node)) == (["x", "weight"], "conv", {})


@pytest.mark.parametrize(
    "changes",
    [
        {"strides": [2, 2]},
        {"pads": [0] * 4},
        {"pads": [1, 1, 0, 1]},
        {"dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER", "pads": [0] * 4},
    ],
    ids=lambda value: str(value),
)
def test_another_convolution_stays(tmp_path, changes):
    file = File()
    assert not fused_nodes(file.prepare(tmp_path, file.depthwise(**changes)))


def test_a_convolution_of_any_number_of_channels(tmp_path):
    file = File()
    file.constant("part", [0, 4], np.int64)
    x = file.add(
        "Slice",
        ["x", *(file.constant(n, [v], np.int64) for n, v in (("a", 0), ("b", 4), ("c", 1)))],
        "half",
    )
    (node,) = fused_nodes(file.prepare(tmp_path, file.depthwise(x, channels=4))).values()
    assert node.op_type == DEPTHWISE


@pytest.mark.parametrize("swapped", [False, True])
def test_residual_and_activation(tmp_path, swapped):
    file = File()
    conv = file.depthwise()
    result = file.add("Add", ["x", conv] if swapped else [conv, "x"], "sum")
    (node,) = fused_nodes(file.prepare(tmp_path, result)).values()
    assert (node.output[0], attributes_of(node)) == ("sum", {"residual": 1})
    file = File()
    conv = file.depthwise()
    file.add("Sigmoid", [conv], "gate")
    result = file.add("Mul", ["gate", conv] if swapped else [conv, "gate"], "silu")
    (node,) = fused_nodes(file.prepare(tmp_path, result)).values()
    assert (node.output[0], attributes_of(node)) == ("silu", {"activation": b"silu"})


def test_what_is_used_behind_a_convolution_stays(tmp_path):
    file = File()
    conv = file.depthwise()
    result = file.add("Add", [conv, "x"], "sum")
    file.extra_outputs.append(conv)
    (node,) = fused_nodes(file.prepare(tmp_path, result)).values()
    assert (node.output[0], attributes_of(node)) == ("conv", {})
    file = File()
    conv = file.depthwise()
    file.add("Sigmoid", [conv], "gate")
    result = file.add("Mul", [conv, "gate"], "silu")
    file.extra_outputs.append("gate")
    (node,) = fused_nodes(file.prepare(tmp_path, result)).values()
    assert node.output[0] == "conv"


def test_names_are_made_distinct(tmp_path):
    file = File()
    result = file.depthwise()
    file.nodes.append(helper.make_node("Identity", ["x"], ["unused"], name=f"{DEPTHWISE}_n_conv"))
    file.extra_outputs.append("unused")
    model = file.prepare(tmp_path, result)
    assert model.fused == (f"{DEPTHWISE}_n_conv_",)
    assert kinds(model) == {DEPTHWISE: 1}
