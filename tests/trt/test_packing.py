"""Propagations that take a prediction unsplit: in exports, and where a file does not allow it."""

import numpy as np
import onnx
import onnxruntime
import pytest
import reference
import torch
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx
from onnx import TensorProto, helper

from gspn2_deploy.build.tensorrt_model import prepare_model
from gspn2_deploy.models import create_model
from gspn2_deploy.spec import (
    ONNX_DOMAIN,
    PACKED_CHANNELS,
    PACKED_GROUPS,
    PACKED_OFFSETS,
    PACKED_ORDER,
    PROP2D,
)

MAJORS = (8, 11)

EXPORTS = {  # what differs from nano, and whether the image's size is free
    "nano": ({}, False),
    "free size": ({}, True),
    "without skip gates": ({"skip_gate": False}, True),
    "affinities per channel": ({"shared_affinity": False, "normalize": "softmax"}, False),
}


def export(folder, name="nano", options=None, **changes):
    torch.manual_seed(0)
    path = folder / f"{name}.onnx"
    model = create_model(name, **changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.shape == (4,):  # merge weights that count
                parameter.copy_(torch.randn(4))
    export_onnx(model, path, options or ExportOptions())
    return path


def packed_nodes(model):
    graph = onnx.load_from_string(model.content).graph
    return {node.name: node for node in graph.node if node.op_type == PROP2D}


def merged_nodes(model):
    """Those that take x from the prediction too."""
    nodes = packed_nodes(model)
    return [name for name, node in nodes.items() if attributes_of(node).get(PACKED_CHANNELS)]


def attributes_of(node):
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def unpack(prediction, offsets, groups, channels):
    """The parts as the plugin takes them."""
    n, _, *size = prediction.shape
    inner = dict.fromkeys(PACKED_ORDER, (4, channels))
    inner |= {"x": (channels,), "w": (4, 3, groups)}
    return {
        part: prediction[:, first:][:, : np.prod(inner[part])].reshape(n, *inner[part], *size)
        for part, first in zip(PACKED_ORDER, offsets, strict=True)
        if first >= 0
    }


def check_values(path, model, images):
    """What each packed node would compute is what the file's own node does, from the same z."""
    source = onnx.load(path)
    nodes = packed_nodes(model)
    assert set(model.packed) == nodes.keys()
    graph = onnx.load_from_string(model.content).graph
    producers = {name: node for node in graph.node for name in node.output}
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    convs = {name: producers[node.input[0]] for name, node in nodes.items()}
    outputs = {node.name: node.output[0] for node in source.graph.node}
    wanted = [name for node in nodes for name in (convs[node].input[0], outputs[node])]
    source.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    session = onnxruntime.InferenceSession(
        source.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = dict(zip(wanted, session.run(wanted, {"images": images}), strict=True))
    for name, node in nodes.items():
        z, weight, bias = convs[name].input
        prediction = np.einsum("oi,nihw->nohw", weights[weight][..., 0, 0], given[z])
        prediction += weights[bias][:, None, None]
        attributes = attributes_of(node)
        packing = (attributes[key] for key in (PACKED_OFFSETS, PACKED_GROUPS, PACKED_CHANNELS))
        y = reference.prop2d(
            **unpack(prediction, *packing),
            m=weights[node.input[1]],
            normalize=attributes["normalize"].decode(),
            chunk=attributes["chunk"],
        )
        np.testing.assert_allclose(given[outputs[name]], y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("changes", "dynamic"), EXPORTS.values(), ids=EXPORTS)
def test_exports(tmp_path, changes, dynamic):
    path = export(tmp_path, options=ExportOptions(dynamic_size=dynamic), **changes)
    size = (24, 40) if dynamic else onnx_size(path)
    images = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
    for major in MAJORS:
        model = prepare_model(path, major, fuse=True)
        assert len(packed_nodes(model)) == len(merged_nodes(model)) == len(model.packed) == 5
        graph = onnx.load_from_string(model.content).graph
        left = {node.op_type for node in graph.node}
        assert not left & {"Split", "Concat"}  # neither the cuts nor the shapes of the parts
        used = {name for node in graph.node for name in node.input}
        weights = {i.name for i in graph.initializer if i.data_type == TensorProto.FLOAT}
        assert weights <= used
    check_values(path, model, images)


def onnx_size(path):
    axes = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    return tuple(axis.dim_value for axis in axes[2:])


@pytest.mark.parametrize("kept", [(), ("stages.1*",)], ids=["fp16", "mixed"])
def test_exports_in_float16(tmp_path, kept):
    plan = PrecisionPlan("fp16", kept)
    model = prepare_model(export(tmp_path, options=ExportOptions(precision=plan)), 11, fuse=True)
    assert len(model.packed) == len(merged_nodes(model)) == 5
    for name, node in packed_nodes(model).items():
        types = {model.tensor_types[tensor] for tensor in node.input}
        assert types == {model.node_types[name]}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tiny(tmp_path, precision):
    options = ExportOptions(precision=PrecisionPlan(precision))
    model = prepare_model(export(tmp_path, "tiny", options), 8, fuse=True)
    assert len(model.packed) == len(merged_nodes(model)) == 16


def test_not_where_that_is_not_asked_for(tmp_path):
    path = export(tmp_path)
    model = prepare_model(path, 11)
    assert not model.packed
    nodes = {node.name: node for node in onnx.load(path).graph.node if node.domain == ONNX_DOMAIN}
    for name, node in packed_nodes(model).items():
        assert list(node.input) == list(nodes[name].input)
        assert PACKED_OFFSETS not in attributes_of(node)


# ---- files by hand: x (n, 2, h, w), a prediction of 30 channels, its parts lam, u and w ----------


class File:
    """A file whose parts come from a Split of a prediction; tests change what they are about."""

    def __init__(self):
        self.shapes = {
            "x": ["n", 2, "h", "w"],
            "prediction": ["n", 30, "h", "w"],
            "lam_piece": ["n", 8, "h", "w"],
            "u_piece": ["n", 8, "h", "w"],
            "w_piece": ["n", 12, "h", "w"],
            "lam": ["n", 4, 2, "h", "w"],
            "u": ["n", 4, 2, "h", "w"],
            "w": ["n", 4, 3, 1, "h", "w"],
            "y": ["n", 2, "h", "w"],
        }
        self.initializers = {"sizes": [8, 8, 12, 2], "shape5": [0, 4, 2, -1, 7]}
        self.initializers["shape6"] = [0, 4, 3, 1, -1, 7]
        pieces = ["lam_piece", "u_piece", "w_piece", "rest"]
        self.cuts = [helper.make_node("Split", ["prediction", "sizes"], pieces, axis=1)]
        self.reshapes = [
            helper.make_node("Reshape", [f"{part}_piece", shape], [part])
            for part, shape in (("lam", "shape5"), ("u", "shape5"), ("w", "shape6"))
        ]
        self.inputs = ["x", "lam", "w", "u"]
        self.sources = ["x", "prediction"]
        self.others = []
        self.outputs = ["y"]
        self.opset = 18
        self.element = TensorProto.FLOAT
        self.convs = []
        self.weights = {}
        self.saved = {}  # how the weights are kept

    def add_conv(self, output, bias=True, source="z", size=(1, 1), **attributes):
        """Let a convolution of z (n, 3, h, w) give x or the prediction."""
        self.sources = [name for name in self.sources if name != output]
        self.sources += [source] if source not in self.sources else []
        self.shapes[source] = ["n", 3, "h", "w"]
        channels = self.shapes[output][1]
        inner = 3 // attributes.get("group", 1)
        inputs = [source, f"{output}_weight", *([f"{output}_bias"] if bias else [])]
        random = np.random.default_rng(channels)
        for name, shape in zip(inputs[1:], ((channels, inner, *size), (channels,)), strict=False):
            self.weights[name] = random.standard_normal(shape).astype(np.float32)
        self.convs.append(
            helper.make_node("Conv", inputs, [output], name=f"{output}_conv", **attributes)
        )

    def add_d(self):
        self.shapes |= {"rest": ["n", 8, "h", "w"], "d": ["n", 4, 2, "h", "w"]}
        self.shapes["prediction"][1] = 36
        self.initializers["sizes"] = [8, 8, 12, 8]
        self.reshapes.append(helper.make_node("Reshape", ["rest", "shape5"], ["d"]))
        self.inputs.append("d")

    def slices(self, **bounds):
        """Cut by Slices: (start, end) by part, or (start, end, axis), or with a step behind."""
        self.cuts = []
        for part, given in bounds.items():
            start, end, axis, *step = (*given, 1) if len(given) == 2 else given
            names = [f"{part}_{what}" for what in ("start", "end", "axis", "step")]
            values = dict(zip(names, (start, end, axis, *step), strict=False))
            self.initializers |= {name: [value] for name, value in values.items()}
            inputs = ["prediction", *values]
            self.cuts.append(helper.make_node("Slice", inputs, [f"{part}_piece"]))

    def prepare(self, path, major=11):
        node = helper.make_node(PROP2D, self.inputs, ["y"], name="p", domain=ONNX_DOMAIN)

        def value(name):
            return helper.make_tensor_value_info(name, self.element, self.shapes.get(name))

        kind = helper.tensor_dtype_to_np_dtype(self.element)
        graph = helper.make_graph(
            [*self.convs, *self.cuts, *self.reshapes, node, *self.others],
            "graph",
            [value(name) for name in self.sources],
            [value(name) for name in self.outputs],
            [
                helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers)
                for name, numbers in self.initializers.items()
            ]
            + [
                onnx.numpy_helper.from_array(values.astype(kind), name)
                for name, values in self.weights.items()
            ],
            value_info=[value(name) for name in self.shapes],
        )
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid(ONNX_DOMAIN, 1)]
        made = helper.make_model(graph, opset_imports=imports, ir_version=10)
        onnx.save(made, path / "m.onnx", **self.saved)
        model = prepare_model(path / "m.onnx", major, fuse=True)
        return model, onnx.load_from_string(model.content).graph


