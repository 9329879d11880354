"""GELUs that are said by a sigmoid, and casts of inputs that are left to TensorRT."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx
from onnx import TensorProto, helper, numpy_helper

from gspn2_deploy.build.casts import drop_input_casts
from gspn2_deploy.build.gelus import simplify_gelus
from gspn2_deploy.build.tensorrt_model import prepare_model, tensor_types
from gspn2_deploy.models import create_model
from gspn2_deploy.runners.widen import widen

ORDERS = ("x(half total)", "half(x total)", "total(x half)", "(half total)x")
SIMPLIFIED = ["Mul", "Min", "Mul", "Add", "Mul", "Add", "Mul", "Sigmoid", "Mul"]


def gelu_nodes(order=ORDERS[0], scaling="Div", x="x"):
    scale = "root" if scaling == "Div" else "inverse"
    nodes = [
        helper.make_node(scaling, [x, scale], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["total"]),
    ]
    first, second = {
        "x(half total)": (("half", "total"), (x, "product")),
        "half(x total)": ((x, "total"), ("half", "product")),
        "total(x half)": ((x, "half"), ("total", "product")),
        "(half total)x": (("half", "total"), ("product", x)),
    }[order]
    nodes.append(helper.make_node("Mul", first, ["product"]))
    nodes.append(helper.make_node("Mul", second, ["y"], "gelu"))
    return nodes


def make(nodes, kind=TensorProto.FLOAT16, outputs=("y",), **changed):
    values = {"root": math.sqrt(2), "inverse": math.sqrt(0.5), "one": 1.0, "half": 0.5} | changed
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    described = {name for node in nodes for name in node.output}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, ["n"])],
        [helper.make_tensor_value_info(name, kind, ["n"]) for name in outputs],
        [numpy_helper.from_array(np.array(value, dtype), name) for name, value in values.items()],
        value_info=[
            helper.make_tensor_value_info(name, kind, ["n"])
            for name in sorted(described - set(outputs))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def simplify(model):
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    count = simplify_gelus(model.graph, constants, tensor_types(model.graph))
    onnx.checker.check_model(model)
    return count, [node.op_type for node in model.graph.node]


def run(model, x):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def exact(x):
    return np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.astype(np.float64)])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("scaling", ["Div", "Mul"])
def test_erf_becomes_a_sigmoid(order, scaling):
    model = make(gelu_nodes(order, scaling))
    assert simplify(model) == (1, SIMPLIFIED)
    assert model.graph.node[-1].name == "gelu"
    assert set(tensor_types(model.graph).values()) == {"float16"}
    x = np.linspace(-12, 12, 24001).astype(np.float16)
    y = run(model, x).astype(np.float64)
    # Half of what float16 resolves at each result, three times: the formula rounds, too.
    np.testing.assert_allclose(y, exact(x), rtol=3 * 2.0**-11, atol=3e-4)
    widen(model, (TensorProto.FLOAT16,))
    x = np.linspace(-12, 12, 240001).astype(np.float32)
    assert np.abs(run(model, x) - exact(x)).max() < 5e-5


def test_large_and_infinite_values():
    model = make(gelu_nodes())
    simplify(model)
    x = np.array([300, 65504, np.inf, -300, -65504, np.nan, 0], np.float16)
    np.testing.assert_array_equal(run(model, x), [300, 65504, np.inf, 0, 0, np.nan, 0])


def test_two_gelus_share_their_constants():
    other = gelu_nodes(x="y")
    for node in other:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in ("scaled", "erf", "total", "product"):
                    names[index] = f"{name}_2"
    other[-1].output[0] = "z"
    other[-1].name = "gelu_2"
    model = make([*gelu_nodes(), *other], outputs=("z",))
    assert simplify(model) == (2, 2 * SIMPLIFIED)
    names = sorted(tensor.name for tensor in model.graph.initializer)
    assert [name for name in names if name.startswith("gelu")] == names[:4]


def test_what_something_else_uses_stays():
    model = make(gelu_nodes(), outputs=("y", "erf"))
    count, ops = simplify(model)
    assert (count, sorted(ops)) == (1, sorted(["Div", "Erf", *SIMPLIFIED]))


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (TensorProto.FLOAT, {}),
        (TensorProto.DOUBLE, {}),
        (TensorProto.FLOAT16, {"one": 0.99}),
        (TensorProto.FLOAT16, {"half": 0.51}),
        (TensorProto.FLOAT16, {"root": 1.41}),
    ],
)
def test_what_is_no_gelu_in_float16_stays(kind, changed):
    model = make(gelu_nodes(), kind, **changed)
    before = model.SerializeToString()
    assert simplify(model)[0] == 0
    assert model.SerializeToString() == before


def test_another_factor_than_what_is_divided(tmp_path):
    nodes = gelu_nodes()
    nodes[-1].input[0] = "one"
    assert simplify(make(nodes))[0] == 0


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """nano in fp16, whose input and output are float32."""
    path = tmp_path_factory.mktemp("nano") / "nano.onnx"
    options = ExportOptions(precision=PrecisionPlan("fp16"))
    export_onnx(create_model("nano").eval(), path, options)
    return path


@pytest.mark.parametrize(("major", "fuse"), [(8, True), (8, False), (10, True)])
def test_in_an_export(half, major, fuse):
    prepared = prepare_model(half, major, fuse=fuse)
    graph = onnx.load_from_string(prepared.content).graph
    ops = [node.op_type for node in graph.node]
    if major == 8 and fuse:
        assert "Erf" not in ops
        assert ops.count("Sigmoid") >= 5  # each block's and the stem's
        assert (prepared.cast, ops.count("Cast")) == (("images",), 1)
        assert prepared.tensor_types["images"] == "float16"
    else:
        assert "Sigmoid" not in ops or "Erf" in ops
        assert (prepared.cast, ops.count("Cast")) == ((), 2)
        assert prepared.tensor_types["images"] == "float32"


def cast_graph(to=TensorProto.FLOAT16, kind=TensorProto.FLOAT, more=(), outputs=("y",)):
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=to),
        helper.make_node("Relu", ["half"], ["y"]),
        *more,
    ]
    inputs = [helper.make_tensor_value_info("x", kind, ["n"])]
    given = [helper.make_tensor_value_info(name, to, ["n"]) for name in outputs]
    return helper.make_graph(nodes, "graph", inputs, given)


def test_a_cast_of_an_input_goes():
    graph = cast_graph()
    assert drop_input_casts(graph) == ("x",)
    assert [(node.op_type, list(node.input)) for node in graph.node] == [("Relu", ["x"])]
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16


@pytest.mark.parametrize(
    "changes",
    [
        {"to": TensorProto.DOUBLE},
        {"kind": TensorProto.INT32},
        {"more": (helper.make_node("Neg", ["x"], ["z"]),)},
        {"outputs": ("y", "half")},
        {"outputs": ("y", "x")},
    ],
    ids=str,
)
def test_other_casts_stay(changes):
    graph = cast_graph(**changes)
    before = graph.SerializeToString()
    assert drop_input_casts(graph) == ()
    assert graph.SerializeToString() == before
