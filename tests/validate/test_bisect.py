"""Errors planted in a known block are found there: in onnxruntime, in a stand-in for TensorRT."""

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from gspn2_deploy.export import ExportOptions, export_onnx
from runners.tensorrt_fakes import install
from validate.engine_double import (
    Factory,
    bisect_without_torch,
    is_alone,
    is_marked,
    scale_weight,
    set_chunk,
)

from gspn2_deploy.cli.app import app
from gspn2_deploy.manifest import Manifest, manifest_path
from gspn2_deploy.models import model_from_checkpoint

BLOCKS = [
    "stages.0.blocks.0.mixer.prop2d",
    "stages.1.blocks.0.mixer.prop2d",
    "stages.1.blocks.1.mixer.prop2d",
]
IMAGES = {"images": ((1, 3, 16, 16), (2, 3, 16, 16), (4, 3, 16, 16))}


def validate(folder, onnx_file, *options, model=True):
    source = ["--checkpoint", folder / "model.safetensors"] if model else []
    arguments = ["--quiet", "validate", onnx_file, *source, "--samples", 1, "--json", *options]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code in (0, 1), result.output
    return result.exit_code, json.loads(result.stdout)


def damaged(folder, target, damage, precision="fp32"):
    model = onnx.load(folder / f"{precision}.onnx")
    damage(model)
    onnx.save(model, target)
    return target


