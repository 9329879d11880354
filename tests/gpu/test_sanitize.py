"""The script around compute-sanitizer, on programs that end well, badly, early or not at all."""

import os
import sys
import time
from pathlib import Path

import pytest
import sanitize

COUNT = "30 of 210 calls ran, 30 of 30 kinds"


@pytest.mark.parametrize(
    "code, verdict, count",
    [
        (f"print('{COUNT}'); print('===== 0 errors')", "clean", COUNT),
        (f"import sys; print('{COUNT}'); sys.exit(99)", "exit 99", COUNT),
        ("print('0 of 210 calls ran, 0 of 30 kinds')", "no call ran", "0 of 210 calls ran, 0 of "),
        ("print('===== 0 errors')", "no call ran", ""),
    ],
)
def test_verdicts(code, verdict, count):
    found, said, lines = sanitize.run([sys.executable, "-c", code])
    assert found == verdict
    assert said.startswith(count)
    assert lines


def test_what_does_not_end_is_killed_with_all_that_it_started(tmp_path):
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    verdict, count, _ = sanitize.run([sys.executable, "-c", parent], limit=3)
    assert (verdict, count) == ("no end within 3 s", "")
    for _ in range(100):
        stat = Path(f"/proc/{note.read_text()}/stat")
        if not stat.is_file() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


def test_tools_see_the_calls_that_they_can_follow(tmp_path, monkeypatch, capsys):
    tool, program = tmp_path / "compute-sanitizer", tmp_path / "program"
    tool.write_text('#!/bin/sh\nwhile [ "$1" != program ]; do shift; done; exec ./"$@"\n')
    program.write_text(f'#!/bin/sh\necho "$@" >> calls\necho {COUNT}\n')
    for script in (tool, program):
        script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert sanitize.main("program", ["memcheck", "synccheck", "racecheck"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in printed] == [
        [name, pointers, "clean"]
        for name in ("plain", "memcheck", "synccheck", "racecheck")
        for pointers in sanitize.POINTERS
    ]
    assert all(line.endswith(COUNT) for line in printed)
    seconds = f" small --seconds {sanitize.SECONDS}"
    assert sanitize.SECONDS < sanitize.LIMIT
    assert (tmp_path / "calls").read_text().splitlines() == [
        pointers + extra
        for extra in ("", "", " portable", seconds)
        for pointers in sanitize.POINTERS
    ]
