"""The root command: laziness, exit codes, configuration files."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gspn2_deploy.cli import app as app_module
from gspn2_deploy.cli.app import COMMANDS, app
from gspn2_deploy.cli.common import emit, json_option
from gspn2_deploy.cli.config import _value
from gspn2_deploy.cli.export import command as export_command
from gspn2_deploy.errors import (
    MissingDependencyError,
    UnknownModelError,
    UsageError,
    ValidationFailedError,
)

HEAVY = ("torch", "onnx", "onnxscript", "onnxruntime", "tensorrt", "tensorrt_rtx", "numpy", "rich")


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=str
)
def test_help_loads_nothing_heavy_and_answers_at_once(arguments):
    script = f"""
import sys, time
sys.argv = ["gspn2-deploy", *{arguments!r}]
from gspn2_deploy.cli import main
try:
    main()
except SystemExit as stop:
    assert stop.code == 0
print("\\nLOADED", *sorted(set(sys.modules) & set({HEAVY!r})))
print(time.process_time())
"""
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        *text, loaded, spent = done.stdout.splitlines()
        seconds.append(float(spent))
    assert "Usage: gspn2-deploy" in "\n".join(text)
    assert loaded == "LOADED"
    # Processor time, since the process began: waiting for a busy machine does not count.
    assert min(seconds) < 0.3


def test_the_measured_help_times_cover_every_command():
    docs = Path(__file__).parents[2] / "docs"
    rows = json.loads((docs / "export.json").read_text())["help"]["rows"]
    assert [row["command"] for row in rows] == ["", *COMMANDS]
    assert all(
        f"`gspn2-deploy {name} --help`" in (docs / "measurements.md").read_text()
        for name in COMMANDS
    )


@pytest.fixture
def run(monkeypatch):
    """Run the app with one command that does what it is told."""

    def call(action, *arguments):
        @click.command()
        @json_option
        @click.option("--number", type=int, default=1)
        @click.option("--many", multiple=True)
        @click.option("--flag/--no-flag", default=False)
        def command(**values):
            action(values)

        monkeypatch.setattr(app_module, "COMMANDS", ("probe",))
        monkeypatch.setattr(
            app_module.LazyGroup,
            "get_command",
            lambda _, __, name: command if name == "probe" else None,
        )
        return CliRunner().invoke(app, list(arguments) or ["probe"])

    return call


@pytest.mark.parametrize(
    "error, code",
    [
        (ValidationFailedError("differs"), 1),
        (UsageError("does not fit"), 2),
        (UnknownModelError("no such model"), 2),
        (MissingDependencyError("onnxruntime", "onnxruntime"), 3),
        (RuntimeError("a bug"), 3),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_become_exit_codes_without_a_traceback(run, error, code):
    def fail(_):
        raise error

    result = run(fail)
    assert result.exit_code == code
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_errors_say_what_came_and_how_to_mend_it(run):
    def fail(_):
        raise UsageError("does not fit", got="a", expected="b", hint="c")

    assert run(fail).stderr == (
        "Error: does not fit\n  got:      a\n  expected: b\n  fix:      c\n"
    )
    body = json.loads(run(fail, "probe", "--json").stdout)
    assert body["error"]["type"] == "UsageError"
    assert (body["error"]["fix"], body["error"]["exit_code"]) == ("c", 2)


@pytest.mark.parametrize(
    "arguments, kind, code",
    [
        (["--number", "x", "--json"], "BadParameter", 2),
        (["--json", "--nmber", "1"], "NoSuchOption", 2),
        (["--json"], "RuntimeError", 3),
    ],
)
def test_every_error_is_json_where_json_is_asked_for(run, arguments, kind, code):
    def fail(_):
        raise RuntimeError("a bug")

    result = run(fail, "probe", *arguments)
    assert result.exit_code == code
    body = json.loads(result.stdout)["error"]
    assert (body["type"], body["exit_code"]) == (kind, code)
    assert body["problem"] in result.stderr


def test_further_lines_of_an_error_stand_in_their_column(run):
    def fail(_):
        raise UsageError("does not fit", got="a\nb")

    assert run(fail).stderr == "Error: does not fit\n  got:      a\n            b\n"


def test_an_unknown_command_is_suggested():
    result = CliRunner().invoke(app, ["exprt"])
    assert result.exit_code == 2
    assert "Did you mean 'export'?" in result.stderr


def test_termination_clears_away_what_was_begun(tmp_path):
    script = f"""
