"""The engine from the function bodies: what the parser is given, how it is built and measured."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import body_engine
import builder_fakes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from body_model import as_parsed, graphs, inline_bodies
from builder_fakes import DataType, fake_builder
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx
from onnx import TensorProto
from validate.engine_double import Factory

from gspn2_deploy.bench.timing import Effort
from gspn2_deploy.build.backend import BuiltEngine
from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.golden import GoldenSample, GoldenSamples
from gspn2_deploy.manifest import Manifest, ManifestError, manifest_path
from gspn2_deploy.models import create_model, model_from_checkpoint

OPSET = 17
DIGITS = Path(__file__).parents[2] / "examples/digits"
PROFILE = {"images": ((1, 1, 8, 8), (2, 1, 8, 8), (4, 1, 8, 8))}


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def digits(request, tmp_path_factory):
    """The trained model, whose first propagation has segments of two steps."""
    path = tmp_path_factory.mktemp(request.param) / "nano.onnx"
    model = model_from_checkpoint(DIGITS / "nano-digits.safetensors").eval()
    export_onnx(model, path, ExportOptions(precision=PrecisionPlan(request.param)))
    return path


@pytest.fixture
def golden(digits, tmp_path):
    """Samples of which onnxruntime itself says what is right."""
    metadata = {item.key: item.value for item in onnx.load(digits).metadata_props}
    samples = []
    for batch in (1, 4, 3):
        inputs = {"images": images(batch)}
        outputs = {"logits": run(digits.read_bytes(), inputs)}
        samples.append(GoldenSample(inputs, outputs, outputs))
    source = metadata["gspn2.source_sha256"]
    path = tmp_path / "golden.npz"
    GoldenSamples(tuple(samples), "", source, "nano", metadata["gspn2.precision"]).save(path)
    return path


def images(batch):
    with np.load(DIGITS / "heldout.npz") as file:
        return file["images"][:batch].astype(np.float32)


def run(content, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def test_what_is_parsed_computes_what_the_file_does(digits):
    model = inline_bodies(digits)
    onnx.checker.check_model(model, full_check=True)
    inputs = {"images": images(9)}
    expected, found = run(digits.read_bytes(), inputs), run(model.SerializeToString(), inputs)
    tolerance = 1e-6 if "fp32" in str(digits.parent) else 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_what_is_parsed_is_of_the_opset(digits):
    model = inline_bodies(digits)
    assert not model.functions
    assert [(item.domain, item.version) for item in model.opset_import] == [("", OPSET)]
    assert model.ir_version <= 8
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    assert sum(node.op_type == "Scan" for node in nodes) == 6  # two axes of three propagations
    for node in nodes:
        assert not node.domain, node
        schema = onnx.defs.get_schema(node.op_type, OPSET, "")
        assert {attribute.name for attribute in node.attribute} <= set(schema.attributes), node
        assert schema.min_input <= len(node.input) <= schema.max_input, node


def test_nothing_is_left_that_the_parser_misreads(digits):
    """See builtin_op_importers.cpp of TensorRT 8.6.1."""
    nodes = [node for graph in graphs(inline_bodies(digits).graph) for node in graph.node]
    for node in nodes:
        names = {attribute.name for attribute in node.attribute}
        assert node.op_type not in ("CastLike", "Range", "Min", "Mod", "Equal", "If"), node
        assert node.op_type != "Constant" or names == {"value"}, node
        assert node.op_type != "Shape" or not names, node
    shapes = [node.output[0] for node in nodes if node.op_type == "Shape"]
    cuts = [node for node in nodes if node.op_type == "Slice" and node.input[0] in shapes]
    states = {node.input[0] for node in nodes if node.op_type == "ConstantOfShape"}
    assert len(shapes) == len(cuts) == 6  # of the batch alone, for the states before the first
    assert {node.output[0] for node in cuts} == states


def test_the_types_are_those_of_the_bodies(digits):
    parsed = as_parsed(inline_bodies(digits))
    model = onnx.load_from_string(parsed.content)
    assert not parsed.plugins
    for graph in graphs(model.graph):
        for node in graph.node:
            assert set(node.output) <= parsed.tensor_types.keys(), node
    by_type = {node.op_type: parsed.tensor_types[node.output[0]] for node in model.graph.node}
    assert by_type["Scan"] == by_type["Exp"] == "float32"
    assert by_type["Conv"] == ("float32" if "fp32" in str(digits.parent) else "float16")


@pytest.mark.slow
def test_a_softmax_and_free_extents(tmp_path):
    """Where the extents are not known they are asked for, with the part that is meant."""
    torch.manual_seed(0)
    model = create_model("nano", normalize="softmax", chunks=(3, 0, 2, 0)).eval()
    options = ExportOptions(dynamic_size=True)
    export_onnx(model, tmp_path / "m.onnx", options)
    lowered = inline_bodies(tmp_path / "m.onnx")
    onnx.checker.check_model(lowered, full_check=True)
    for height, width in ((64, 64), (32, 96)):
        inputs = {"images": np.random.default_rng(0).random((2, 3, height, width), np.float32)}
        expected = run((tmp_path / "m.onnx").read_bytes(), inputs)
        found = run(lowered.SerializeToString(), inputs)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


class Channel:
    def log(self, level, text):
        pass

    def progress(self, fraction, detail, *, important=False):
        pass


def plan_of(digits, plan, monkeypatch, **options):
    """A plan of the digits model over doubles of TensorRT's runtime, and its factory."""
    factory = Factory(monkeypatch, (PROFILE,))
    factory.build(digits, plan, options=BuildOptions(**options).to_dict())
    return factory


