from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from engine_models import conv_model

from gspn2_deploy import build as build_package
from gspn2_deploy.build import BuildOptions
from gspn2_deploy.cli.app import app
from gspn2_deploy.cli.build import command as build_command
from gspn2_deploy.errors import BuildError
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import Manifest, manifest_path


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["--quiet", *map(str, arguments)])


@pytest.fixture
def plan(onnx_file: Path) -> Path:
    result = call("build", onnx_file, "--compute-capability", "8.9")
    assert result.exit_code == 0, result.output
    return onnx_file.with_suffix(".plan")


@pytest.mark.tensorrt
def test_build_text(tmp_path: Path, onnx_file: Path):
    output = tmp_path / "engines" / "nano.plan"
    result = call(
        "build", onnx_file, "--compute-capability", "8.9", "--compute-capability", "12.0",
        "--profile", "images=1x3x16x16:2x3x16x16:4x3x16x16", "--workspace", "512", "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert str(output) in result.stdout
    assert "8.9, 12.0" in result.stdout
    assert "images=1x3x16x16:2x3x16x16:4x3x16x16" in result.stdout
    Manifest.load(manifest_path(output)).verify(output, onnx_path=onnx_file)


@pytest.mark.tensorrt
def test_build_json(onnx_file: Path):
    result = call("build", onnx_file, "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["plan"] == str(onnx_file.with_suffix(".plan"))
    assert body["compute_capabilities"] == ["8.0", "8.6", "8.9", "12.0", "12.1"]
    assert Manifest.load(Path(body["manifest"])).plan_sha256 == body["plan_sha256"]


@pytest.mark.tensorrt
def test_build_from_a_configuration_file(tmp_path: Path, onnx_file: Path):
    config = tmp_path / "deploy.yaml"
    config.write_text(
        "build:\n"
        "  compute-capability: ['8.6']\n"
        "  profile: ['images=1x3x16x16', 'images=4x3x16x16']\n"
    )
    result = CliRunner().invoke(
        app, ["--quiet", "--config", str(config), "build", str(onnx_file), "--json"]
    )
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["compute_capabilities"] == ["8.6"]
    assert [profile["images"]["opt"][0] for profile in body["profiles"]] == [1, 4]


@pytest.mark.tensorrt
def test_refused_file(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", metadata={"gspn2.precision": "fp16"})
    result = call("build", path, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["problem"].startswith(
        "the network does not compute in fp16"
    )
    assert "Traceback" not in result.output


@pytest.mark.tensorrt
def test_debug_shows_what_the_library_said(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx")
    code = "from gspn2_deploy.cli import main; main()"
    command = [sys.executable, "-c", code, "--debug", "build", str(path), "--workspace", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "enumerate_tactics" in done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--compute-capability", "9.0"], "data-centre"),
        (["--profile", "nonsense"], "cannot be read"),
        (["--profile", "images=1x3x8x8"], "varies axis 2"),
        (["--profile", "pixels=1x3x16x16"], "unknown input"),
        (["--workspace", "0"], "workspace"),
        (["--backend", "tensorflow"], "backend"),
    ],
)
def test_bad_options(onnx_file: Path, monkeypatch: pytest.MonkeyPatch, arguments, said: str):
    pretend_installed(monkeypatch)
    result = call("build", onnx_file, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert [path.name for path in onnx_file.parent.iterdir()] == ["model.onnx"]


# Every option that only TensorRT has: its arguments, and what it makes of the build's options.
LIBRARY_OPTIONS = [
    (["--optimization-level", "4"], {"optimization_level": 4}),
    (["--timing-iterations", "2"], {"timing_iterations": 2}),
    (["--timing-cache", "times.cache"], {"timing_cache_path": Path("times.cache")}),
    (["--version-compatible"], {"version_compatible": True}),
    (
        ["--version-compatible", "--exclude-lean-runtime"],
        {"version_compatible": True, "exclude_lean_runtime": True},
    ),
    (["--hardware-compatibility", "ampere-plus"], {"hardware_compatibility": "ampere-plus"}),
    (["--embed-plugin"], {"embed_plugin": True}),
    (["--weights", "stripped"], {"weights": "stripped"}),
    (["--tactic-source", "cudnn", "--tactic-source", "cudnn"], {"tactic_sources": ("cudnn",)}),
    (["--tactic-source", "none"], {"tactic_sources": ()}),
    (["--tf32"], {"tf32": True}),
    (["--precision-constraints", "prefer"], {"precision_constraints": "prefer"}),
    (["--fuse"], {"fuse": True}),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[BuildOptions]:
    """The options that the builder is given, and no build."""
    seen: list[BuildOptions] = []

    def build_engine(*_: object, options: BuildOptions, **__: object) -> None:
        seen.append(options)
        raise BuildError("seen")

    monkeypatch.setattr(build_package, "build_engine", build_engine)
    return seen


@pytest.mark.parametrize(("arguments", "options"), LIBRARY_OPTIONS, ids=str)
def test_library_options(onnx_file: Path, asked: list[BuildOptions], arguments, options):
    assert call("build", onnx_file, *arguments).exit_code == 3
    assert asked == [BuildOptions(**options)]


def test_library_options_are_off_by_default(onnx_file: Path, asked: list[BuildOptions]):
    call("build", onnx_file)
    call("build", onnx_file, "--no-timing-cache")
    assert asked == [BuildOptions(), BuildOptions(timing_cache=False)]


def test_library_options_from_a_configuration_file(
    tmp_path: Path, onnx_file: Path, asked: list[BuildOptions]
):
    config = tmp_path / "deploy.yaml"
    config.write_text(
        "build:\n"
        "  optimization-level: 5\n"
        "  timing-iterations: 3\n"
        "  no-timing-cache: true\n"
        "  version-compatible: true\n"
        "  exclude-lean-runtime: true\n"
        "  hardware-compatibility: same-compute-capability\n"
        "  embed-plugin: true\n"
        "  weights: refittable\n"
        "  tactic-source: [cublas, cudnn]\n"
        "  tf32: true\n"
        "  precision-constraints: prefer\n"
        "  no-fuse: true\n"
    )
    assert call("--config", config, "build", onnx_file).exit_code == 3
    assert asked == [
        BuildOptions(
            optimization_level=5,
            timing_iterations=3,
            timing_cache=False,
            version_compatible=True,
            exclude_lean_runtime=True,
            hardware_compatibility="same-compute-capability",
            embed_plugin=True,
            weights="refittable",
            tactic_sources=("cublas", "cudnn"),
            tf32=True,
            precision_constraints="prefer",
            fuse=False,
        )
    ]


@pytest.mark.parametrize(("arguments", "options"), LIBRARY_OPTIONS, ids=str)
def test_tensorrt_for_rtx_refuses_them_with_the_reason(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch, arguments, options
):
    pretend_installed(monkeypatch)
    result = call("build", onnx_file, *arguments)
    assert result.exit_code == 2
    assert "TensorRT for RTX has no --" in result.stderr
    assert "build with --backend tensorrt" in result.stderr
    assert [path.name for path in onnx_file.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--optimization-level", "6"], "6 is not in the range"),
        (["--timing-iterations", "0"], "0 is not in the range"),
        (["--weights", "none"], "'none' is not one of"),
        (["--exclude-lean-runtime"], "only a version-compatible plan"),
        (["--timing-cache", "a.cache", "--no-timing-cache"], "named and turned off"),
        (["--tactic-source", "none", "--tactic-source", "cudnn"], "no tactic source, and some"),
    ],
)
def test_library_options_that_contradict(onnx_file: Path, arguments, said: str):
    result = call("build", onnx_file, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_documents_name_every_option_and_choice():
    """The plugin's page has a table of them, and no others."""
    page = (Path(__file__).parents[2] / "docs" / "plugin.md").read_text()
    section = page.partition("## Build an engine\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `-")]
    named = {name for row in rows for name in re.findall(r"`(--?[a-z0-9-]+)", row.split("|")[1])}
    options = [each for each in build_command.params if isinstance(each, click.Option)]
    of_build = [each for each in options if each.name != "as_json"]  # every command has that
    assert named == {name for each in of_build for name in (*each.opts, *each.secondary_opts)}
    choices = [each.type.choices for each in of_build if isinstance(each.type, click.Choice)]
    told = " ".join(rows)
    assert [name for name in itertools.chain(*choices) if f"{name}`" not in told] == []


def pretend_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_missing_onnx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend_installed(monkeypatch)
    result = call("build", tmp_path / "absent.onnx")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_missing_library(onnx_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = call("build", onnx_file)
    assert result.exit_code == 3
    assert "pip install 'gspn2-deploy[tensorrt-rtx]'" in result.stderr


def test_interrupt_leaves_nothing(onnx_file: Path):
    script = Path(__file__).with_name("interrupted_cli.py")
    command = [sys.executable, str(script), "build", str(onnx_file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        child = int(process.stdout.readline().split()[1])
        assert list(onnx_file.parent.glob(".partial-*"))
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Interrupted" in stderr
    assert "Traceback" not in stderr
    assert time.monotonic() - began < 10
    assert [path.name for path in onnx_file.parent.iterdir()] == ["model.onnx"]
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize("command", ["build", "inspect"])
def test_help_loads_nothing_heavy(command: str):
    code = (
        "import sys; from click.testing import CliRunner; from gspn2_deploy.cli.app import app;"
        f"assert CliRunner().invoke(app, [{command!r}, '--help']).exit_code == 0;"
        "heavy = {'torch', 'onnx', 'numpy', 'tensorrt_rtx', 'tensorrt_rtx_bindings'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_inspect_onnx(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", metadata={"model": "nano"})
    result = call("inspect", path)
    assert result.exit_code == 0, result.output
    assert "images: float32 (batch, 3, 16, 16)" in result.stdout
    assert "1 GspnProp2D" in result.stdout
    assert "model: nano" in result.stdout
    body = json.loads(call("inspect", path, "--json").stdout)
    assert body["inputs"] == [{"name": "images", "dtype": "float32", "shape": ["batch", 3, 16, 16]}]
    assert body["op_counts"] == {"GspnProp2D": 1}
    assert body["onnx_sha256"] == sha256_of(path)


@pytest.mark.tensorrt
def test_inspect_plan_by_either_name(plan: Path):
    by_plan, by_manifest = call("inspect", plan), call("inspect", manifest_path(plan))
    assert by_plan.exit_code == 0, by_plan.output
    assert by_plan.stdout == by_manifest.stdout
    assert "hash verified" in by_plan.stdout
    body = json.loads(call("inspect", plan, "--json").stdout)
    assert body["onnx_file"] == "model.onnx"


@pytest.mark.tensorrt
def test_inspect_refuses_an_altered_plan(plan: Path):
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    result = call("inspect", plan)
    assert result.exit_code == 2
    assert "altered" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("name", ["m.plan", "m.plan.json", "m.onnx"])
def test_inspect_missing_file(tmp_path: Path, name: str):
    result = call("inspect", tmp_path / name)
    assert result.exit_code == 2
    assert "m." in result.stderr
    if "plan" in name:  # the plan, not only its manifest
        assert f"there is no {tmp_path / 'm.plan'}, and its manifest" in result.stderr
        assert "check the path" in result.stderr
        (tmp_path / "m.plan").touch()
        result = call("inspect", tmp_path / name)
        assert "keep the plan and its manifest together" in result.stderr


def test_inspect_a_folder(tmp_path: Path):
    result = call("inspect", tmp_path)
    assert result.exit_code == 2
    assert "is a folder" in result.stderr
    assert "gspn2-deploy verify checks a bundle" in result.stderr
