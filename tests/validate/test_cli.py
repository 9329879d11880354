"""``gspn2-deploy validate`` on an exported model: every way to fail, with its exit code."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx
from onnx import numpy_helper

from gspn2_deploy.cli.app import app
from gspn2_deploy.golden import GoldenSamples
from gspn2_deploy.models import create_model, load_checkpoint, save_checkpoint
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner

MODEL_ARGUMENTS = {"depths": [1, 1], "widths": [8, 12], "chunks": [2, 0], "image_size": [16, 16]}
CLASSES = 10


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model: its checkpoint, its ONNX files by precision, and golden data."""
    folder = tmp_path_factory.mktemp("exported")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the maps are tiny: more threads only wait for one another
    torch.manual_seed(7)
    model = create_model("nano", **MODEL_ARGUMENTS).eval()
    with torch.no_grad():  # logits that differ between images, as after training
        model.head.weight.mul_(20)
    save_checkpoint(model, folder / "model.safetensors")
    export_onnx(
        model,
        folder / "fp32.onnx",
        ExportOptions(dynamic_size=True, golden=folder / "golden.npz"),
    )
    export_onnx(model, folder / "fp16.onnx", ExportOptions(precision=PrecisionPlan("fp16")))
    yield folder
    torch.set_num_threads(threads)


def invoke(*arguments):
    return CliRunner().invoke(app, ["--quiet", "validate", *map(str, arguments)])


def checkpoint(trained):
    return ["--checkpoint", trained / "model.safetensors"]


def perturbed(trained, path, name_part, change):
    """Write a copy of the fp32 file with one weight changed."""
    model = onnx.load(trained / "fp32.onnx")
    weight = next(item for item in model.graph.initializer if name_part in item.name)
    values = numpy_helper.to_array(weight).copy()
    change(values.reshape(-1))
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)
    return path


def test_the_exported_file_passes_against_model_and_golden(trained, tmp_path):
    report = tmp_path / "new" / "report.json"
    result = invoke(
        trained / "fp32.onnx",
        *checkpoint(trained),
        *("--golden", trained / "golden.npz", "--report", report, "--json"),
    )
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert json.loads(report.read_text()) == body
    assert body["passed"]
    assert body["onnx"]["precision"] == "fp32"
    assert body["reference"] == "pytorch"
    assert {case["candidate"] for case in body["cases"]} == {"onnxruntime", "golden"}
    shapes = {tuple(case["shapes"]["images"]) for case in body["cases"]}
    assert {(1, 3, 16, 16), (3, 3, 16, 16), (1, 3, 21, 24), (3, 3, 21, 24)} <= shapes
    assert body["failures"] == body["warnings"] == body["findings"] == []


def test_the_table_is_printed_without_json(trained):
    result = invoke(trained / "fp32.onnx", *checkpoint(trained), "--samples", 1)
    assert result.exit_code == 0, result.output
    assert "Compared with pytorch" in result.stdout
    assert "PASS: onnxruntime equals pytorch" in result.stdout
    assert result.stderr == ""