@pytest.fixture
def plan(digits, tmp_path, monkeypatch):
    path = tmp_path / "plugin.plan"
    plan_of(digits, path, monkeypatch, optimization_level=1)
    return path


@pytest.fixture
def builder(monkeypatch):
    """Builds in this process, with the double that ``builder.trt`` is."""
    monkeypatch.setitem(builder_fakes._DATA_TYPES, TensorProto.BOOL, DataType.BOOL)
    trt = fake_builder("8.6")
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(body_engine, "library_version", lambda module: module.__version__)
    monkeypatch.setattr(
        body_engine,
        "run_isolated",
        lambda entry, task, show, logger: body_engine.build_here(task, Channel()),
    )
    return trt


def test_a_body_is_built_as_the_plugins_engine_was(digits, plan, tmp_path, builder):
    target = tmp_path / "body.plan"
    result = body_engine.build_body(digits, plan, target)
    fp16 = "fp16" in str(digits.parent)
    assert result["built"]
    assert [one["precision_constraints"] for one in result["attempts"]] == ["obey"]
    config, network = builder.config, builder.network
    assert config.builder_optimization_level == 1
    assert config.sources == ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
    assert config.flags == ({"FP16", "OBEY_PRECISION_CONSTRAINTS"} if fp16 else set())
    assert [profile.shapes for profile in config.profiles] == [PROFILE]
    assert config.features == {"PROFILE_SHARING_0806": True}
    layers = {layer.name: layer for layer in network.layers}
    conv = next(layer for layer in network.layers if layer.type.name == "CONVOLUTION")
    assert conv.precision == (DataType.HALF if fp16 else None)
    exps = [layer for name, layer in layers.items() if name.startswith("exp_")]
    assert {layer.precision for layer in exps} == {DataType.FLOAT if fp16 else None}
    manifest = Manifest.load(manifest_path(target))
    manifest.verify(target, onnx_path=target.with_suffix(".onnx"))
    assert not manifest.propagations
    assert manifest.plan_bytes == len(b"a plan")
    assert manifest.precision == ("fp16" if fp16 else "fp32")


def test_what_tensorrt_says_is_the_finding(digits, plan, tmp_path, builder):
    builder.build_errors = ("10: Could not find any implementation for node {ForeignNode[a...b]}.",)
    result = body_engine.build_body(digits, plan, tmp_path / "body.plan")
    assert not result["built"]
    tried = [one["precision_constraints"] for one in result["attempts"]]
    assert tried == (["obey", "prefer"] if "fp16" in str(digits.parent) else ["obey"])
    assert builder.build_errors[0] in result["error"]
    assert not (tmp_path / "body.plan").exists()


def test_a_parser_that_refuses_is_quoted(digits, plan, tmp_path, builder):
    said = "This version of TensorRT does not support scans."
    builder.unknown = {"Scan": ("UNSUPPORTED_NODE", said)}
    result = body_engine.build_body(digits, plan, tmp_path / "body.plan")
    assert not result["built"]
    assert said in "\n".join(result["error"])


def test_looser_constraints_are_tried(digits, plan, tmp_path, builder, monkeypatch):
    tried = []

    def refuse_strict(request, seconds):
        tried.append(request.options.precision_constraints)
        if len(tried) == 1:
            raise EngineLibraryError("no kernel", ("no implementation obeys",))
        request.plan_path.write_bytes(b"a plan")
        return BuiltEngine("8.6.1", None, None, request.inputs, request.outputs)

    monkeypatch.setattr(body_engine, "_build_in_child", refuse_strict)
    result = body_engine.build_body(digits, plan, tmp_path / "body.plan")
    fp16 = "fp16" in str(digits.parent)
    assert tried == (["obey", "prefer"] if fp16 else ["obey"])
    assert result["built"] == fp16
    assert result["attempts"][0]["error"][1:] == ["no implementation obeys"]


