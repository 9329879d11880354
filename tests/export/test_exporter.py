"""export_onnx: what it writes, what it refuses, and that nothing is left half written."""

import json
import stat
import sys

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from export_models import FourScans, Pair, Plain, Propagate, seeded
from gspn2_deploy.export import (
    ExportOptions,
    PrecisionPlan,
    check_onnx,
    count_ops,
    export_onnx,
    exporter,
)
from gspn2_deploy.export import metadata as meta
from torch import nn

from gspn2_deploy import __version__
from gspn2_deploy.errors import (
    ExportError,
    OnnxFileError,
    OutputError,
    ShapeError,
    ValidationFailedError,
)
from gspn2_deploy.files import sha256_of
from gspn2_deploy.models import create_model
from gspn2_deploy.spec import ONNX_DOMAIN


def our_nodes(path):
    return [node for node in onnx.load(path).graph.node if node.domain == ONNX_DOMAIN]


def test_one_file_runs_every_batch_and_size(model, exported):
    session = onnxruntime.InferenceSession(exported.summary.path)
    for shape in [(1, 3, 6, 7), (3, 3, 1, 5), (2, 3, 9, 1), (1, 3, 33, 20)]:
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = model(images).numpy()
        actual = session.run(None, {"images": images.numpy()})[0]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_the_report_says_what_was_proven(exported):
    assert exported.verification.skipped is None
    assert len(exported.verification.shapes) == 2  # the example and another batch and size
    assert exported.verification.shapes[0] != exported.verification.shapes[1]
    assert 0 < exported.verification.worst_ratio <= 1
    assert exported.sha256 == sha256_of(exported.summary.path)
    assert json.loads(json.dumps(exported.to_dict()))["op_counts"] == {"GspnProp2D": 1}


def test_every_attribute_stands_on_the_node(exported):
    (node,) = our_nodes(exported.summary.path)
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    assert (node.op_type, attributes) == ("GspnProp2D", {"normalize": b"sigmoid", "chunk": 4})
    assert len(node.input) == 6


def test_metadata(model, exported):
    found = exported.summary.metadata
    assert found[meta.PRECISION] == found[meta.BASE_PRECISION] == "fp32"
    assert found[meta.PACKAGE_VERSION] == __version__
    assert found[meta.OP_VERSION] == "1"
    assert found[meta.TORCH_VERSION] == torch.__version__
    assert found[meta.MODEL] == "Propagate"
    assert json.loads(found[meta.INPUT_SIZE]) == [6, 7]
    assert json.loads(found[meta.DYNAMIC_AXES]) == {
        "images": {"0": "batch", "2": "height", "3": "width"}
    }
    assert found[meta.SOURCE_SHA256] == meta.source_sha256(model, "")
    assert meta.source_sha256(seeded(Propagate(), seed=1), "") != found[meta.SOURCE_SHA256]


def test_channel_statistics_come_in_any_form():
    model = nn.Module()
    for value in ([0.25, 0.5, 1], torch.tensor([0.25, 0.5, 1.0]).view(1, 3, 1, 1)):
        model.input_mean = value
        assert json.loads(meta.describe_model(model, None)[meta.INPUT_MEAN]) == [0.25, 0.5, 1.0]
    for value in (0.5, "grey", object()):
        model.input_mean = value
        with pytest.raises(ExportError, match="input_mean does not hold a number per channel"):
            meta.describe_model(model, None)