@pytest.fixture
def file():
    return File()


def check_packed(model, graph, offsets=(-1, 0, 8, -1, 16), inputs=("x", "prediction")):
    assert model.packed == ("p",)
    node = next(node for node in graph.node if node.name == "p")
    assert list(node.input) == list(inputs)
    attributes = attributes_of(node)
    assert (tuple(attributes[PACKED_OFFSETS]), attributes[PACKED_GROUPS]) == (offsets, 1)
    assert attributes.get(PACKED_CHANNELS) == (2 if offsets[0] >= 0 else None)


@pytest.mark.parametrize("major", MAJORS)
def test_a_split(file, tmp_path, major):
    model, graph = file.prepare(tmp_path, major)
    check_packed(model, graph)
    assert [node.op_type for node in graph.node] == [PROP2D]


def test_a_split_of_an_older_opset(file, tmp_path):
    file.opset = 12
    cut = file.cuts[0]
    file.cuts = [
        helper.make_node("Split", ["prediction"], cut.output, axis=-3, split=[8, 8, 12, 2])
    ]
    check_packed(*file.prepare(tmp_path))


@pytest.mark.parametrize("kind", ["value", "value_ints"])
def test_sizes_from_a_constant_node(file, tmp_path, kind):
    sizes = file.initializers.pop("sizes")
    value = helper.make_tensor("v", TensorProto.INT64, [4], sizes) if kind == "value" else sizes
    file.cuts.insert(0, helper.make_node("Constant", [], ["sizes"], **{kind: value}))
    model, graph = file.prepare(tmp_path)
    check_packed(model, graph)
    assert [node.op_type for node in graph.node] == [PROP2D]


