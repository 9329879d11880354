from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gspn2_deploy.build import wire
from gspn2_deploy.build.backend import BuildRequest
from gspn2_deploy.build.isolation import run_isolated
from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.errors import BuildError, MissingDependencyError, ShapeError
from gspn2_deploy.progress import Step

logger = logging.getLogger("gspn2_deploy.test_isolation")


def run(
    function: str, task: dict[str, Any] | None = None, on_progress: Any = None, **options: Any
) -> Any:
    ignore = on_progress or (lambda fraction, detail: None)
    return run_isolated(f"isolation_tasks:{function}", task or {}, ignore, logger, **options)


def test_answer_log_and_progress(caplog: pytest.LogCaptureFixture, capfd: Any):
    caplog.set_level(logging.INFO, logger.name)
    seen = []
    result = run("echo", {"a": [1, "ü"]}, lambda *progress: seen.append(progress))
    assert result["task"] == {"a": [1, "ü"]}
    assert seen == [(0.5, "half")]
    assert [record.message for record in caplog.records] == ["wanted", "of a module"]
    assert capfd.readouterr().out == ""  # stdout belongs to the parent's results


def test_what_is_logged_badly_stops_nothing_and_tracebacks_are_kept(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, logger.name)
    assert run("log_badly") == {"done": True}
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    first, *traceback = record.message.splitlines()
    assert first == "it failed"
    assert traceback[0].startswith("Traceback")
    assert traceback[-1].startswith("ValueError: invalid literal")


def test_child_does_not_import_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "json.py").write_text("raise RuntimeError('imported by accident')")
    monkeypatch.chdir(tmp_path)
    assert "" not in run("echo")["path"]


def test_progress_is_thinned_out():
    seen = []
    run("flood", {"steps": 10_000}, lambda *progress: seen.append(progress))
    assert 1 <= len(seen) < 1000


def test_typed_error_keeps_its_parts():
    with pytest.raises(ShapeError) as raised:
        run("shape_error")
    assert raised.value.problem == "too large"
    assert raised.value.got == "5"
    assert raised.value.expected == "4"
    assert raised.value.hint == "shrink it"


def test_library_error_keeps_the_raw_text(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, logger.name)
    with pytest.raises(EngineLibraryError, match="refused") as raised:
        run("library_error")
    assert list(raised.value.raw) == ["line 1", "line 2"]
    assert "line 2" in caplog.text


def test_missing_dependency_names_the_command():
    with pytest.raises(MissingDependencyError, match=r"pip install 'gspn2-deploy\[tensorrt-rtx\]'"):
        run("missing")


def test_full_disk_stays_an_os_error():
    with pytest.raises(OSError, match="No space left on device"):
        run("full_disk")


def test_unexpected_error_is_a_build_error():
    with pytest.raises(BuildError, match=r"KeyError: 'absent'") as raised:
        run("bug")
    assert any("isolation_tasks.py" in line for line in raised.value.raw)


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (signal.SIGABRT, "--debug"),
        (signal.SIGKILL, "out of memory"),
        (signal.SIGSEGV, "another version"),
    ],
)
def test_dead_child(number: signal.Signals, hint: str):
    with pytest.raises(BuildError, match=number.name) as raised:
        run("abort", {"signal": number})
    assert hint in str(raised.value.hint)
    assert raised.value.raw == ("terminate called after throwing",)


@pytest.mark.parametrize(
    ("number", "begins"),
    [
        (signal.SIGSEGV, "try first without --a x and --b; if it dies all the same: a bug"),
        (signal.SIGABRT, "try first without --a x and --b; if it dies all the same: run again"),
        (signal.SIGKILL, "most likely the machine ran out of memory"),  # whatever was asked for
    ],
)
def test_a_crash_is_first_put_down_to_the_options_given(number: signal.Signals, begins: str):
    with pytest.raises(BuildError) as raised:
        run("abort", {"signal": number}, suspects=["--a x", "--b"])
    assert str(raised.value.hint).startswith(begins)


@pytest.mark.parametrize(
    ("options", "suspects"),
    [
        ({}, []),
        ({"optimization_level": 2}, []),
        ({"version_compatible": True}, ["--version-compatible"]),
        (
            {"version_compatible": True, "hardware_compatibility": "ampere-plus"},
            ["--version-compatible", "--hardware-compatibility ampere-plus"],
        ),
    ],
)
def test_a_build_names_the_options_that_builders_crash_under(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], suspects: list[str]
):
    def crash(*_: Any, suspects: list[str]) -> Any:
        raise BuildError("died", got=suspects)

    monkeypatch.setattr(wire, "run_isolated", crash)
    request = BuildRequest(
        Path("a.onnx"), Path("a.plan"), (), (), "fp32", {}, (), (), None, BuildOptions(**options)
    )
    with pytest.raises(BuildError) as raised:
        wire.build_in_child("a:b", request, Step(), logger)
    assert raised.value.got == suspects


def test_interrupt_ends_the_child():
    pids = []

    def interrupt(fraction: float | None, detail: str | None) -> None:
        pids.append(int(str(detail)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("hang", on_progress=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_child_ends_when_its_parent_is_gone():
    code = (
        "import os; from gspn2_deploy.build.worker import Channel;"
        "ends = os.pipe(); os.close(ends[0]); Channel(ends[1]).send({}); print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
