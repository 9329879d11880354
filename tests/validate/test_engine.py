"""``validate --engine``: three ways over the profiles, who is wrong, and what the engine ran."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from validate.engine_double import Factory, scale_weight, set_chunk

from gspn2_deploy.cli.app import app
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner

WIDE = {"images": ((1, 3, 16, 16), (4, 3, 16, 16), (16, 3, 16, 16))}
NARROW = {"images": ((20, 3, 16, 16), (20, 3, 16, 16), (20, 3, 16, 16))}
BLOCKS = 3
FUSED = {
    "GspnDepthwiseNorm_a": "GspnDepthwiseNorm",
    "GspnDepthwiseNorm_b": "GspnDepthwiseNorm",
    "GspnChannelNorm_n": "GspnChannelNorm",
}


@pytest.fixture
def world(monkeypatch, three_blocks, tmp_path):
    factory = Factory(monkeypatch, (WIDE,))

    def invoke(*options, precision="fp32", model=True, json_=True, onnx_file=None, **changes):
        source = onnx_file or three_blocks / f"{precision}.onnx"
        plan = factory.build(source, tmp_path / "m.plan", **changes)
        checkpoint = ["--checkpoint", three_blocks / "model.safetensors"] if model else []
        arguments = ["--quiet", "validate", source, "--engine", plan, *checkpoint, *options]
        arguments += ["--json"] if json_ else []
        return CliRunner().invoke(app, list(map(str, arguments)))

    def body(*options, code=0, **keywords):
        result = invoke(*options, **keywords)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    factory.invoke, factory.body = invoke, body
    return factory


def broken_onnxruntime(monkeypatch):
    honest = OnnxRuntimeRunner.infer_impl

    def wrong(self, inputs):
        return {name: value * np.float32(1.1) for name, value in honest(self, inputs).items()}

    monkeypatch.setattr(OnnxRuntimeRunner, "infer_impl", wrong)


def test_three_ways_over_the_profile(world, three_blocks):
    body = world.body("--golden", three_blocks / "fp32.npz", "--samples", 1)
    shapes = {
        tuple(case["shapes"]["images"])
        for case in body["cases"]
        if case["candidate"] == "tensorrt" and not case["sample"].startswith("golden")
    }
    assert shapes == {(n, 3, 16, 16) for n in (1, 4, 5, 16)}  # min, opt, max, and one between
    assert body["reference"] == "pytorch"
    assert {case["candidate"] for case in body["cases"]} == {"onnxruntime", "tensorrt", "golden"}
    assert body["engine"]["backend"] == "tensorrt 8.6.1"
    assert body["runners"][2]["gpu"]["name"] == "A GPU"
    assert world.cuda.memory == {}
    assert world.cuda.retained == 0


def test_every_profile_is_run(world):
    world.profiles = (WIDE, NARROW)
    body = world.body("--samples", 1)
    batches = {case["shapes"]["images"][0] for case in body["cases"]}
    assert batches == {1, 4, 5, 16, 20}


def test_golden_data_stands_in_for_pytorch(world, three_blocks):
    body = world.body("--golden", three_blocks / "fp32.npz", model=False)
    assert body["reference"] == "golden"
    assert {case["candidate"] for case in body["cases"]} == {"onnxruntime", "tensorrt"}
    assert body["warnings"] == []


def test_samples_outside_the_profiles_are_named(world, three_blocks):
    world.profiles = ({"images": ((3, 3, 16, 16),) * 3},)
    body = world.body("--golden", three_blocks / "fp32.npz", model=False)
    assert "2 of 4 samples lie outside the plan's profiles" in body["warnings"][0]
    world.profiles = (NARROW,)
    body = world.body("--golden", three_blocks / "fp32.npz", model=False, code=1)
    assert "tensorrt: nothing was compared" in body["failures"]
    assert "the engine can run none of the samples" in body["failures"]


def test_shapes_that_are_asked_for_must_be_covered(world):
    result = world.invoke("--batch", 2, "--batch", 17)
    assert result.exit_code == 2
    assert "shapes that no profile of the plan covers" in result.stderr
    assert "images=1x3x16x16:4x3x16x16:16x3x16x16" in result.stderr
    body = world.body("--batch", 2, "--samples", 1)
    assert {case["shapes"]["images"][0] for case in body["cases"]} == {2}


class TestWhoIsWrong:
    def test_the_engine_alone(self, world):
        world.damage = lambda model: set_chunk(model, 0)
        body = world.body(code=1)
        assert body["suspects"] == ["the plugin or TensorRT"]
        assert body["verdict"].endswith("; suspect: the plugin or TensorRT")
        assert "onnxruntime agrees with pytorch: look at tensorrt" in body["findings"][0]
        assert "--bisect tells which" in body["findings"][0]

    def test_the_export(self, world, three_blocks, tmp_path):
        model = onnx.load(three_blocks / "fp32.onnx")
        scale_weight(model, "head.weight")
        onnx.save(model, tmp_path / "m.onnx")
        body = world.body(code=1, onnx_file=tmp_path / "m.onnx")
        assert body["suspects"] == ["the export"]
        assert (
            "onnxruntime and tensorrt agree with each other and not with pytorch"
            in (body["findings"][0])
        )

    def test_another_model(self, world, three_blocks):
        arguments = {"depths": [1, 2], "widths": [8, 12], "chunks": [2, 0], "image_size": [16, 16]}
        options = [f"--model-arg={key}={json.dumps(value)}" for key, value in arguments.items()]
        result = world.invoke("--model", "nano", *options, model=False)
        assert result.exit_code == 1
        body = json.loads(result.stdout)
        assert body["suspects"] == ["the reference, which is another model"]
        assert "pytorch is the odd one out" in body["findings"][0]

    def test_onnxruntime(self, world, monkeypatch):
        broken_onnxruntime(monkeypatch)
        body = world.body(code=1)
        assert body["suspects"] == ["onnxruntime"]
        assert "tensorrt agrees with pytorch: look at onnxruntime" in body["findings"][0]

    def test_both_in_different_ways(self, world, monkeypatch):
        broken_onnxruntime(monkeypatch)
        world.damage = lambda model: scale_weight(model, "head.weight", 3.0)
        body = world.body(code=1)
        assert set(body["suspects"]) == {"the export", "the plugin or TensorRT"}


class TestProof:
    @pytest.mark.parametrize("precision, dtype", [("fp32", "float32"), ("fp16", "float16")])
    def test_every_plugin_is_listed_with_its_type(self, world, precision, dtype):
        body = world.body("--samples", 1, precision=precision)
        proof = body["engine_proof"]
        assert [plugin["dtype"] for plugin in proof["plugins"]] == [dtype] * BLOCKS
        assert {plugin["op_type"] for plugin in proof["plugins"]} == {"GspnProp2D"}
        assert all(plugin["milliseconds"] > 0 for plugin in proof["plugins"])
        assert {plugin["kind"] for plugin in proof["plugins"]} == {"propagation"}
        share = f"3 GspnProp2D ran, {dtype}; 25% of the layers' time in the plugin"
        assert proof["summary"] == share
        text = world.invoke("--samples", 1, precision=precision, json_=False).stdout
        assert "In the engine" in text
        assert share in " ".join(text.split())

    def test_what_was_fused_is_proven_against_the_manifest(self, world):
        def fuse(layers):
            layers += [{**layers[1], "Name": name, "ms": 0.2} for name in FUSED]

        world.change_layers = fuse
        proof = world.body("--samples", 1, precision="fp16", fused=FUSED)["engine_proof"]
        fused = [plugin for plugin in proof["plugins"] if plugin["kind"] == "fused"]
        assert {plugin["name"]: plugin["op_type"] for plugin in fused} == FUSED
        assert [(item["dtype"], item["milliseconds"]) for item in fused] == [("float16", 0.2)] * 3
        line = "3 GspnProp2D, 2 GspnDepthwiseNorm, 1 GspnChannelNorm ran, float16; 50% of the"
        assert proof["summary"].startswith(line)
        text = world.invoke("--samples", 1, precision="fp16", fused=FUSED, json_=False).stdout
        assert line in " ".join(text.split())
        assert "GspnChannelNorm_n" not in text

    def test_a_fused_layer_that_is_missing_fails(self, world):
        def fuse(layers):
            layers += [{**layers[1], "Name": name} for name in list(FUSED)[1:]]

        assert self.failures(world, fuse, fused=FUSED) == [
            f"no plugin layer in the engine: {next(iter(FUSED))}"
        ]

    def failures(self, world, change, **keywords):
        world.change_layers = change
        body = world.body("--samples", 1, code=1, **keywords)
        assert all(case["passed"] for case in body["cases"])
        return body["failures"]

    def test_a_missing_plugin_fails(self, world):
        def drop(layers):
            del layers[2]

        assert self.failures(world, drop) == [
            "no plugin layer in the engine: stages.1.blocks.0.mixer.prop2d"
        ]

    def test_a_plugin_that_did_not_run_fails(self, world):
        def idle(layers):
            layers[1]["ran"] = False

        assert self.failures(world, idle) == [
            "a plugin layer did not run: stages.0.blocks.0.mixer.prop2d"
        ]

    def test_a_propagation_that_is_no_plugin_fails(self, world):
        def fused(layers):
            layers[3]["LayerType"] = "Myelin"

        (failure,) = self.failures(world, fused)
        assert failure.startswith("a propagation is no plugin layer: stages.1.blocks.1")

    def test_another_type_fails(self, world):
        def wide(layers):
            layers[1]["Outputs"][0]["Format/Datatype"] = "Row major linear FP32"

        (failure,) = self.failures(world, wide, precision="fp16")
        assert failure.endswith("stages.0.blocks.0.mixer.prop2d in float32 instead of float16")

    def test_of_several_profiles_the_layer_that_ran_counts(self, world):
        def twice(layers):
            other = [
                {**layer, "Name": layer["Name"] + " [profile 1]", "ran": False}
                for layer in layers[1:]
            ]
            for layer in layers[1:]:
                layer["Name"] += " [profile 0]"
            layers[:0] = other

        world.change_layers = twice
        proof = world.body("--samples", 1)["engine_proof"]
        assert proof["summary"].startswith("3 GspnProp2D ran, float32")

    def test_types_that_tensorrt_does_not_tell_are_unproven(self, world):
        def quiet(layers):
            for layer in layers:
                layer.pop("Outputs", None)
                layer["LayerType"] = ""

        world.change_layers = quiet
        body = world.body("--samples", 1)
        assert "does not tell the types of 3 plugin layers" in body["warnings"][0]


class TestBadPlans:
    def test_a_plan_of_another_file(self, world):
        result = world.invoke(onnx_sha256="00")
        assert result.exit_code == 2
        assert "fp32.onnx is not the file that the plan was built from" in result.stderr

    @pytest.mark.parametrize(
        "changes, kind",
        [
            ({"backend_version": "10.0.0"}, "PlanVersionError"),
            ({"compute_capabilities": ("8.9",)}, "PlanGpuError"),
            ({"plan_sha256": "00"}, "ManifestError"),
        ],
    )
    def test_a_plan_that_does_not_fit(self, world, changes, kind):
        result = world.invoke(**changes)
        assert result.exit_code == 2
        assert json.loads(result.stdout)["error"]["type"] == kind

    def test_no_gpu(self, world):
        world.cuda.devices = 0
        result = world.invoke()
        assert result.exit_code == 3
        assert json.loads(result.stdout)["error"]["type"] == "NoGpuError"


def test_the_steps_for_a_gpu_run_on_the_stand_in(world, three_blocks, tmp_path, capsys):
    """What tests/runners/run_on_gpu.py does is sound before it meets a GPU."""
    from runners import run_on_gpu

    plan = world.build(three_blocks / "fp32.onnx", tmp_path / "m.plan")
    golden = three_blocks / "fp32.npz"
    code = run_on_gpu.main(str(plan), str(golden))
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    assert [line.split()[1].rstrip(":") for line in lines] == list(run_on_gpu.STEPS)
    world.change_layers = lambda layers: layers.pop()
    assert run_on_gpu.main(str(plan), str(golden)) == 1
    assert "FAILED  layers: AssertionError: 2 of 3 plugin layers ran" in capsys.readouterr().out