def test_slices(file, tmp_path):
    file.slices(lam=(20, 28), u=(-30, 8, -3), w=(8, 20, 1, 1))
    check_packed(*file.prepare(tmp_path), offsets=(-1, 20, 0, -1, 8))
    file.slices(lam=(2, 10), u=(10, -12, 1), w=(18, 2**63 - 1))
    check_packed(*file.prepare(tmp_path), offsets=(-1, 2, 10, -1, 18))


def test_optional_inputs(file, tmp_path):
    file.initializers["m"] = [1, 2, 3, 4]
    file.inputs.append("m")
    check_packed(*file.prepare(tmp_path), inputs=("x", "prediction", "m"))
    file.inputs.pop()
    file.add_d()
    check_packed(*file.prepare(tmp_path), (-1, 0, 8, 28, 16))
    file.inputs.append("m")
    check_packed(*file.prepare(tmp_path), (-1, 0, 8, 28, 16), ("x", "prediction", "m"))


@pytest.mark.parametrize("first", [False, True])
def test_merge_weights_that_the_file_multiplies_u_by(file, tmp_path, first):
    factors = ["m", "u_plain"] if first else ["u_plain", "m"]
    file.shapes["u_plain"] = file.shapes["u"]
    file.reshapes[1].output[0] = "u_plain"
    merge = helper.make_tensor("m", TensorProto.FLOAT, [4, 1, 1, 1], [1.0, 2.0, 3.0, 4.0])
    file.reshapes.append(helper.make_node("Constant", [], ["m"], value=merge))
    file.reshapes.append(helper.make_node("Mul", factors, ["u"]))
    model, graph = file.prepare(tmp_path)
    check_packed(model, graph, inputs=("x", "prediction", "m_vector"))
    assert [node.op_type for node in graph.node] == [PROP2D]
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    np.testing.assert_array_equal(weights["m_vector"], [1, 2, 3, 4])