def test_a_build_without_end_is_a_finding(digits, plan, tmp_path, builder, monkeypatch):
    monkeypatch.setattr(body_engine, "run_isolated", lambda *_: time.sleep(30))
    result = body_engine.build_body(digits, plan, tmp_path / "body.plan", 0.2)
    assert not result["built"]
    assert result["attempts"][0]["error"] == ["no end within 0 s"]


def test_a_plan_of_another_file_is_refused(digits, plan, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(digits.read_bytes() + b"\0")
    with pytest.raises(ManifestError, match="does not match its manifest"):
        body_engine.build_body(other, plan, tmp_path / "body.plan")


EFFORT = Effort(warmup=1, iterations=3, seconds=0.0)


def test_both_engines_are_compared_and_timed(digits, golden, tmp_path, monkeypatch):
    plugin, body = tmp_path / "plugin.plan", tmp_path / "body.plan"
    factory = plan_of(digits, plugin, monkeypatch)
    onnx.save(inline_bodies(digits), tmp_path / "body.onnx")
    factory.build(tmp_path / "body.onnx", body, propagations={})
    result = body_engine.measure({"built": True}, plugin, body, golden, EFFORT)
    assert result["passed"]
    assert list(result["engines"]) == ["plugin", "body"]
    for engine in result["engines"].values():
        assert {batch: row["samples"] for batch, row in engine["parity"].items()} == dict.fromkeys(
            ("1", "4", "3"), 1
        )
        assert all(row["of_tolerance"] < 0.1 for row in engine["parity"].values())
        assert list(engine["compute_ms"]) == ["1", "2", "4"]
        assert engine["compute_ms"]["2"]["median"] == pytest.approx(2.0)
        assert engine["compute_ms"]["2"]["runs"] == 3
    json.dumps(result)


def test_an_engine_that_is_wrong_does_not_pass(digits, golden, plan, tmp_path, monkeypatch):
    samples = GoldenSamples.load(golden)
    shifted = {"logits": samples.samples[0].outputs["logits"] + 1}
    replace(samples, samples=(replace(samples.samples[0], outputs=shifted),)).save(golden)
    result = body_engine.measure({"built": False, "error": ["no"]}, plan, plan, golden, EFFORT)
    assert not result["passed"]
    assert result["engines"]["plugin"]["parity"]["1"]["reasons"]


def test_where_there_is_no_engine_the_plugins_is_measured(digits, golden, plan, tmp_path):
    built = {"built": False, "attempts": [], "error": ["cannot"]}
    result = body_engine.measure(built, plan, tmp_path / "none.plan", golden, EFFORT)
    assert result["passed"]
    assert list(result["engines"]) == ["plugin"]
    assert result["error"] == ["cannot"]


def test_an_engine_that_does_not_run_is_a_finding(digits, golden, plan, tmp_path):
    built = {"built": True, "attempts": []}
    result = body_engine.measure(built, plan, tmp_path / "none.plan", golden, EFFORT)
    assert list(result["engines"]) == ["plugin"]
    assert "missing" in result["error"][0]


@pytest.mark.parametrize("words", [[], ["build"], ["measure", "a"], ["build", *"abcde"], ["what"]])
def test_wrong_words_are_answered_with_the_usage(words, capsys):
    assert body_engine.main(words) == 2
    assert "body_engine.py build ONNX PLAN" in capsys.readouterr().err


def test_words_become_paths_and_codes(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        body_engine, "build_body", lambda *given: seen.append(given) or {"built": False}
    )
    assert body_engine.main(["build", "a", "b", "c", "7"]) == 0
    assert json.loads(capsys.readouterr().out) == {"built": False}
    (tmp_path / "built.json").write_text("{}")
    monkeypatch.setattr(
        body_engine, "measure", lambda *given: seen.append(given) or {"passed": False}
    )
    assert body_engine.main(["measure", str(tmp_path / "built.json"), "a", "b", "c"]) == 1
    assert seen == [(Path("a"), Path("b"), Path("c"), 7.0), ({}, Path("a"), Path("b"), Path("c"))]


def test_the_child_finds_what_it_is_to_run(tmp_path):
    """The module is run as a script, and its function by name in the child."""
    (tmp_path / "tensorrt.py").write_text("raise ImportError('left out here')\n")
    code = (
        "import sys; sys.path[:0] = [{!r}, {!r}]; import logging\n"
        "from gspn2_deploy.build.isolation import run_isolated\n"
        "import body_engine\n"
        "try: run_isolated(body_engine.ENTRY, {{}}, lambda *_: None, logging.getLogger())\n"
        "except Exception as error: print(error)"
    )
    folder = str(Path(body_engine.__file__).parent)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", code.format(str(tmp_path), folder)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "left out here" in result.stdout, result.stderr
