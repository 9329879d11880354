"""Baked precision: types in the file, boundaries of kept blocks, names."""

import onnx
import pytest
import torch
from export_models import Pair, Propagate, seeded
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx, prepare_model
from gspn2_deploy.export import metadata as meta
from gspn2_deploy.export.precision import plan_from_metadata, resolve_blocks

from gspn2_deploy.errors import ExportError

FLOAT, HALF, BFLOAT = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
)


def pair():
    return seeded(Pair(Propagate(), Propagate("sigmoid", chunk=2)))


def weight_types(path):
    tensors = onnx.load(path).graph.initializer
    return {tensor.name: tensor.data_type for tensor in tensors if len(tensor.dims) == 4}


@pytest.mark.parametrize("base, code, opset", [("fp16", HALF, 18), ("bf16", BFLOAT, 22)])
def test_every_weight_has_the_precision(tmp_path, base, code, opset):
    options = ExportOptions(precision=PrecisionPlan(base), dynamic_size=base == "fp16")
    report = export_onnx(pair(), tmp_path / "a.onnx", options)
    assert set(weight_types(tmp_path / "a.onnx").values()) == {code}
    assert report.summary.opset == opset
    assert {tensor.dtype for tensor in report.summary.inputs + report.summary.outputs} == {
        "float32"
    }
    assert report.verification.worst_ratio <= 1


def test_inputs_and_outputs_in_the_precision(tmp_path):
    plan = PrecisionPlan("fp16", io_dtype="precision")
    report = export_onnx(pair(), tmp_path / "a.onnx", ExportOptions(precision=plan))
    assert report.summary.inputs[0].dtype == report.summary.outputs[0].dtype == "float16"


def test_mixed_keeps_named_blocks(tmp_path):
    plan = PrecisionPlan("fp16", ("second",))
    report = export_onnx(pair(), tmp_path / "a.onnx", ExportOptions(precision=plan))
    types = weight_types(tmp_path / "a.onnx")
    assert types["first.predict.weight"] == types["widen.weight"] == HALF
    assert types["second.predict.weight"] == FLOAT
    assert report.precision == "mixed"
    assert plan_from_metadata(report.summary.metadata) == plan
    assert report.summary.metadata[meta.BASE_PRECISION] == "fp16"


def test_a_kept_block_loses_nothing():
    model = pair()
    prepared = prepare_model(model, PrecisionPlan("fp16", ("second*",)))
    kept = prepared.second.predict.weight
    assert torch.equal(kept, model.second.predict.weight)  # never rounded on the way
    assert prepared.first.predict.weight.dtype == torch.float16
    assert model.first.predict.weight.dtype == torch.float32  # the user's model is not touched
    assert model.first.predict.weight.requires_grad


def test_what_goes_in_and_out_of_a_kept_block():
    prepared = prepare_model(pair(), PrecisionPlan("bf16", ("second",), "precision"))
    seen = {}

    def watch(name):
        def hook(_, args, output):
            seen[name] = (args[0].dtype, output.dtype)

        return hook

    prepared.second.predict.register_forward_hook(watch("inside"))
    prepared.widen.register_forward_hook(watch("before"))
    images = torch.randn(1, 3, 4, 4, dtype=torch.bfloat16)
    assert prepared(images).dtype == torch.bfloat16
    assert seen == {
        "inside": (torch.float32, torch.float32),
        "before": (torch.bfloat16, torch.bfloat16),
    }


def test_globs_find_the_outermost_blocks():
    assert resolve_blocks(pair(), ["*pre*", "second"]) == ("first.predict", "second")


def test_an_unknown_block_is_suggested():
    with pytest.raises(ExportError, match="no block of that name") as caught:
        resolve_blocks(pair(), ["second_"])
    assert "second" in caught.value.hint


@pytest.mark.parametrize(
    "arguments, text",
    [
        (("fp8",), "unknown precision"),
        (("fp32", ("second",)), "only be kept in fp32 when"),
        (("fp16", (), "int8"), "unknown io_dtype"),
    ],
)
def test_plans_that_make_no_sense(arguments, text):
    with pytest.raises(ExportError, match=text):
        PrecisionPlan(*arguments)
