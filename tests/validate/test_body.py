"""A function body that is damaged is named: as the suspect, in its block, by its node."""

import json

import onnx
import pytest
import torch
from gspn2_deploy.export import ExportOptions, export_onnx
from onnx import helper, numpy_helper
from torch import nn
from validate.engine_double import (
    Factory,
    bisect_without_torch,
    propagations,
    set_chunk,
    set_constant,
)
from validate.test_bisect import BLOCKS, IMAGES, damaged, validate

from gspn2_deploy.errors import PlatformError
from gspn2_deploy.ops import line_scan
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner
from gspn2_deploy.validate.blocks import read_blocks
from gspn2_deploy.validate.body import explain
from gspn2_deploy.validate.onnx_file import Request, validate_file

BODY = "the op's function body"
NEIGHBOURS, ZERO, MASK = "constant_53", "constant_14", "constant_67"  # nodes of the body


def swap(model):
    set_constant(model, NEIGHBOURS, [1, 0, -1])


def heal(model):
    set_constant(model, NEIGHBOURS, [-1, 0, 1])
    set_constant(model, ZERO, 0)


def stop(model):
    """Let the body run no longer: it takes a line to begin at 1."""
    set_constant(model, ZERO, 1)


def body_node(model, name):
    return next(node for node in model.functions[0].node if node.name == name)


def add_instead(model):
    body_node(model, "mul_8").op_type = "Add"


def forget_a_neighbour(model):
    scan = next(node for node in model.functions[0].node if node.op_type == "Scan")
    graph = next(item.g for item in scan.attribute if item.name == "body")
    del next(node for node in graph.node if node.op_type == "Sum").input[-1]


DAMAGES = [
    (swap, "constant_53 holds [1, 0, -1] instead of [-1, 0, 1]"),
    (lambda model: set_constant(model, MASK, 0.5), "constant_67 holds 0.5 instead of 0.0"),
    (add_instead, "mul_8 is Add instead of Mul"),
    (forget_a_neighbour, "step_next (Sum) is wired otherwise"),
]


