"""Propagations that take a prediction unsplit: in exports, and where a file does not allow it."""

import numpy as np
import onnx
import onnxruntime
import pytest
import reference
import torch
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx
from onnx import TensorProto, helper
from prediction_file import MAJORS, PredictionFile, check_packed

from gspn2_deploy.build.graph_view import attributes_of
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


# ---- files by hand -------------------------------------------------------------------------------


@pytest.fixture
def file():
    return PredictionFile()


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