def test_golden_alone_is_enough(trained):
    result = invoke(trained / "fp32.onnx", "--golden", trained / "golden.npz", "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["reference"] == "golden"
    assert len(body["cases"]) == len(GoldenSamples.load(trained / "golden.npz").samples)


def test_half_precision_by_the_table_and_calibrated(trained):
    table = invoke(trained / "fp16.onnx", *checkpoint(trained), "--json")
    assert table.exit_code == 0, table.output
    calibrated = invoke(trained / "fp16.onnx", *checkpoint(trained), "--calibrate", "--json")
    assert calibrated.exit_code == 0, calibrated.output
    body = json.loads(calibrated.stdout)
    assert body["tolerance"]["source"].startswith("calibrated")
    assert 0 < body["calibration"]["spread"] < 0.05
    assert json.loads(table.stdout)["calibration"] is None


@pytest.mark.parametrize("golden", [False, True])
def test_one_perturbed_weight_fails(trained, tmp_path, golden):
    def change(values):
        values[3] += 0.05 * np.abs(values).max()

    path = perturbed(trained, tmp_path / "model.onnx", "head.weight", change)
    against = ["--golden", trained / "golden.npz"] if golden else checkpoint(trained)
    result = invoke(path, *against)
    assert result.exit_code == 1
    assert "FAIL: onnxruntime differs from" in result.stdout
    assert "are not those that were exported" in " ".join(result.stdout.split())
    assert "Error: FAIL" in result.stderr
    assert "Traceback" not in result.output


def test_a_failure_prints_one_json_document(trained, tmp_path):
    def change(values):
        values[0] = np.nan

    path = perturbed(trained, tmp_path / "model.onnx", "head.weight", change)
    result = invoke(path, *checkpoint(trained), "--json")
    assert result.exit_code == 1
    body = json.loads(result.stdout)
    assert not body["passed"]
    assert body["cases"][0]["outputs"][0]["not_finite"]["actual_nan"] > 0


def test_swapped_classes_fail_although_the_values_are_the_same(trained, tmp_path):
    def change(values):
        values[:] = values.reshape(CLASSES, -1)[::-1].reshape(-1)

    path = perturbed(trained, tmp_path / "model.onnx", "head.weight", change)
    assert invoke(path, *checkpoint(trained)).exit_code == 1


def test_a_difference_that_onnxruntimes_optimisation_makes_is_named(trained, monkeypatch):
    honest = OnnxRuntimeRunner.infer_impl

    def rewritten(self, inputs):
        outputs = honest(self, inputs)
        wrong = 1.1 if self.describe()["optimization"] == "all" else 1.0
        return {name: value * np.float32(wrong) for name, value in outputs.items()}

    monkeypatch.setattr(OnnxRuntimeRunner, "infer_impl", rewritten)
    result = invoke(trained / "fp32.onnx", *checkpoint(trained), "--json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert "with its graph optimisation off, onnxruntime agrees" in finding


def test_the_tolerance_can_be_replaced(trained):
    arguments = [*checkpoint(trained), "--samples", 1, "--tolerance", "fp32=1e-12:0"]
    result = invoke(trained / "fp32.onnx", *arguments)
    assert result.exit_code == 1
    assert "given on the command line" in result.stdout


def test_a_tolerance_of_another_precision_is_not_dropped_in_silence(trained):
    arguments = [*checkpoint(trained), "--samples", 1, "--json"]
    given = ["--tolerance", "fp16=1e-2", "--tolerance", "bf16=1e-1"]
    body = json.loads(invoke(trained / "fp32.onnx", *arguments, *given).stdout)
    assert body["passed"]
    (warning,) = body["warnings"]
    assert (
        warning == "--tolerance for fp16, bf16 was not applied: this file goes by the row of fp32"
    )
    body = json.loads(invoke(trained / "fp16.onnx", *arguments, *given).stdout)
    assert body["warnings"] == []


def test_another_model_is_named(trained):
    other = [f"--model-arg={key}={json.dumps(value)}" for key, value in MODEL_ARGUMENTS.items()]
    result = invoke(
        trained / "fp32.onnx", "--model", "nano", *other, "--golden", trained / "golden.npz"
    )
    assert result.exit_code == 1
    output = " ".join(result.stdout.split())
    assert "is not the one that fp32.onnx was exported from: other weights" in output
    assert "pytorch is the odd one out" in output


def test_another_model_that_refuses_the_inputs_is_named_all_the_same(trained):
    result = invoke(trained / "fp32.onnx", "--model", "nano", "--model-arg", "in_channels=1")
    assert result.exit_code == 1
    assert "is not the one that fp32.onnx was exported from: its configuration" in result.stderr
    assert "images of the wrong shape" in result.stderr


@pytest.mark.parametrize("change", [{"source_sha256": "0" * 64}, {"precision": "fp16"}])
def test_a_golden_file_of_another_model_or_precision_is_refused(trained, tmp_path, change):
    golden = GoldenSamples.load(trained / "golden.npz")
    dataclasses.replace(golden, **change).save(tmp_path / "other.npz")
    result = invoke(trained / "fp32.onnx", "--golden", tmp_path / "other.npz")
    assert result.exit_code == 2
    assert "other.npz was not recorded for fp32.onnx" in result.stderr


@pytest.mark.parametrize("keep", [0, 1000, -1000])
def test_a_truncated_onnx_file(trained, tmp_path, keep):
    path = tmp_path / "model.onnx"
    path.write_bytes((trained / "fp32.onnx").read_bytes()[:keep])
    result = invoke(path, *checkpoint(trained))
    assert result.exit_code == 2, result.output
    assert "model.onnx" in result.stderr


@pytest.mark.parametrize("keep", [0, 200, -100])
def test_a_truncated_golden_file(trained, tmp_path, keep):
    path = tmp_path / "golden.npz"
    path.write_bytes((trained / "golden.npz").read_bytes()[:keep])
    result = invoke(trained / "fp32.onnx", "--golden", path)
    assert result.exit_code == 2, result.output
    assert "golden.npz" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to compare"),
        (["--golden", "{folder}/golden.npz", "--batch", "2"], "--batch needs the PyTorch model"),
        (["--golden", "{folder}/golden.npz", "--calibrate"], "reduced precision"),
        (["--golden", "{folder}/none.npz"], "none.npz"),
        (["--checkpoint", "{folder}/none.safetensors"], "none.safetensors"),
        (["--model", "nanno"], "did you mean"),
        (["--model", "nano", "--tolerance", "fp8=1"], "unknown precision"),
        (["--model", "nano", "--image-size", "0x3"], "HEIGHTxWIDTH"),
        (["--model", "nano", "--require-top1", "1.5"], "fraction"),
        (["--model", "nano", "--data", "{folder}/none.npz"], "none.npz"),
        (["--model", "nano", "--calibrate"], "reduced precision"),
    ],
)
def test_wrong_usage(trained, arguments, message):
    result = invoke(trained / "fp32.onnx", *(item.format(folder=trained) for item in arguments))
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_a_size_or_batch_that_the_file_fixes(trained):
    result = invoke(trained / "fp16.onnx", *checkpoint(trained), "--image-size", "24x16")
    assert result.exit_code == 2
    assert "fixes axis 2" in result.stderr


