"""``gspn2-deploy bench``: measured for real on the CPU; engines are stand-ins."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx
from onnx import numpy_helper
from validate.engine_double import Factory

from gspn2_deploy.bench import machine
from gspn2_deploy.bench.machine import Device
from gspn2_deploy.cli.app import app
from gspn2_deploy.models import create_model, save_checkpoint

ARGUMENTS = {"depths": [1], "widths": [8], "chunks": [0], "image_size": [16, 16]}
QUICK = ["--iterations", 3, "--seconds", 0, "--warmup", 1]
PROFILE = {"images": ((1, 3, 16, 16), (2, 3, 16, 16), (4, 3, 16, 16))}
H200 = Device("gpu", "NVIDIA H200", compute_capability="9.0", driver="580")
H100 = Device("gpu", "NVIDIA H100", compute_capability="9.0", driver="580")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    torch.manual_seed(3)
    model = create_model("nano", **ARGUMENTS).eval()
    save_checkpoint(model, folder / "model.safetensors")
    export_onnx(model, folder / "fp32.onnx", ExportOptions(dynamic_size=True))
    export_onnx(model, folder / "fp16.onnx", ExportOptions(precision=PrecisionPlan("fp16")))
    return folder


def invoke(*arguments, quick=True):
    options = [*map(str, arguments), *(map(str, QUICK) if quick else ())]
    return CliRunner().invoke(app, ["--quiet", "bench", *options])


def rows(*arguments, code=0):
    result = invoke(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)["rows"]


def checkpoint(folder):
    return ["--checkpoint", folder / "model.safetensors"]


class TestOnTheCpu:
    def test_pytorch_and_onnxruntime_side_by_side(self, exported):
        found = rows(exported / "fp32.onnx", *checkpoint(exported), "--batch", 1, "--batch", 3)
        assert [(row["subject"], row["items"]) for row in found] == [
            ("pytorch eager", 1),
            ("pytorch eager", 3),
            ("onnxruntime", 1),
            ("onnxruntime", 3),
        ]
        for row in found:
            latency = row["latency_ms"]
            assert 0 < latency["min"] <= latency["median"] <= latency["p90"] <= latency["p99"]
            assert latency["runs"] == 3
            assert row["items_per_second"] == pytest.approx(row["items"] * row["runs_per_second"])
            assert row["device"]["kind"] == "cpu"
            assert row["shapes"]["images"][1:] == [3, 16, 16]
            assert row["compute_ms"] is None
        assert [row["agrees_with_first"] for row in found] == [None, None, True, True]

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_pytorch_runs_in_the_files_precision(self, exported, precision):
        found = rows(exported / f"{precision}.onnx", *checkpoint(exported))
        dtype = {"fp32": "float32", "fp16": "float16"}[precision]
        assert found[0]["description"]["parameter_dtypes"] == [dtype]
        assert found[1]["agrees_with_first"] is True
        assert found[0]["model"] == f"nano in {precision}"

    def test_sizes(self, exported):
        sizes = ["--image-size", "16x24", "--image-size", "32"]
        found = rows(exported / "fp32.onnx", *sizes)
        assert [row["shapes"]["images"] for row in found] == [[1, 3, 16, 24], [1, 3, 32, 32]]

    def test_the_table_and_the_report(self, exported, tmp_path):
        report = tmp_path / "new" / "bench.json"
        result = invoke(exported / "fp32.onnx", *checkpoint(exported), "--report", report)
        assert result.exit_code == 0, result.output
        for text in ("pytorch eager", "onnxruntime", "images/s", "cores of", "nano in fp32"):
            assert text in result.stdout
        assert "compute" not in result.stdout.split("latency:")[0]
        body = json.loads(report.read_text())
        assert body["kind"] == "gspn2-deploy benchmark"
        assert body["machine"]["software"]["torch"]
        assert body["effort"] == {"warmup": 1, "iterations": 3, "seconds": 0.0}

    def test_an_unwritable_report_takes_no_figures_along(self, exported, tmp_path):
        (tmp_path / "file").write_text("")
        result = invoke(exported / "fp32.onnx", "--report", tmp_path / "file" / "x.json", "--json")
        assert result.exit_code == 3
        assert "cannot write" in result.stderr
        assert json.loads(result.stdout)["rows"]
        result = invoke(exported / "fp32.onnx", "--report", exported / "fp32.onnx")
        assert result.exit_code == 2
        assert "--report would replace the file of ONNX_FILE" in result.stderr

    def test_executors_can_be_left_out(self, exported):
        given = [exported / "fp32.onnx", *checkpoint(exported)]
        assert [row["subject"] for row in rows(*given, "--no-eager")] == ["onnxruntime"]
        assert [row["subject"] for row in rows(*given, "--no-onnxruntime")] == ["pytorch eager"]
        result = invoke(*given, "--no-onnxruntime", "--no-eager")
        assert result.exit_code == 2
        assert "nothing is left to measure" in result.stderr

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # PyTorch's own
    def test_compiled(self, exported):
        found = rows(exported / "fp32.onnx", *checkpoint(exported), "--compile", "default")
        assert [row["subject"] for row in found] == [
            "pytorch eager",
            "pytorch compiled (default)",
            "onnxruntime",
        ]
        assert found[1]["agrees_with_first"] is True
        assert found[1]["prepare_seconds"] > found[0]["prepare_seconds"]

    def test_other_outputs_are_pointed_out(self, exported, tmp_path):
        model = onnx.load(exported / "fp32.onnx")
        weight = next(item for item in model.graph.initializer if "head.weight" in item.name)
        values = numpy_helper.to_array(weight) * np.float32(2)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        onnx.save(model, tmp_path / "m.onnx")
        result = invoke(tmp_path / "m.onnx", *checkpoint(exported), "--json")
        body = json.loads(result.stdout)
        assert body["rows"][1]["agrees_with_first"] is False
        assert any("gives something else than pytorch eager" in item for item in body["warnings"])

    def test_a_file_that_was_altered_is_told_of_once(self, exported, tmp_path, caplog):
        model = onnx.load(exported / "fp32.onnx")
        model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
        onnx.save(model, tmp_path / "m.onnx")
        words = "the weights in m.onnx are not those that were exported"
        result = invoke(tmp_path / "m.onnx", "--report", tmp_path / "bench.json")
        assert result.exit_code == 0, result.output
        assert sum(words in record.getMessage() for record in caplog.records) == 1
        assert words not in result.stdout
        body = json.loads((tmp_path / "bench.json").read_text())
        assert sum(words in item for item in body["warnings"]) == 1

    def test_a_sound_file_is_not_warned_of(self, exported, caplog):
        body = json.loads(invoke(exported / "fp32.onnx", "--json").stdout)
        assert not any("exported" in item for item in body["warnings"])
        assert caplog.records == []

    def test_the_configuration_mirrors_the_options(self, exported, tmp_path):
        config = tmp_path / "gspn2.toml"
        config.write_text(
            f'[bench]\nonnx-file = "{exported / "fp32.onnx"}"\nbatch = [2]\nseconds = 0\n'
            "iterations = 2\nno-graph = true\nlayers = false\nallow-different-devices = false\n"
        )
        arguments = ["--quiet", "--config", str(config), "bench", "--json"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        (row,) = json.loads(result.stdout)["rows"]
        assert (row["items"], row["latency_ms"]["runs"]) == (2, 2)


class TestWrongUse:
    @pytest.mark.parametrize(
        "arguments, words",
        [
            ([], "there is nothing to measure"),
            (["{fp32}", "--compile", "default"], "--compile needs the PyTorch model"),
            (["{fp32}", "--compile", "default", "--tf32"], "--compile and --tf32 need the PyTorch"),
            (["{fp32}", "--layers"], "--layers needs an engine"),
            (["--add", "{fp32}", "--onnxruntime"], "--onnxruntime needs an ONNX file"),
            (["--engine", "x.plan", "--provider", "P"], "--provider needs an ONNX file"),
            (["{fp32}", "--no-onnxruntime", "--provider", "P"], "which --no-onnxruntime leaves"),
            (["--model", "nano"], "give the file that the model was exported to"),
            (["{fp32}", "--device", "tpu"], "no such device"),
            (["{fp32}", "--device", "cpu:1"], "no such device"),
            (["{fp32}", "--provider", "CUDAExecutionProvider"], "does not run where --device"),
            (["{folder}/none.onnx"], "none.onnx does not exist"),
            (["{fp32}", "--add", "{folder}/none.json"], "none.json cannot be read"),
            (["{fp32}", "--add", "{fp32}"], "cannot be read"),
            (["{fp16}", "--image-size", "24"], "fixes axis 2"),
            (["{fp32}", "--model", "nano"], "its configuration differs"),
        ],
    )
    def test_it_is_named(self, exported, arguments, words):
        places = {
            "folder": exported,
            "fp32": exported / "fp32.onnx",
            "fp16": exported / "fp16.onnx",
        }
        result = invoke(*(item.format(**places) for item in arguments))
        assert result.exit_code == 2, result.output
        assert words in result.stderr

    def test_a_gpu_that_is_not_there(self, exported):
        device = ["--device", "cuda", "--no-onnxruntime"]
        result = invoke(exported / "fp32.onnx", *checkpoint(exported), *device)
        assert result.exit_code == 3
        assert "PyTorch sees no GPU" in result.stderr

    def test_a_file_that_is_no_benchmark(self, exported, tmp_path):
        for content, words in (
            ("{}", "is not the report of a benchmark"),
            ('{"kind": "gspn2-deploy benchmark", "schema": 9}', "unknown schema"),
            ('{"kind": "gspn2-deploy benchmark", "schema": 1, "rows": [{}]}', "is damaged"),
        ):
            (tmp_path / "x.json").write_text(content)
            result = invoke(exported / "fp32.onnx", "--add", tmp_path / "x.json")
            assert result.exit_code == 2
            assert words in result.stderr


@pytest.fixture
def gpu(monkeypatch, exported, tmp_path):
    """A stand-in for TensorRT on an H200."""
    factory = Factory(monkeypatch, (PROFILE,))
    factory.device = H200
    monkeypatch.setattr(machine, "gpu_device", lambda bus_id=None: factory.device)
    monkeypatch.setattr("gspn2_deploy.bench.engine.gpu_device", lambda bus_id: factory.device)
    factory.plan = factory.build(exported / "fp32.onnx", tmp_path / "m.plan")
    return factory


class TestEngines:
    def test_a_plan_alone_is_enough(self, gpu):
        found = rows("--engine", gpu.plan, "--batch", 1, "--batch", 4)
        assert [(row["subject"], row["items"]) for row in found] == [
            ("tensorrt", 1),
            ("tensorrt", 4),
            ("tensorrt graph", 1),
            ("tensorrt graph", 4),
        ]
        for row in found:
            assert row["device"]["name"] == "NVIDIA H200"
            assert row["compute_ms"]["median"] == pytest.approx(
                1.5 if "graph" in row["subject"] else 2.0
            )
            assert row["copy_in_ms"]["median"] == pytest.approx(0.25)
        assert [row["agrees_with_first"] for row in found] == [None, None, True, True]
        assert gpu.cuda.memory == {}

    def test_onnxruntime_without_the_gpus_provider_is_left_out_and_said(self, gpu, exported):
        given = [exported / "fp32.onnx", "--engine", gpu.plan, "--no-graph"]
        result = invoke(*given, "--json")
        assert result.exit_code == 0, result.output
        body = json.loads(result.stdout)
        assert [row["subject"] for row in body["rows"]] == ["tensorrt"]
        assert "has no CUDAExecutionProvider" in body["warnings"][0]
        result = invoke(*given, "--onnxruntime")
        assert result.exit_code == 3
        assert "onnxruntime-gpu" in result.stderr

    def test_where_nothing_else_is_left_it_says_what_to_install(self, exported, monkeypatch):
        given = [exported / "fp32.onnx", "--device", "cuda"]
        result = invoke(*given)
        assert result.exit_code == 3
        text = " ".join(result.stderr.split())
        assert "left to measure: onnxruntime was left out: this build of it has no CUDA" in text
        assert "pip uninstall onnxruntime && pip install 'gspn2-deploy[onnxruntime-gpu]'" in text
        assert "or leave out --device to run on the CPU" in text
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        result = invoke(exported / "fp32.onnx")
        assert result.exit_code == 3
        text = " ".join(result.stderr.split())
        assert "onnxruntime was left out: it is not installed" in text
        assert "fix: pip install 'gspn2-deploy[onnxruntime]'; or add one of these" in text

    def test_the_table_has_the_phases_and_the_ratio(self, gpu):
        result = invoke("--engine", gpu.plan)
        assert result.exit_code == 0, result.output
        for text in ("NVIDIA H200", "compute", "copies", "2.000", "1.500", "1.33x"):
            assert text in result.stdout

    def test_layers_and_the_propagations_share(self, gpu):
        result = invoke("--engine", gpu.plan, "--layers")
        assert "10.0%" in result.stdout
        assert "the propagation's share is 10%" in " ".join(result.stdout.split())
        body = json.loads(invoke("--engine", gpu.plan, "--layers", "--json").stdout)
        (table,) = body["layers"]  # a graph has the same layers
        assert table["propagation_share"] == pytest.approx(0.1)
        assert table["groups"] == {"convolution": 0.9, "propagation": 0.1}

    def test_several_plans_are_told_apart(self, gpu, exported, tmp_path):
        other = gpu.build(exported / "fp32.onnx", tmp_path / "other.plan")
        found = rows("--engine", gpu.plan, "--engine", other, "--no-graph")
        assert [row["subject"] for row in found] == ["tensorrt m", "tensorrt other"]

    def test_plans_of_several_files_are_not_compared(self, gpu, exported, tmp_path):
        other = gpu.build(exported / "fp16.onnx", tmp_path / "other.plan")
        result = invoke("--engine", gpu.plan, "--engine", other)
        assert result.exit_code == 2
        assert "built from several ONNX files" in result.stderr
        result = invoke(exported / "fp16.onnx", "--no-onnxruntime", "--engine", gpu.plan)
        assert result.exit_code == 2
        assert "is not the file that the plan was built from" in result.stderr

    def test_a_shape_outside_the_profile_is_a_row_that_failed(self, gpu):
        result = invoke("--engine", gpu.plan, "--no-graph", "--batch", 2, "--batch", 9, "--json")
        assert result.exit_code == 3
        good, bad = json.loads(result.stdout)["rows"]
        assert good["error"] is None
        assert "no profile of the plan covers" in bad["error"]
        assert bad["latency_ms"] is None
        assert "no figures for tensorrt" in result.stderr
        text = invoke("--engine", gpu.plan, "--no-graph", "--batch", 9).stdout
        assert "failed" in text


class TestDevices:
    def test_several_are_refused_before_anything_runs(self, gpu, exported):
        given = [exported / "fp32.onnx", *checkpoint(exported), "--engine", gpu.plan]
        result = invoke(*given, "--device", "cpu")
        assert result.exit_code == 2
        assert "several devices" in result.stderr
        assert "cpu: pytorch eager, onnxruntime; cuda:0: tensorrt" in result.stderr

    def test_they_are_shown_together_where_asked_and_not_compared(self, gpu, exported):
        given = [exported / "fp32.onnx", *checkpoint(exported), "--engine", gpu.plan]
        allowed = ["--device", "cpu", "--allow-different-devices", "--no-graph"]
        result = invoke(*given, *allowed)
        assert result.exit_code == 0, result.output
        text = result.stdout
        assert "rows of several devices are not compared" in " ".join(text.split())
        engine = next(line for line in text.splitlines() if line.startswith("tensorrt "))
        assert "GPU" in engine
        assert not engine.rstrip().endswith("x")

    def test_earlier_rows_of_the_same_device_are_compared(self, gpu, tmp_path):
        report = tmp_path / "first.json"
        rows("--engine", gpu.plan, "--no-graph", "--report", report)
        result = invoke("--engine", gpu.plan, "--add", report, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)["rows"]
        assert [row["earlier"] for row in found] == [str(report), None, None]
        text = invoke("--engine", gpu.plan, "--add", report).stdout
        assert "1.33x" in text
        merged = invoke("--add", report, "--json")
        assert merged.exit_code == 0
        assert len(json.loads(merged.stdout)["rows"]) == 1

    def test_earlier_rows_of_another_device_are_refused_at_once(self, gpu, tmp_path):
        report = tmp_path / "first.json"
        rows("--engine", gpu.plan, "--report", report)
        gpu.device = H100
        gpu.load = None  # nothing may run
        result = invoke("--engine", gpu.plan, "--add", report)
        assert result.exit_code == 2
        assert "several devices" in result.stderr
        assert "NVIDIA H200 (driver 580)" in result.stderr

    def test_another_driver_is_another_device(self, gpu, tmp_path):
        report = tmp_path / "first.json"
        rows("--engine", gpu.plan, "--report", report)
        gpu.device = dataclasses.replace(H200, driver="590")
        assert invoke("--engine", gpu.plan, "--add", report).exit_code == 2

    def test_another_model_or_precision_is_refused(self, exported, tmp_path):
        report = tmp_path / "first.json"
        rows(exported / "fp32.onnx", "--report", report)
        result = invoke(exported / "fp16.onnx", "--add", report)
        assert result.exit_code == 2
        assert "nano in fp32; nano in fp16" in result.stderr


def test_engines_are_measured_without_pytorch_and_onnx(exported, tmp_path):
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxscript"):
            raise ImportError("not installed here")
sys.meta_path.insert(0, Refuse())
sys.path[:0] = [{str(Path(__file__).parents[1])!r}]
import json
from pathlib import Path
import pytest
from click.testing import CliRunner
from validate.engine_double import Factory
from gspn2_deploy.bench import engine
from gspn2_deploy.bench.machine import Device
from gspn2_deploy.cli.app import app
with pytest.MonkeyPatch.context() as patch:
    factory = Factory(patch, ({PROFILE!r},))
    patch.setattr(engine, "gpu_device", lambda bus_id: Device("gpu", "A GPU"))
    plan = factory.build(Path({str(exported / "fp32.onnx")!r}), Path({str(tmp_path / "m.plan")!r}))
    arguments = ["--quiet", "bench", "--engine", str(plan), "--layers", "--seconds", "0"]
    result = CliRunner().invoke(app, [*arguments, "--iterations", "2", "--json"])
assert result.exit_code == 0, result.output
print(len(json.loads(result.stdout)["rows"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "2"
