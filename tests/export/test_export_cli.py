"""``gspn2-deploy export``: results on stdout, logs on stderr, exit codes."""

import json
import subprocess
import sys

import onnx
import pytest
from click.testing import CliRunner
from gspn2_deploy.export import check_onnx

from gspn2_deploy.cli.app import app
from gspn2_deploy.golden import GoldenSamples


def run(*arguments):
    return CliRunner().invoke(app, ["--quiet", "export", *map(str, arguments)])


def test_json(tmp_path):
    output, golden = tmp_path / "a.onnx", tmp_path / "a.npz"
    done = run(
        *("--model", "nano", "-o", output, "--golden", golden, "--golden-samples", 2),
        *("--precision", "fp16", "--keep-fp32", "stages.3.*", "--image-size", "40x33", "--json"),
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["onnx"] == str(output)
    assert (result["model"], result["precision"]) == ("nano", "mixed")
    assert result["op_counts"] == {"GspnProp2D": 5}
    assert check_onnx(output).inputs[0].shape == ("batch", 3, 40, 33)
    assert len(GoldenSamples.load(golden).samples) == 2


def test_what_a_model_prints_is_no_result(monkeypatch, tmp_path):
    (tmp_path / "talkative.py").write_text(
        "from export_models import Propagate\n"
        "print('said: import')\n"
        "class Model(Propagate):\n"
        "    def forward(self, images):\n"
        "        print('said: forward')\n"
        "        return super().forward(images)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "talkative", None)  # restored: absent
    del sys.modules["talkative"]
    done = run("--model", "talkative:Model", "--output", tmp_path / "a.onnx", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["op_counts"] == {"GspnProp2D": 1}
    assert "said: import" in done.stderr
    assert "said: forward" in done.stderr


@pytest.mark.slow
def test_nothing_but_progress_reaches_stderr(tmp_path):
    """In a process of its own: torch writes its remarks past Python's redirections."""
    output = tmp_path / "a.onnx"
    command = [sys.executable, "-m", "gspn2_deploy", "export", "--model", "nano"]
    done = subprocess.run(
        [*command, "--output", str(output)], capture_output=True, text=True, check=True
    )
    progress = ("Loading PyTorch", "Loading the model", "Exporting a.onnx")
    others = [line for line in done.stderr.splitlines() if not line.startswith(progress)]
    assert others == ["WARNING: no --checkpoint: the weights of nano are random"]
    assert done.stdout.startswith(f"Wrote {output}")
    assert "compared  with PyTorch in onnxruntime" in done.stdout
    assert len(onnx.load(output).functions) == 1


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--model", "nnao"], "unknown model"),
        (["--model", "nano", "--image-size", "8"], "too small"),
        (["--model", "nano", "--precision", "fp16", "--keep-fp32", "stage"], "did you mean"),
        (["--model", "nano", "--keep-fp32", "stages"], "only be kept in fp32 when"),
        (["--model", "nano", "--golden-inputs", "a.npz"], "--golden-inputs needs --golden"),
        (["--model", "nano", "--golden-samples", 4], "--golden-samples needs --golden"),
        (
            ["--golden", "{folder}/g.npz", "--golden-samples", 4, "--golden-inputs", "a.npz"],
            "not with --golden-inputs",
        ),
        ([], "no model was given"),
    ],
)
def test_wrong_usage_exits_with_2(tmp_path, arguments, text):
    given = [str(item).format(folder=tmp_path) for item in arguments]
    done = run(*given, "--output", tmp_path / "a.onnx")
    assert done.exit_code == 2
    assert text in done.stderr
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_exits_with_3(tmp_path):
    (tmp_path / "file").touch()
    done = run("--model", "nano", "--output", tmp_path / "file" / "a.onnx")
    assert done.exit_code == 3
    assert "cannot write" in done.stderr


def test_an_output_replaces_no_other_file(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"trained for weeks")
    for option, place, other in (
        ("--checkpoint", path, "--checkpoint"),
        ("--golden", tmp_path / "x" / ".." / "model", "--output"),
    ):
        done = run("--model", "nano", "--output", path, option, place)
        assert done.exit_code == 2
        assert f"would replace the file of {other}" in done.stderr
        assert path.read_bytes() == b"trained for weeks"