def test_what_else_uses_the_parts_keeps_them(file, tmp_path):
    """As in the files of a bisection, which show what goes into a propagation."""
    file.outputs += ["lam", "w_piece"]
    model, graph = file.prepare(tmp_path)
    check_packed(model, graph)
    assert [node.op_type for node in graph.node] == ["Split", "Reshape", PROP2D]
    file.outputs = ["y"]
    file.others.append(helper.make_node("Relu", ["rest"], ["z"]))
    model, graph = file.prepare(tmp_path)
    check_packed(model, graph)
    assert [node.op_type for node in graph.node] == ["Split", PROP2D, "Relu"]


def other_source(file):
    file.sources.append("other")
    file.shapes["other"] = file.shapes["prediction"]
    file.cuts.append(
        helper.make_node("Split", ["other", "sizes"], ["u2", "u3", "u4", "u5"], axis=1)
    )
    file.shapes["u2"] = file.shapes["u_piece"]
    file.reshapes[1].input[0] = "u2"


def unknown_sizes(file):
    del file.initializers["sizes"]
    file.sources.append("sizes")


def cast(file):
    file.reshapes[0].input[0] = "lam_cast"
    file.shapes["lam_cast"] = file.shapes["lam_piece"]
    file.cuts.append(helper.make_node("Cast", ["lam_piece"], ["lam_cast"], to=TensorProto.FLOAT))


def no_reshape(file):
    file.reshapes.pop(0)
    file.sources.append("lam")


def transposed_map(file):
    for name in ("prediction", "lam_piece", "u_piece", "w_piece"):
        file.shapes[name][2:] = ["w", "h"]


def mixed_batch(file):
    file.shapes["lam_piece"] = ["n", 8, "h2", "w2"]


def folded_batch(file):
    file.shapes["x"] = ["m", 2, "h", "w"]
    for name in ("lam", "u", "w"):
        file.shapes[name][0] = "m"


def unstated(name):
    def forget(file):
        del file.shapes[name]

    return forget


def free(name, axis):
    def forget(file):
        file.shapes[name][axis] = None

    return forget


def d_on_its_own(file):
    file.shapes["d"] = ["n", 4, 2, "h", "w"]
    file.sources.append("d")
    file.inputs.append("d")


def wrong_sizes(file):
    file.initializers["sizes"] = [6, 10, 12, 2]


def other_axis(file):
    file.cuts[0].attribute[0].i = 2


def stepped(file):
    file.slices(lam=(0, 16, 1, 2), u=(16, 24), w=(0, 12))


def sliced_elsewhere(file):
    file.slices(lam=(0, 8, 2), u=(8, 16), w=(16, 28))


def beyond_the_end(file):
    file.slices(lam=(24, 32), u=(8, 16), w=(16, 28))


def without_axes(file):
    file.slices(lam=(0, 8), u=(8, 16), w=(16, 28))
    del file.cuts[0].input[3:]


@pytest.mark.parametrize(
    "change",
    [
        other_source,
        unknown_sizes,
        cast,
        no_reshape,
        transposed_map,
        mixed_batch,
        folded_batch,
        *[unstated(name) for name in ("x", "prediction", "lam_piece", "u", "w")],
        *[free("x", axis) for axis in range(4)],
        free("prediction", 1),
        d_on_its_own,
        wrong_sizes,
        other_axis,
        stepped,
        sliced_elsewhere,
        beyond_the_end,
        without_axes,
    ],
    ids=lambda change: change.__qualname__.split(".")[0],
)
def test_a_file_that_does_not_allow_it_stays_as_it_is(file, tmp_path, change):
    change(file)
    wanted = [node.op_type for node in (*file.cuts, *file.reshapes)]
    model, graph = file.prepare(tmp_path)
    assert model.packed == ()
    node = next(node for node in graph.node if node.name == "p")
    assert list(node.input) == file.inputs
    assert not node.attribute
    assert [node.op_type for node in graph.node] == [*wanted, PROP2D]


# ---- the same files with 1x1 convolutions of z (n, 3, h, w) that give x and the prediction -------

JOINED = "prediction_x"


@pytest.fixture
def convs(file):
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
def test_a_missing_bias_is_zero(file, tmp_path, biased):
    for part in ("x", "prediction"):
        file.add_conv(part, bias=part in biased)
    file.convs.reverse()
    model, graph = file.prepare(tmp_path)
    check_joined(file, model, graph)
    assert len(graph.initializer) == (2 if biased else 1)


def test_convolutions_with_every_attribute(file, tmp_path):
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


def test_groups_stay_on_their_own(file, tmp_path):
    file.add_conv("prediction", group=3)
    file.add_conv("x")
    check_packed(*file.prepare(tmp_path))