@pytest.mark.parametrize("damage, words", DAMAGES, ids=["constant", "mask", "op", "step"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_wrong_body_is_the_suspect(three_blocks, tmp_path, damage, words, precision):
    path = damaged(three_blocks, tmp_path / "m.onnx", damage, precision)
    code, body = validate(three_blocks, path, "--bisect")
    assert code == 1
    (found,) = body["bisections"]
    assert (found["first_bad"], found["suspect"]) == (BLOCKS[0], BODY)
    assert "its function body GspnProp2D is not what gspn2-deploy" in found["because"]
    assert words in found["because"]
    assert body["suspects"] == [BODY]
    # In 16 bits the outputs may be within the tolerance: the op is wrong all the same.
    assert body["verdict"].endswith(f"; suspect: {BODY} in {BLOCKS[0]}")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_body_that_does_not_run_is_the_suspect(three_blocks, tmp_path, precision):
    path = damaged(three_blocks, tmp_path / "m.onnx", stop, precision)
    code, body = validate(three_blocks, path, "--bisect", "--report", tmp_path / "report.json")
    assert code == 1
    (found,) = body["bisections"]
    assert (found["first_bad"], found["suspect"]) == (BLOCKS[0], BODY)
    assert found["blocks"][0]["op"] == {"ratio": None, "reasons": []}
    assert "does not run: [ONNXRuntimeError]" in found["because"]
    assert "constant_14 holds 1 instead of 0" in found["because"]
    assert "marked.onnx" not in found["because"]  # gone when anybody reads it
    assert json.loads((tmp_path / "report.json").read_text()) == body


def test_a_file_that_does_not_run_around_sound_bodies(three_blocks, monkeypatch):
    honest = OnnxRuntimeRunner.infer_impl

    def alone_only(self, inputs):
        if "images" in inputs:
            raise PlatformError("onnxruntime failed while running it", got="out of memory")
        return honest(self, inputs)

    monkeypatch.setattr(OnnxRuntimeRunner, "infer_impl", alone_only)
    code, body = validate(three_blocks, three_blocks / "fp32.onnx", "--bisect")
    assert code == 1
    (found,) = body["bisections"]
    assert (found["first_bad"], found["suspect"]) == (None, "the export")
    assert found["because"].endswith("onnxruntime does not run the file: out of memory")


@pytest.fixture
def world(monkeypatch, three_blocks, tmp_path):
    """An engine that is right, of a file whose body is not."""
    factory = Factory(monkeypatch, (IMAGES,))
    factory.damage = heal

    def run(damage, *options, model=True):
        path = damaged(three_blocks, tmp_path / "m.onnx", damage)
        plan = factory.build(path, tmp_path / "m.plan")
        return validate(three_blocks, path, "--engine", plan, *options, model=model)

    factory.validate = run
    return factory


@pytest.mark.parametrize("damage", [swap, stop])
def test_an_engine_that_is_right_leaves_the_body_as_the_only_suspect(world, damage):
    code, body = world.validate(damage, "--bisect")
    assert code == 1
    assert [item["suspect"] for item in body["bisections"]] == [BODY, None]
    assert body["suspects"] == [BODY]


def test_without_a_bisection_the_body_is_mentioned(world):
    code, body = world.validate(swap)
    assert code == 1
    assert body["suspects"] == ["onnxruntime"]
    assert "it alone runs the op's function body (--bisect tells" in body["findings"][0]


@pytest.mark.parametrize("damage", [swap, stop])
def test_recorded_outputs_and_an_engine_are_enough(world, three_blocks, damage):
    golden = ["--golden", three_blocks / "fp32.npz"]
    code, body = world.validate(damage, "--bisect", *golden, model=False)
    assert code == 1
    (found,) = body["bisections"]
    assert (found["candidate"], found["reference"]) == ("onnxruntime", "tensorrt")
    assert (found["first_bad"], found["suspect"]) == (BLOCKS[0], BODY)
    assert body["suspects"] == [BODY]


def test_pytorch_is_not_needed_to_name_it(three_blocks, tmp_path):
    source = damaged(three_blocks, tmp_path / "m.onnx", swap)
    damage = 'set_constant(model, "constant_53", [-1, 0, 1])'
    (found,) = bisect_without_torch(three_blocks, source, tmp_path / "m.plan", IMAGES, damage)
    assert (found["candidate"], found["reference"], found["exact"]) == (
        "onnxruntime",
        "tensorrt",
        "",
    )
    assert (found["first_bad"], found["suspect"]) == (BLOCKS[0], BODY)
    assert "gives something else than in tensorrt, which fed it the same" in found["because"]
    assert "constant_53 holds [1, 0, -1]" in found["because"]


def swap_in_the_first(model):
    name = propagations(model)[0].op_type
    body = next(item for item in model.functions if item.name == name)
    for node in body.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            values = numpy_helper.to_array(node.attribute[0].t)
            if values.tolist() == [-1, 0, 1]:
                node.attribute[0].t.CopyFrom(numpy_helper.from_array(values[::-1].copy()))


class TwoScans(nn.Module):
    """One body for each direction."""

    def forward(self, images):
        affinity = torch.stack([images, 2 * images, -images], 1)
        there = line_scan(images, images.sigmoid(), affinity, "left_to_right", "softmax")
        return line_scan(there, images.sigmoid(), affinity, "bottom_to_top", "none", chunk=3)


def test_of_several_bodies_the_wrong_one_is_named(tmp_path):
    model = TwoScans().eval()
    export_onnx(model, tmp_path / "m.onnx", ExportOptions(image_size=(7, 9)))
    damaged(tmp_path, tmp_path / "m.onnx", swap_in_the_first, "m")
    report = validate_file(Request(tmp_path / "m.onnx", model, samples=1, bisect=True))
    assert report.suspects == (BODY,)
    assert str(report.blames[0]) == f"{BODY} in line_scan"
    model_file = onnx.load(tmp_path / "m.onnx")
    name = propagations(model_file)[0].op_type
    assert name == "GspnLineScan_left_to_right_softmax"
    assert f"its function body {name} is not what" in report.findings[0]
    assert "constant_" in report.findings[0]


class TestExplain:
    """What is said of one body."""

    def text(self, three_blocks, tmp_path, damage, told=None):
        path = damaged(three_blocks, tmp_path / "m.onnx", damage)
        return explain(path, read_blocks(path)[0], told)

    def test_a_sound_body(self, three_blocks, tmp_path):
        text = self.text(three_blocks, tmp_path, lambda model: None)
        assert text.endswith("writes: onnxruntime runs it wrongly")

    def test_an_attribute_goes_before_the_body(self, three_blocks, tmp_path):
        told = {"normalize": "sigmoid", "chunk": 2}
        text = self.text(three_blocks, tmp_path, lambda model: set_chunk(model, 0, 5), told)
        assert text == "its node says chunk=5, and PyTorch calls it with chunk=2: export again"
        assert "body" in self.text(three_blocks, tmp_path, lambda model: None, told)

    def test_what_is_stored_otherwise_is_the_same(self, three_blocks, tmp_path):
        def damage(model):
            tensor = body_node(model, NEIGHBOURS).attribute[0].t
            tensor.CopyFrom(helper.make_tensor("t", tensor.data_type, tensor.dims, [-1, 0, 1]))
            assert not tensor.HasField("raw_data")

        assert "runs it wrongly" in self.text(three_blocks, tmp_path, damage)

    def test_nodes_that_are_gone_and_attributes(self, three_blocks, tmp_path):
        def damage(model):
            body = model.functions[0]
            body_node(model, "squeeze_48").attribute.append(helper.make_attribute("more", 1))
            next(n for n in body.node if n.op_type == "Transpose").attribute[0].ints[0] = 4
            del body.node[-1]

        text = self.text(three_blocks, tmp_path, damage)
        assert "has perm=[4" in text
        assert "squeeze_48 (Squeeze) has another attribute more" in text
        assert "cast_out is missing" in text

    def test_many_are_counted_and_another_version_is_told(self, three_blocks, tmp_path):
        def damage(model):
            for node in model.functions[0].node[:8]:
                node.name += "x"
                node.input.append("x")
            entry = next(m for m in model.metadata_props if m.key == "gspn2.package_version")
            entry.value = "0.0.1"

        text = self.text(three_blocks, tmp_path, damage)
        assert "(the file is of 0.0.1)" in text
        assert "and 5 more nodes" in text