class TestOnnxruntime:
    """Against live PyTorch; no engine."""

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
    def test_a_sound_file_has_no_bad_block(self, three_blocks, precision):
        code, body = validate(three_blocks, three_blocks / f"{precision}.onnx", "--bisect")
        assert code == 0
        (found,) = body["bisections"]
        assert [block["name"] for block in found["blocks"]] == BLOCKS
        assert found["first_bad"] is found["suspect"] is found["reproduced"] is None
        assert (found["candidate"], found["reference"]) == ("onnxruntime", "pytorch")
        assert found["exact"] == "PyTorch in float64"
        assert body["suspects"] == []

    @pytest.mark.parametrize("index", [0, 1, 2])
    @pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
    def test_a_wrong_op_is_found_in_its_block(self, three_blocks, tmp_path, index, precision):
        path = damaged(
            three_blocks, tmp_path / "m.onnx", lambda model: set_chunk(model, index), precision
        )
        code, body = validate(three_blocks, path, "--bisect")
        assert code == 1
        (found,) = body["bisections"]
        assert found["first_bad"] == BLOCKS[index]
        assert found["suspect"] == "the op's function body"
        assert "wrong on the very inputs that it was fed, and alone too" in found["because"]
        calls = "its node says chunk=1, and PyTorch calls it with chunk="
        assert f"{calls}{(2, 0, 0)[index]}" in found["because"]
        assert found["because"] in body["findings"]
        assert body["suspects"][0] == "the op's function body"
        if precision == "fp32":
            assert found["reproduced"] is True
            assert body["verdict"].endswith(f"; suspect: the op's function body in {BLOCKS[index]}")
        else:  # within the tolerance of the outputs, and wrong all the same
            assert f"onnxruntime: {BLOCKS[index]}" in body["failures"][0]

    @pytest.mark.parametrize(
        "part, index, words",
        [
            ("stages.0.blocks.0.mixer.depthwise.weight", 0, "the layers before stages.0"),
            ("stages.0.blocks.0.mixer.reduce.weight", 1, f"the layers between {BLOCKS[0]} and"),
            ("stages.1.blocks.1.mixer.to_proxy.weight", 2, f"the layers between {BLOCKS[1]} and"),
        ],
    )
    def test_wrong_layers_are_found_before_their_block(
        self, three_blocks, tmp_path, part, index, words
    ):
        path = damaged(three_blocks, tmp_path / "m.onnx", lambda model: scale_weight(model, part))
        code, body = validate(three_blocks, path, "--bisect")
        assert code == 1
        (found,) = body["bisections"]
        assert found["first_bad"] == BLOCKS[index]
        assert words in found["because"]
        assert found["suspect"] == "the export"
        assert [block["op"]["reasons"] for block in found["blocks"]] == [[], [], []]

    def test_wrong_layers_behind_the_last_block(self, three_blocks, tmp_path):
        path = damaged(
            three_blocks, tmp_path / "m.onnx", lambda model: scale_weight(model, "head.weight")
        )
        code, body = validate(three_blocks, path, "--bisect")
        assert code == 1
        (found,) = body["bisections"]
        assert found["first_bad"] is None
        assert f"the layers behind {BLOCKS[2]} are wrong" in found["because"]

    def test_the_table_shows_every_block(self, three_blocks):
        arguments = ["validate", three_blocks / "fp32.onnx", "--bisect", "--samples", "1"]
        source = ["--checkpoint", three_blocks / "model.safetensors"]
        result = CliRunner().invoke(app, list(map(str, [*arguments, *source])))
        assert result.exit_code == 0, result.output
        for name in (*BLOCKS, "op on its inputs", "all 3 blocks are right"):
            assert name in result.stdout

    def test_the_files_can_be_kept(self, three_blocks, tmp_path):
        options = ["--bisect", "--bisect-folder", tmp_path / "kept"]
        validate(three_blocks, three_blocks / "fp32.onnx", *options)
        names = {path.name for path in (tmp_path / "kept").iterdir()}
        assert names == {"marked.onnx", "alone.onnx"}

    @pytest.mark.parametrize("place", ["kept", "."])
    def test_the_folder_can_be_used_again_with_weights_beside_the_file(
        self, three_blocks, tmp_path, place
    ):
        model = model_from_checkpoint(three_blocks / "model.safetensors")
        report = export_onnx(model, tmp_path / "x.onnx", ExportOptions(external_data_bytes=1000))
        (name,) = report.summary.external_data
        weights = (tmp_path / name).read_bytes()
        options = ["--bisect", "--bisect-folder", tmp_path / place]
        for _ in range(2):
            assert validate(three_blocks, tmp_path / "x.onnx", *options)[0] == 0
        (tmp_path / place / "older.data").write_bytes(b"of an older file")
        if place == "kept":  # where another file of that name is in the way, it alone goes
            (tmp_path / place / "older.data").replace(tmp_path / place / name)
            assert validate(three_blocks, tmp_path / "x.onnx", *options)[0] == 0
        assert (tmp_path / place / name).read_bytes() == (tmp_path / name).read_bytes() == weights

    @pytest.mark.parametrize("name", ["marked", "alone-widened"])
    def test_the_folders_files_do_not_replace_the_users(self, three_blocks, tmp_path, name):
        path = damaged(three_blocks, tmp_path / f"{name}.onnx", lambda model: None)
        before = path.read_bytes()
        arguments = ["--quiet", "validate", path, "--bisect", "--bisect-folder", tmp_path / "."]
        source = ["--checkpoint", three_blocks / "model.safetensors"]
        result = CliRunner().invoke(app, list(map(str, [*arguments, *source])))
        assert result.exit_code == 2
        assert "--bisect-folder would replace the file of ONNX_FILE" in result.stderr
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "options, words",
        [
            (["--golden", "fp32.npz", "--bisect"], "golden data holds outputs only"),
            (["--checkpoint", "model.safetensors", "--bisect-folder", "x"], "add --bisect"),
        ],
    )
    def test_wrong_usage(self, three_blocks, options, words):
        given = [
            three_blocks / option if option.startswith(("fp32", "model")) else option
            for option in options
        ]
        arguments = ["--quiet", "validate", three_blocks / "fp32.onnx", *given]
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 2
        assert words in result.stderr

    def test_a_model_that_runs_other_propagations(self, three_blocks):
        arguments = ["validate", three_blocks / "fp32.onnx", "--model", "nano", "--bisect"]
        extra = ["--model-arg", "image_size=[16,16]", "--model-arg", "depths=[1,1,1]"]
        extra += ["--model-arg", "widths=[8,12,16]", "--model-arg", "chunks=[2,0,0]"]
        result = CliRunner().invoke(app, list(map(str, [*arguments, *extra])))
        assert result.exit_code in (1, 2)
        assert "is not the one that" in result.output or "do" in result.stderr


@pytest.fixture
def world(monkeypatch, three_blocks, tmp_path):
    """A stand-in for TensorRT, and a function that validates a plan of it."""
    factory = Factory(monkeypatch, (IMAGES,))

    def run(*options, precision="fp32", model=True, onnx_file=None):
        source = onnx_file or three_blocks / f"{precision}.onnx"
        plan = factory.build(source, tmp_path / "m.plan")
        return validate(three_blocks, source, "--engine", plan, *options, model=model)

    factory.validate = run
    return factory