@pytest.mark.parametrize("size", [64, "64", (3, 64, 64), (0, 4), (4.0, 4.0)], ids=str)
def test_a_default_size_that_is_none(tmp_path, size):
    model = seeded(Propagate())
    model.default_size = size
    with pytest.raises(ExportError, match="default_size is not an image size"):
        export_onnx(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_not_named_like_an_input(tmp_path):
    model = seeded(Propagate())
    model.output_names = ("images",)
    with pytest.raises(ExportError, match="an output has the name of an input"):
        export_onnx(model, tmp_path / "a.onnx")


def test_no_path_of_this_machine_is_written(exported):
    content = exported.summary.path.read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content


def test_the_same_model_gives_the_same_bytes(model, tmp_path):
    digests = {export_onnx(model, tmp_path / f"{name}.onnx").sha256 for name in "ab"}
    assert len(digests) == 1


def test_a_wrapped_model_gives_the_file_of_the_one_inside(model, tmp_path):
    wrapped = torch.nn.DataParallel(torch.compile(model, backend="eager"))
    for name, given in (("a", model), ("b", wrapped)):
        export_onnx(given, tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_model_that_writes_into_its_input_is_refused(tmp_path, precision):
    class Centred(Propagate):
        def forward(self, images):
            return super().forward(images.sub_(0.5))

    example = torch.rand(2, 3, 6, 7)
    before = example.clone()
    plan = PrecisionPlan(precision, io_dtype="precision")
    options = ExportOptions(example={"images": example}, precision=plan)
    with pytest.raises(ExportError, match="writes into its input 'images'") as caught:
        export_onnx(seeded(Centred()), tmp_path / "model.onnx", options)
    assert "images = images.clone()" in caught.value.hint
    assert torch.equal(example, before)
    assert list(tmp_path.iterdir()) == []


def test_nano_keeps_its_module_names(tmp_path):
    torch.manual_seed(0)
    report = export_onnx(create_model("nano").eval(), tmp_path / "nano.onnx")
    names = [node.name for node in our_nodes(tmp_path / "nano.onnx")]
    assert names[0] == "stages.0.blocks.0.mixer.prop2d"
    assert len(set(names)) == report.summary.op_counts["GspnProp2D"] == 5
    assert report.summary.metadata[meta.MODEL] == "nano"
    assert json.loads(report.summary.metadata[meta.CONFIG])["c_proxy"] == 2
    assert report.summary.functions == ("GspnProp2D",)


def test_a_fixed_batch(model, tmp_path):
    options = ExportOptions(dynamic_batch=False, batch=1, image_size=(4, 5))
    report = export_onnx(model, tmp_path / "a.onnx", options)
    assert report.summary.inputs[0].shape == (1, 3, 4, 5)
    assert not report.summary.inputs[0].dynamic_axes


def test_mixed_modes_get_a_body_each(tmp_path):
    """A body serves one mode: one that ran for another would be wrong without a sign."""
    pair = seeded(Pair(Propagate("softmax"), Propagate("sigmoid", skip=False, merge=False)))
    report = export_onnx(pair, tmp_path / "a.onnx")
    assert report.summary.functions == ("GspnProp2D_sigmoid", "GspnProp2D_softmax_d_m")
    assert [node.op_type for node in our_nodes(tmp_path / "a.onnx")] == [
        "GspnProp2D_softmax_d_m",
        "GspnProp2D_sigmoid",
    ]
    assert report.summary.op_counts == {"GspnProp2D": 2}


def test_four_line_scans(tmp_path):
    report = export_onnx(seeded(FourScans()), tmp_path / "a.onnx")
    assert report.summary.op_counts == {"GspnLineScan": 4}
    assert len(report.summary.functions) == 4


def test_merge_weights_without_a_skip_gate(tmp_path):
    """TensorRT refuses a call with a gap in its inputs: m goes into u."""
    report = export_onnx(seeded(Propagate(skip=False)), tmp_path / "a.onnx")
    (node,) = our_nodes(tmp_path / "a.onnx")
    assert len(node.input) == 4
    assert all(node.input)
    assert report.verification.worst_ratio <= 1


def test_large_weights_go_to_a_second_file(model, tmp_path):
    output = tmp_path / "a.onnx"
    big = seeded(Pair(Propagate(), Propagate()))
    options = ExportOptions(external_data_bytes=100)
    first = export_onnx(big, output, options)
    (name,) = first.summary.external_data
    assert (tmp_path / name).stat().st_size == first.summary.external_data[name]
    assert check_onnx(output).op_counts == {"GspnProp2D": 2}

    second = export_onnx(seeded(big, seed=3), output, options)
    (other,) = second.summary.external_data
    assert other != name  # the old file was whole until it was replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.onnx", other])

    with (tmp_path / other).open("r+b") as stream:
        stream.write(b"\xff" * 8)
    with pytest.raises(OnnxFileError, match="do not belong to it"):
        check_onnx(output)
    (tmp_path / other).unlink()
    with pytest.raises(OnnxFileError, match="do not belong to it"):
        check_onnx(output)


def test_no_propagation(tmp_path):
    with pytest.raises(ExportError, match="has no propagation"):
        export_onnx(Plain(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_refuses_the_size(tmp_path):
    with pytest.raises(ShapeError, match="too small"):
        export_onnx(create_model("nano"), tmp_path / "a.onnx", ExportOptions(image_size=(8, 8)))


def test_an_operator_without_translation(model, tmp_path):
    class Odd(nn.Module):
        def forward(self, y):
            return torch.special.bessel_j0(y)

    odd = nn.Sequential(model, Odd())
    with pytest.raises(ExportError, match="bessel_j0") as caught:
        export_onnx(odd, tmp_path / "a.onnx", ExportOptions(image_size=(4, 5)))
    assert "used in 1;" in caught.value.got  # the module's name
    assert "No ONNX function found" in caught.value.got  # the exporter's own words
    assert list(tmp_path.iterdir()) == []


def test_an_axis_that_the_model_fixes(model, tmp_path):
    class Fixed(nn.Module):
        def forward(self, y):
            return y.reshape(2, -1)

    with pytest.raises(ExportError, match="fixes an axis"):
        export_onnx(
            nn.Sequential(model, Fixed()), tmp_path / "a.onnx", ExportOptions(image_size=(4, 5))
        )


@pytest.mark.parametrize("failing", ["check_onnx", "verify_file", "save"])
def test_a_failure_leaves_the_old_file(model, tmp_path, monkeypatch, failing):
    output = tmp_path / "a.onnx"
    output.write_bytes(b"old")

    def fail(*_):
        raise OnnxFileError("broken")

    monkeypatch.setattr(exporter, failing, fail)
    with pytest.raises(OnnxFileError, match="broken"):
        export_onnx(model, output)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert output.read_bytes() == b"old"


def test_a_file_that_computes_something_else_is_refused(model, tmp_path, monkeypatch):
    """The run in onnxruntime must be able to fail."""
    right = exporter.attach_functions

    def wrong(graph, opset):
        for node in graph.graph:
            if node.domain == ONNX_DOMAIN:
                node.attributes.pop("chunk")
                node.attributes.add(onnx_ir.AttrInt64("chunk", 1))
        right(graph, opset)

    monkeypatch.setattr(exporter, "attach_functions", wrong)
    with pytest.raises(ValidationFailedError, match="does not compute what PyTorch computes"):
        export_onnx(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        export_onnx(model, tmp_path / "file" / "a.onnx")
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        export_onnx(model, folder)
    assert stat.S_ISDIR(folder.stat().st_mode)


def test_without_onnxruntime_the_report_says_so(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    report = export_onnx(model, tmp_path / "a.onnx")
    assert "onnxruntime" in report.verification.skipped
    assert report.verification.worst_ratio is None
    assert count_ops(onnx.load(tmp_path / "a.onnx")) == {"GspnProp2D": 1}


def test_a_model_that_is_not_finite_itself_is_told_apart(model, tmp_path):
    class Spoil(nn.Module):
        def forward(self, y):
            return y / 0.0 * 0.0

    options = ExportOptions(image_size=(4, 5))
    with pytest.raises(ValidationFailedError, match="own output 'output' is not finite") as caught:
        export_onnx(nn.Sequential(model, Spoil()), tmp_path / "a.onnx", options)
    assert caught.value.hint == "mend the weights or the model"
    assert list(tmp_path.iterdir()) == []


def test_overflow_is_named(tmp_path):
    model = seeded(Propagate())
    with torch.no_grad():
        model.predict.weight.mul_(1e4)
    with pytest.raises(ValidationFailedError, match="--keep-fp32"):
        export_onnx(model, tmp_path / "a.onnx", ExportOptions(precision=PrecisionPlan("fp16")))
    assert list(tmp_path.iterdir()) == []
