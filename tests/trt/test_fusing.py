"""Norms and depthwise convolutions that the plugin computes: in exports, and in files by hand."""

from collections import Counter

import layer_reference
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx
from onnx import TensorProto, helper, numpy_helper

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
    FUSED_TYPES,
    ONNX_DOMAIN,
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


def fused_nodes(model):
    graph = onnx.load_from_string(model.content).graph
    return {node.name: node for node in graph.node if node.op_type in FUSED_TYPES}


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


def check_order(model):
    """Each tensor is given ahead of those that use it, and by one node."""
    graph = onnx.load_from_string(model.content).graph
    known = [value.name for value in (*graph.input, *graph.initializer)]
    for node in graph.node:
        assert set(filter(None, node.input)) <= set(known), node.name
        known += node.output
    assert len(known) == len(set(known))


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


# ---- files by hand: x (n, 8, 5, 6) in float16, a propagation behind what is looked at ---------


class File:
    """A graph around which a propagation stands, so that it can be prepared."""

    def __init__(self):
        self.nodes = []
        self.constants = {}
        self.extra_outputs = []
        self.shapes = {}

    def constant(self, name, value, dtype=np.float16):
        self.constants[name] = np.asarray(value, dtype)
        return name

    def add(self, op_type, inputs, output, **attributes):
        self.nodes.append(
            helper.make_node(op_type, inputs, [output], name=f"n_{output}", **attributes)
        )
        return output

    def prepare(self, folder, result):
        path = folder / "hand.onnx"
        parts = {"lam": [1, 4, 8, 5, 6], "w": [1, 4, 3, 1, 5, 6], "u": [1, 4, 8, 5, 6]}
        prop = helper.make_node(
            "GspnProp2D", [result, *parts], ["y"], name="prop", domain=ONNX_DOMAIN
        )
        kind = TensorProto.FLOAT16
        inputs = [
            helper.make_tensor_value_info(name, kind, shape)
            for name, shape in {"x": [1, 8, 5, 6], **parts}.items()
        ]
        names = ["y", *self.extra_outputs]
        outputs = [helper.make_tensor_value_info(name, kind, None) for name in names]
        inner = [
            helper.make_tensor_value_info(output, kind, self.shapes.get(output))
            for node in self.nodes
            for output in node.output
        ]
        graph = helper.make_graph(
            [*self.nodes, prop],
            "hand",
            inputs,
            outputs,
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
            value_info=[value for value in inner if value.name not in names],
        )
        imports = [helper.make_opsetid("", 18), helper.make_opsetid(ONNX_DOMAIN, 1)]
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
        return prepare_model(path, 11, fuse=True)

    def norm(self, x="x", output="z", **changes):
        given = {"axis": -1, "epsilon": 1e-6} | changes
        self.constant("scale", np.ones(8))
        self.constant("shift", np.zeros(8))
        last = self.add("Transpose", [x], f"{output}_last", perm=[0, 2, 3, 1])
        self.add("LayerNormalization", [last, "scale", "shift"], f"{output}_norm", **given)
        return self.add("Transpose", [f"{output}_norm"], output, perm=[0, 3, 1, 2])

    def response(self, z="z", *, axes=(2, 3), one=1.0, mean_axes=(1,)):
        self.constant("column", np.ones((8, 1, 1)))
        self.constant("axes", axes, np.int64)
        self.constant("mean_axes", mean_axes, np.int64)
        self.constant("epsilon", 1e-6)
        self.constant("one", one)
        self.add("Mul", [z, z], "square")
        self.add("ReduceMean", ["square", "axes"], "energy", keepdims=1)
        self.add("Add", ["epsilon", "energy"], "safe")
        self.add("Sqrt", ["safe"], "root")
        self.add("ReduceMean", ["root", "mean_axes"], "mean", keepdims=1)
        self.add("Div", ["root", "mean"], "ratio")
        self.add("Mul", ["ratio", "column"], "scaled")
        self.add("Add", ["one", "scaled"], "factor")
        self.add("Mul", ["factor", z], "product")
        return self.add("Add", ["column", "product"], "grn")

    def projected(
        self,
        *,
        features="x",
        proxies=2,
        kernel=1,
        dtype=np.float16,
        swapped=False,
        bias=False,
        **changes,
    ):
        """Features and a 1x1 convolution of the first channels of x."""
        numbers = {"first": [0], "last": [proxies], "axis": [1]}
        names = [self.constant(name, value, np.int64) for name, value in numbers.items()]
        two = self.add("Slice", ["x", *names], "two")
        shape = (8, proxies, kernel, kernel)
        weight = np.arange(np.prod(shape)).reshape(shape)
        inputs = [two, self.constant("across", weight, dtype)]
        if bias:
            inputs.append(self.constant("bias", np.ones(8)))
        conv = self.add("Conv", inputs, "conv", **changes)
        self.shapes["sum"] = [1, 8, 5, 6]
        return self.add("Add", [conv, features] if swapped else [features, conv], "sum")

    def depthwise(self, x="x", *, channels=8, kernel=3, output="conv", **changes):
        self.constant("weight", np.ones((channels, 1, kernel, kernel)))
        given = {"group": channels, "pads": [kernel // 2] * 4, "kernel_shape": [kernel] * 2}
        return self.add("Conv", [x, "weight"], output, **(given | changes))


def kinds(model):
    return Counter(node.op_type for node in fused_nodes(model).values())


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


def test_a_convolution_of_few_channels_stays(tmp_path):
    file = File()
    file.constant("part", [0, 4], np.int64)
    x = file.add(
        "Slice",
        ["x", *(file.constant(n, [v], np.int64) for n, v in (("a", 0), ("b", 4), ("c", 1)))],
        "half",
    )
    assert not fused_nodes(file.prepare(tmp_path, file.depthwise(x, channels=4)))


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


def test_names_are_made_distinct(tmp_path):
    file = File()
    result = file.depthwise()
    file.nodes.append(helper.make_node("Identity", ["x"], ["unused"], name=f"{DEPTHWISE}_n_conv"))
    file.extra_outputs.append("unused")
    model = file.prepare(tmp_path, result)
    assert model.fused == (f"{DEPTHWISE}_n_conv_",)
    assert kinds(model) == {DEPTHWISE: 1}