class TestEngine:
    """onnxruntime and PyTorch agree; the engine may not."""

    def test_a_sound_engine_has_no_bad_block(self, world):
        code, body = world.validate("--bisect")
        assert code == 0, body["verdict"]
        assert [item["candidate"] for item in body["bisections"]] == ["onnxruntime", "tensorrt"]
        assert [item["suspect"] for item in body["bisections"]] == [None, None]
        assert world.built == ["marked.onnx", "alone.onnx"]
        assert world.cuda.memory == {}

    def test_a_wrong_plugin_is_told_from_tensorrt(self, world):
        world.damage = lambda model: set_chunk(model, 1)
        code, body = world.validate("--bisect")
        assert code == 1
        ort, engine = body["bisections"]
        assert ort["suspect"] is None
        assert (engine["first_bad"], engine["suspect"]) == (BLOCKS[1], "the plugin")
        assert "and alone too" in engine["because"]
        assert body["suspects"] == ["the plugin"]
        assert "suspect: the plugin" in body["verdict"]

    def test_a_plugin_that_is_right_alone_and_wrong_in_its_place(self, world):
        world.damage = lambda model: None if is_alone(model) else set_chunk(model, 1)
        _, body = world.validate("--bisect")
        engine = body["bisections"][1]
        assert (engine["first_bad"], engine["suspect"]) == (BLOCKS[1], "the plugin")
        assert "right alone on the reference's: its place in the model" in engine["because"]

    def test_wrong_layers_are_tensorrts(self, world):
        world.damage = lambda model: scale_weight(model, "stages.1.blocks.0.mixer.expand.weight")
        _, body = world.validate("--bisect")
        engine = body["bisections"][1]
        assert (engine["first_bad"], engine["suspect"]) == (BLOCKS[1], "TensorRT")
        assert body["suspects"] == ["TensorRT"]

    def test_what_marking_mends_is_tensorrts_fusion(self, world):
        def damage(model):
            if not is_marked(model):
                scale_weight(model, "head.weight")

        world.damage = damage
        _, body = world.validate("--bisect")
        engine = body["bisections"][1]
        assert (engine["reproduced"], engine["suspect"]) == (False, "TensorRT")
        assert "how TensorRT fuses or places the layers is wrong" in engine["because"]

    def test_golden_data_is_enough_beside_onnxruntime(self, world, three_blocks):
        world.damage = lambda model: set_chunk(model, 2)
        golden = ["--golden", three_blocks / "fp32.npz"]
        code, body = world.validate("--bisect", *golden, model=False)
        assert code == 1
        (engine,) = body["bisections"]
        assert (engine["candidate"], engine["reference"]) == ("tensorrt", "onnxruntime")
        assert (engine["first_bad"], engine["suspect"]) == (BLOCKS[2], "the plugin")

    def test_an_engine_is_not_blamed_for_a_file_that_golden_data_contradicts(
        self, world, three_blocks, tmp_path
    ):
        model = onnx.load(three_blocks / "fp32.onnx")
        scale_weight(model, "head.weight")
        onnx.save(model, tmp_path / "m.onnx")
        golden = ["--golden", three_blocks / "fp32.npz"]
        code, body = world.validate("--bisect", *golden, model=False, onnx_file=tmp_path / "m.onnx")
        assert code == 1
        assert [item["suspect"] for item in body["bisections"]] == [None]
        assert body["suspects"] == ["the export"]


def test_none_of_it_needs_pytorch(three_blocks, tmp_path):
    (engine,) = bisect_without_torch(
        three_blocks, three_blocks / "fp32.onnx", tmp_path / "m.plan", IMAGES, "set_chunk(model, 1)"
    )
    assert engine["exact"] == "the op's body in float32, by onnxruntime"
    assert (engine["first_bad"], engine["suspect"]) == (BLOCKS[1], "the plugin")


def test_engines_are_built_like_the_one_that_is_looked_into(three_blocks, tmp_path, monkeypatch):
    from gspn2_deploy.build import BuildOptions
    from gspn2_deploy.validate.executors import build_like

    seen = []
    monkeypatch.setattr("gspn2_deploy.build.build_engine", lambda *a, **k: seen.append((a, k)))
    asked = BuildOptions(
        optimization_level=5,
        embed_plugin=True,
        weights="stripped",
        tf32=True,
        timing_cache_path=Path("of-the-user"),
    )
    factory = Factory.__new__(Factory)
    factory.profiles, factory.machine = (IMAGES,), install(monkeypatch)
    of_before = {"pack": False}  # an option that is no more
    options = asked.to_dict() | of_before
    del options["timing_iterations"]  # nor is one that is newer
    changes = {"options": options, "workspace_bytes": 3 << 20}
    plan = factory.build(three_blocks / "fp32.onnx", tmp_path / "m.plan", **changes)
    manifest = Manifest.load(manifest_path(plan))
    build_like(manifest, Path("a.onnx"), Path("a.plan"), manifest.profiles)
    ((where, how),) = seen
    assert where == (Path("a.onnx"), Path("a.plan"))
    assert (how["backend"], how["workspace_mib"]) == ("tensorrt", 3)
    assert how["profiles"] == manifest.profiles
    expected = BuildOptions(optimization_level=5, timing_iterations=1, tf32=True, fuse=False)
    assert how["options"] == expected
