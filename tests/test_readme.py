"""What the README shows is what works: its commands, its configuration and its code are run."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from gspn2_deploy.build.tensorrt_rtx import TensorRTRTXBackend
from gspn2_deploy.cli.app import COMMANDS, app

README = (Path(__file__).parents[1] / "README.md").read_text()


def indented_commands():
    """Lines of indented blocks that call the program, with the small model in tiny's place."""
    lines = re.findall(r"^    (gspn2-deploy .+)$", README, flags=re.MULTILINE)
    return [shlex.split(line.replace("tiny", "nano"))[1:] for line in lines]


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def invoke(arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{shlex.join(arguments)}:\n{result.output}"
    return result


@pytest.mark.slow
@pytest.mark.tensorrt
@pytest.mark.skipif(
    not TensorRTRTXBackend().is_available(), reason="TensorRT for RTX is not installed"
)
def test_the_commands_run_in_order(tmp_path, monkeypatch):
    from gspn2_deploy.models import create_model, save_checkpoint

    monkeypatch.chdir(tmp_path)
    save_checkpoint(create_model("nano"), tmp_path / "nano.safetensors")
    commands = indented_commands()
    assert [command[0] for command in commands] == ["export", "validate", "build"]
    for command in commands:
        invoke(command)
    assert {"nano.onnx", "nano.plan", "nano.plan.json"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_the_configuration_is_accepted(tmp_path):
    (text,) = fenced("yaml")
    path = tmp_path / "gspn2.yaml"
    path.write_text(text)
    assert "--model" in invoke(["--config", str(path), "export", "--help"]).output


def test_the_code_runs():
    (code,) = fenced("python")
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["y"].shape == (1, 8, 32, 48)
    assert scope["x"].grad is not None


def test_completion_is_what_the_help_says():
    lines = re.findall(r"^    (.*_GSPN2_DEPLOY_COMPLETE=.*)$", README, flags=re.MULTILINE)
    assert len(lines) == 3
    said = invoke(["--help"]).output
    assert all(line in said for line in lines)


def test_mentioned_files_and_commands_exist():
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", README):
        assert (root / target).exists(), target
    for name in re.findall(r"`gspn2-deploy ([a-z]+)", README):
        assert name in COMMANDS
