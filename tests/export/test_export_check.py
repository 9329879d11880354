"""check_onnx refuses what is corrupt, foreign or stale; strip_functions and count_ops."""

import json

import onnx
import pytest
from gspn2_deploy.export import check_onnx, count_ops, strip_functions
from gspn2_deploy.export import metadata as meta
from onnx import TensorProto, helper, numpy_helper

from gspn2_deploy.errors import OnnxFileError
from gspn2_deploy.spec import ONNX_DOMAIN


@pytest.fixture
def altered(exported, tmp_path):
    """Write the exported model after a change; returns the new file."""

    def write(change):
        model = onnx.load(exported.summary.path)
        change(model)
        path = tmp_path / "altered.onnx"
        onnx.save(model, path)
        return path

    return write


def our_node(model):
    return next(node for node in model.graph.node if node.domain == ONNX_DOMAIN)


def test_the_summary(exported):
    summary = check_onnx(exported.summary.path)
    assert summary == exported.summary
    assert (summary.opset, summary.op_version) == (18, 1)
    assert [str(tensor.shape) for tensor in summary.inputs] == ["('batch', 3, 'height', 'width')"]
    json.dumps(summary.to_dict())


def test_missing(tmp_path):
    with pytest.raises(OnnxFileError, match="does not exist"):
        check_onnx(tmp_path / "absent.onnx")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 50])
def test_not_onnx(tmp_path, content):
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(OnnxFileError):
        check_onnx(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated(exported, tmp_path, share):
    content = exported.summary.path.read_bytes()
    path = tmp_path / "a.onnx"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(OnnxFileError):
        check_onnx(path)


def test_foreign(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [value], [other])
    path = tmp_path / "a.onnx"
    onnx.save(helper.make_model(graph), path)
    with pytest.raises(OnnxFileError, match="holds no GSPN-2 propagation"):
        check_onnx(path)


@pytest.mark.parametrize(
    "key", [meta.OP_COUNTS, meta.KEEP_FP32, meta.INPUT_SIZE, meta.EXTERNAL_DATA]
)
@pytest.mark.parametrize("value", ["{{", "[3, null]"])
def test_damaged_metadata(altered, key, value):
    def change(model):
        kept = [item for item in model.metadata_props if item.key != key]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        model.metadata_props.add(key=key, value=value)

    with pytest.raises(OnnxFileError, match="has damaged metadata"):
        check_onnx(altered(change))


@pytest.mark.parametrize("version, text", [(0, "an older version"), (2, "a newer version")])
def test_stale(altered, version, text):
    def change(model):
        for item in model.opset_import:
            if item.domain == ONNX_DOMAIN:
                item.version = version

    with pytest.raises(OnnxFileError, match=text):
        check_onnx(altered(change))


def test_without_metadata(altered):
    with pytest.raises(OnnxFileError, match="dropped its metadata") as caught:
        check_onnx(altered(lambda model: model.ClearField("metadata_props")))
    assert meta.PRECISION in caught.value.got


def test_without_function(altered):
    with pytest.raises(OnnxFileError, match="lacks the function bodies"):
        check_onnx(altered(lambda model: model.ClearField("functions")))


def test_a_propagation_is_gone(altered):
    with pytest.raises(OnnxFileError, match="does not hold the propagations"):
        check_onnx(altered(lambda model: model.graph.node.remove(our_node(model))))


def test_a_body_of_another_mode(altered):
    def change(model):
        for attribute in our_node(model).attribute:
            if attribute.name == "normalize":
                attribute.s = b"softmax"

    with pytest.raises(OnnxFileError, match="does not fit its function body"):
        check_onnx(altered(change))


def test_a_body_of_another_opset(altered):
    def change(model):
        model.functions[0].opset_import[0].version = 17

    with pytest.raises(OnnxFileError, match="another opset"):
        check_onnx(altered(change))


def test_wrong_shapes_are_found_by_the_full_check(altered):
    def change(model):
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5

    path = altered(change)
    check_onnx(path, full=False)  # the structure alone is right
    with pytest.raises(OnnxFileError, match="checker refuses"):
        check_onnx(path)


def test_an_altered_weight(altered):
    def change(model):
        weight = next(item for item in model.graph.initializer if "predict.weight" in item.name)
        values = numpy_helper.to_array(weight).copy()
        values.flat[0] += 1e-3
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    path = altered(change)
    assert check_onnx(path, full=False).altered
    with pytest.raises(OnnxFileError, match="were altered after the export"):
        check_onnx(path)


def test_weights_stored_in_another_way_are_not_altered(altered):
    def change(model):
        for weight in model.graph.initializer:
            if weight.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(weight)
                stored = helper.make_tensor(weight.name, TensorProto.FLOAT, weight.dims, values)
                assert not stored.HasField("raw_data")
                weight.CopyFrom(stored)
        model.graph.initializer.reverse()

    assert not check_onnx(altered(change)).altered


def test_files_from_before_the_hash_pass(altered):
    def change(model):
        kept = [item for item in model.metadata_props if item.key != meta.WEIGHTS_SHA256]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)

    assert not check_onnx(altered(change)).altered


def test_strip_functions_leaves_bare_ops(exported):
    model = onnx.load(exported.summary.path)
    node = our_node(model)
    node.op_type = "GspnProp2D_sigmoid_d_m"  # as in a file that mixes variants
    assert count_ops(model) == {"GspnProp2D": 1}
    strip_functions(model)
    assert not model.functions
    assert node.op_type == "GspnProp2D"
    assert count_ops(model) == {"GspnProp2D": 1}