import os, signal, sys
from pathlib import Path
from gspn2_deploy import cli
from gspn2_deploy.cli import app
from gspn2_deploy.files import staged_output

def work(*_, **__):
    with staged_output(Path({str(tmp_path)!r}) / "file") as staging:
        (staging / "file").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGTERM)

app.app = work
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(run):
    def fail(_):
        raise UsageError("does not fit")

    result = run(fail, "--debug", "probe")
    assert isinstance(result.exception, UsageError)


CONFIG = {
    "probe.yaml": "probe:\n  number: 5\n  many: {a: 1, b: x}\n  no-flag: false\n",
    "probe.toml": '[probe]\nnumber = 5\nmany = ["a=1", "b=x"]\nflag = true\n',
}


@pytest.mark.parametrize("name", CONFIG)
def test_configuration_files_mirror_the_options(run, tmp_path, name):
    path = tmp_path / name
    path.write_text(CONFIG[name])
    seen = []
    assert run(seen.append, "--config", str(path), "probe").exit_code == 0
    assert run(seen.append, "--config", str(path), "probe", "--number", "7").exit_code == 0
    expected = {"as_json": False, "number": 5, "many": ("a=1", "b=x"), "flag": True}
    assert seen == [expected, expected | {"number": 7}]


def test_a_configuration_keeps_text_apart_from_numbers():
    options = {item.name: item for item in export_command.params}
    given = _value(options["model_arg"], {"a": "yes", "b": None, "c": [1, 2], "d": 0.5})
    read = dict(options["model_arg"].type.convert(text, None, None) for text in given)
    assert read == {"a": "yes", "b": None, "c": [1, 2], "d": 0.5}


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.yaml", "prob:\n  number: 1\n", "did you mean 'probe'"),
        ("a.yaml", "probe:\n  nmber: 1\n", "did you mean 'number'"),
        ("a.yaml", "probe: 3\n", "must hold options"),
        ("a.yaml", "- 1\n", "one section per command"),
        ("a.yaml", "probe: [\n", "cannot be parsed"),
        ("a.toml", "= 1", "cannot be parsed"),
        ("a.json", "{}", "unknown kind"),
        ("absent.yaml", None, "cannot read"),
        ("a.yaml", "probe:\n  number: [1, 2]\n", "one value"),
        ("a.yaml", "probe:\n  many: [[1]]\n", "a list of them"),
        ("a.yaml", "probe:\n  flag: maybe\n", "true or false"),
        ("a.yaml", "probe:\n  number:\n", "cannot take this number"),
    ],
)
def test_bad_configuration_files_are_refused(run, tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    result = run(pytest.fail, "--config", str(tmp_path / name), "probe")
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    "arguments, names_file",
    [
        (["probe"], True),
        (["probe", "--json"], True),
        (["probe", "--number", "y"], False),  # what is wrong stands on the command line
    ],
)
def test_a_bad_value_is_put_down_to_its_configuration_file(run, tmp_path, arguments, names_file):
    path = tmp_path / "a.yaml"
    path.write_text("probe:\n  number: x\n")
    result = run(pytest.fail, "--config", str(path), *arguments)
    assert result.exit_code == 2
    assert (f"Invalid value for '--number' in {path}: 'x' is" in result.stderr) == names_file
    if "--json" in arguments:
        assert str(path) in json.loads(result.stdout)["error"]["problem"]


@pytest.mark.parametrize("error, named", [(UsageError("no"), True), (RuntimeError("no"), False)])
def test_an_input_error_names_the_configuration_file_too(run, tmp_path, error, named):
    def fail(_):
        raise error

    path = tmp_path / "a.yaml"
    path.write_text("probe:\n  many: [a]\n  no-flag: true\n")
    result = run(fail, "--config", str(path), "probe")
    assert (f"  config:   {path} gives --many, --flag\n" in result.stderr) == named


def test_emit_writes_json_or_text(run):
    assert run(lambda _: emit({"a": 1}, "text", as_json=True)).stdout == '{\n  "a": 1\n}\n'
    assert run(lambda _: emit({"a": 1}, "text", as_json=False)).stdout == "text\n"