def test_a_size_that_the_model_refuses(trained):
    result = invoke(trained / "fp32.onnx", *checkpoint(trained), "--image-size", "2x16")
    assert result.exit_code == 2
    assert "too small" in result.stderr


def test_a_missing_provider_is_the_machines_fault(trained):
    result = invoke(trained / "fp32.onnx", *checkpoint(trained), "--provider", "NoneProvider")
    assert result.exit_code == 3
    assert "pip install" in result.stderr


def test_an_unwritable_report(trained, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ["--golden", trained / "golden.npz", "--report", tmp_path / "file" / "x.json"]
    result = invoke(trained / "fp32.onnx", *arguments)
    assert result.exit_code == 3
    assert "cannot write" in result.stderr
    assert "PASS" in result.stdout  # what it took minutes to find out is not lost
    result = invoke(trained / "fp32.onnx", *arguments, "--json")
    assert json.loads(result.stdout)["passed"] is True


def test_a_report_replaces_no_input(trained, tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(content := (trained / "fp32.onnx").read_bytes())
    result = invoke(path, "--golden", trained / "golden.npz", "--report", path)
    assert result.exit_code == 2
    assert "--report would replace the file of ONNX_FILE" in result.stderr
    assert path.read_bytes() == content


class TestData:
    @pytest.fixture
    def data(self, trained, tmp_path):
        """Labelled images; the model itself says the labels, all but the first right."""
        images = np.random.default_rng(3).standard_normal((5, 3, 16, 16)).astype(np.float32)
        images *= np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1, 1)
        model = create_model("nano", **MODEL_ARGUMENTS).eval()
        load_checkpoint(model, trained / "model.safetensors")
        with torch.inference_mode():
            labels = model(torch.from_numpy(images)).argmax(1).numpy()
        labels[0] = (labels[0] + 1) % CLASSES
        np.savez(tmp_path / "data.npz", images=images, labels=labels)
        return tmp_path / "data.npz"

    def test_accuracy_and_agreement_per_image(self, trained, data):
        result = invoke(
            trained / "fp32.onnx",
            *checkpoint(trained),
            *("--data", data, "--require-top1", "all", "--json"),
        )
        assert result.exit_code == 0, result.output
        body = json.loads(result.stdout)
        for runner in ("pytorch", "onnxruntime"):
            assert body["top1"][runner]["accuracy"] == pytest.approx(0.8)
            assert body["top1"][runner]["agreement"] == 1
        assert [image["item"] for image in body["images"]] == list(range(5))
        assert all(image["agree"] for image in body["images"])

    def test_a_flip_fails_when_top1_is_required(self, trained, data, tmp_path):
        def change(values):
            values[:] = -values

        path = perturbed(trained, tmp_path / "model.onnx", "head.weight", change)
        result = invoke(
            path, *checkpoint(trained), "--data", data, "--require-top1", "0.9", "--json"
        )
        assert result.exit_code == 1
        body = json.loads(result.stdout)
        assert any("the same class on" in reason for reason in body["failures"])
        assert not all(image["agree"] for image in body["images"])

    @pytest.mark.parametrize("label", [CLASSES, -1])
    def test_a_label_that_is_no_class_is_refused(self, trained, tmp_path, label):
        images = np.ones((3, 3, 16, 16), np.float32)
        np.savez(tmp_path / "data.npz", images=images, labels=[0, label, 99])
        arguments = [*checkpoint(trained), "--data", tmp_path / "data.npz"]
        result = invoke(trained / "fp32.onnx", *arguments)
        assert result.exit_code == 2, result.output
        assert "of the label of item 1" in result.stderr
        assert f"got:      {label}\n" in result.stderr
        assert f"the model has {CLASSES} classes" in result.stderr

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"images": np.zeros((0, 3, 16, 16), np.float32)}, "at least 1"),
            ({"pictures": np.ones((1, 3, 16, 16), np.float32)}, "does not hold"),
            ({"images": np.ones((1, 1, 16, 16), np.float32)}, "does not fit"),
            ({"images": np.ones((1, 3, 16, 16), np.float64)}, "another dtype"),
        ],
    )
    def test_data_that_does_not_fit(self, trained, tmp_path, arrays, message):
        np.savez(tmp_path / "data.npz", **arrays)
        arguments = [*checkpoint(trained), "--data", tmp_path / "data.npz", "--samples", 1]
        result = invoke(trained / "fp32.onnx", *arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from gspn2_deploy.cli.app import app; "
        "result = CliRunner().invoke(app, ['validate', '--help']); "
        "assert result.exit_code == 0 and '--require-top1' in result.output, result.output; "
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'rich', 'yaml'} & set(sys.modules); "
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_configuration_mirrors_the_options(trained, tmp_path):
    config = tmp_path / "gspn2.yaml"
    config.write_text(
        f"validate:\n  checkpoint: {trained / 'model.safetensors'}\n  bisect: true\n  samples: 1\n"
        f"  bisect-folder: {tmp_path / 'kept'}\n  device: cpu\n"
    )
    arguments = ["--quiet", "--config", config, "validate", trained / "fp32.onnx", "--json"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["bisections"]) == 1
    assert (tmp_path / "kept" / "marked.onnx").is_file()
