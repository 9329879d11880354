"""Prove on a GPU machine all that needs a GPU: in steps, with limits, logs and one JSON of results.

A machine that is lent for half an hour, takes its files in parts and gives each command ten
minutes is what this is for; everything resumes where it stopped::

    tests/trt/pack_gpu_day.sh KIT_TAR UNPACK_KIT OUT  # before, on a machine with a network
    python3 tests/trt/gpu_day.py take OUT/part.00     # each part in turn; the first starts what
                                                      # needs no GPU, in the background
    python3 tests/trt/gpu_day.py run --together 8     # again until it says that nothing is left
    python3 tests/trt/gpu_day.py list                 # the steps, their limits, and how they ended

A step that passed is not run again; one that failed is with ``--again``. ``--only 'build:*'`` takes
steps by name. ``--together`` runs several side by side, but those that measure alone: a build of
TensorRT 8.6 spends most of its time on one core, loading kernels. Results, and the logs in one
archive, are written to ``--out`` (``$OUT``, or the work folder's ``out``) after every call; the
steps themselves are in ``gpu_steps.py``. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpu_schedule import Schedule

WORK_VARIABLE = "GSPN2_GPU_WORK"
DEFAULT_WORK = Path("/tmp/gspn2_gpu")
WORKERS = 4  # exports at once: each uses a few cores
_POLL_SECONDS = 0.5
_LEAST_RESUMED = 60  # seconds for which it is worth going on with a step


@dataclass(frozen=True)
class Command:
    """One process of a step.

    Args:
        argv: The program and its arguments.
        env: Added to this process's environment.
        codes: Exit codes that are right.
        output: Where its standard output goes beside the log; JSON results are read from there.
        said: Texts that its output must hold, whatever the code.
        otherwise: What to try where it fails, in turn; the step goes on where one of them does not.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    codes: tuple[int, ...] = (0,)
    output: Path | None = None
    said: tuple[str, ...] = ()
    otherwise: tuple[Command, ...] = ()


@dataclass(frozen=True)
class Step:
    """A part of the work that passes or fails.

    Args:
        name: ``group:what``.
        commands: Makes the commands when the step begins; the first that fails ends it.
        estimate: Seconds that it should take: it is not begun with less left.
        limit: Seconds after which it is killed.
        needs: Steps that must have passed.
        background: Whether it needs no GPU and runs while parts are still arriving.
        after: Steps of the same call that must have ended, however they did.
        alone: Whether it measures, so that nothing may run beside it.
        resumes: Whether it goes on where it was killed: the limit is for all calls together, and
            until then it stays due.
    """

    name: str
    commands: Callable[[], Sequence[Command]]
    estimate: int
    limit: int
    needs: tuple[str, ...] = ()
    background: bool = False
    after: tuple[str, ...] = ()
    alone: bool = False
    resumes: bool = False

    @property
    def least(self) -> int:
        """Seconds that must be left for it to begin."""
        return min(self.estimate, _LEAST_RESUMED) if self.resumes else self.estimate


@dataclass
class Result:
    """How a step ended."""

    status: str
    seconds: float
    commands: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)


class Day:
    """The steps and what is known of them.

    Args:
        work: The folder that holds everything between calls.
        steps: In the order to run them.
    """

    def __init__(self, work: Path, steps: Sequence[Step]) -> None:
        self.work = work
        self.steps = {step.name: step for step in steps}
        for folder in ("logs", "state"):
            (work / folder).mkdir(parents=True, exist_ok=True)

    def result(self, name: str) -> Result | None:
        """Return how a step ended; None while it has not."""
        path = self._state(name)
        return Result(**json.loads(path.read_text())) if path.is_file() else None

    def run(
        self,
        *,
        budget: float,
        only: str = "*",
        again: bool = False,
        background: bool = False,
        together: int = 1,
    ) -> list[str]:
        """Run what is due, in order.

        Args:
            budget: Seconds that may pass.
            only: A pattern of names.
            again: Whether failed steps are due, too.
            background: Whether those that need no GPU are meant.
            together: How many may run side by side.

        Returns:
            The steps that are left, with the reason.
        """
        until = time.monotonic() + budget
        due = [
            step
            for step in self.steps.values()
            if fnmatch.fnmatch(step.name, only) and self._is_due(step, again)
        ]
        if background:
            due = [step for step in due if step.background]
        schedule = Schedule(due, self._passed, WORKERS if background else together)
        with concurrent.futures.ThreadPoolExecutor(schedule.together) as pool:
            running: dict[concurrent.futures.Future[Result], Step] = {}
            while True:
                if not background:
                    self._leave_to_background(schedule, again)
                while step := schedule.take(until - time.monotonic()):
                    limit = until - time.monotonic()
                    running[pool.submit(self.run_step, step, limit)] = step
                if not running and not (schedule.waiting and schedule.elsewhere):
                    break
                time.sleep(0 if running else _POLL_SECONDS)
                done, _ = concurrent.futures.wait(
                    running, _POLL_SECONDS, concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    schedule.end(running.pop(future))
        schedule.give_up()
        return [] if background else schedule.left

    def run_step(self, step: Step, remaining: float) -> Result:
        """Run one step, within its limit and the seconds that remain, and keep how it ended."""
        began, earlier = time.monotonic(), self._earlier(step)
        limit = min(step.limit - earlier, remaining)
        result = Result("passed", 0.0)
        log = self.work / "logs" / f"{file_name(step.name)}.log"
        with log.open("w") as stream:
            try:
                for command in step.commands():
                    for attempt in (command, *command.otherwise):
                        rest = limit - (time.monotonic() - began)
                        self._run_command(attempt, stream, rest, result)
                        if result.status != "failed":
                            break
                    if result.status != "passed":
                        break
            except Exception as error:  # a step's own mistake ends that step alone
                stream.write(f"\n{type(error).__name__}: {error}\n")
                result.status = "failed"
        result.seconds = round(earlier + time.monotonic() - began, 1)
        state = self._state(step.name)
        partial = state.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(result), indent=2))
        partial.replace(state)
        _say(f"{result.status:<9} {step.name} {result.seconds:.0f} s")
        if result.status != "passed":
            _say("".join(f"          {line}\n" for line in _tail(log)).rstrip())
        return result

    def report(self, out: Path) -> None:
        """Write results.json, and the logs in one archive."""
        out.mkdir(parents=True, exist_ok=True)
        steps = {name: self.result(name) for name in self.steps}
        ended = {name: asdict(result) for name, result in steps.items() if result is not None}
        (out / "results.json").write_text(json.dumps({"steps": ended}, indent=2) + "\n")
        with tarfile.open(out / "logs.tar.gz", "w:gz") as archive:
            archive.add(self.work / "logs", "logs")
            if (self.work / "results").is_dir():
                archive.add(self.work / "results", "results")

    def _run_command(self, command: Command, log: Any, limit: float, result: Result) -> None:
        log.write(f"$ {' '.join(command.argv)}\n")
        log.flush()
        began = time.monotonic()
        if command.output is not None:
            command.output.parent.mkdir(parents=True, exist_ok=True)
        captured = command.output or Path(log.name).with_suffix(".out")
        status, code = "passed", None
        with captured.open("w") as stdout:
            child = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
                env={**os.environ, **command.env},
                cwd=self.work,  # not the tree: a package that lies there would be taken first
                start_new_session=True,
            )
            try:
                code = child.wait(max(limit, 0.1))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, 9)
                child.wait()
                status = "timed out"
        text = captured.read_text(errors="replace")
        log.write(text)
        log.flush()
        whole = text + Path(log.name).read_text(errors="replace")
        if status == "passed" and (
            code not in command.codes or any(part not in whole for part in command.said)
        ):
            status = "failed"
        seconds = round(time.monotonic() - began, 1)
        result.commands.append({"argv": list(command.argv), "code": code, "seconds": seconds})
        result.status = status
        if command.output is not None and command.output.suffix == ".json":
            try:
                result.results[command.output.stem] = json.loads(text)
            except ValueError:
                result.results[command.output.stem] = None

    def _leave_to_background(self, schedule: Schedule, again: bool) -> None:
        """Let the background process, as long as there is one, run what it has not yet run."""
        own = [step for step in self.steps.values() if step.background]
        schedule.drop([step for step in own if not self._is_due(step, again)])
        names = {step.name for step in own if self.result(step.name) is None}
        schedule.elsewhere = frozenset(names if names and is_running(self.work) else ())

    def _is_due(self, step: Step, again: bool) -> bool:
        result = self.result(step.name)
        if result is None or (again and result.status != "passed"):
            return True
        return step.resumes and result.status == "timed out" and self._earlier(step) > 0

    def _earlier(self, step: Step) -> float:
        """Seconds of the limit that earlier calls have used up; 0 where all of it is."""
        result = self.result(step.name) if step.resumes else None
        if result is None or result.status != "timed out" or result.seconds >= step.limit:
            return 0.0
        return result.seconds

    def _passed(self, name: str) -> bool:
        result = self.result(name)
        return result is not None and result.status == "passed"

    def _state(self, name: str) -> Path:
        return self.work / "state" / f"{file_name(name)}.json"


def take(work: Path, part: Path, tree: Path) -> None:
    """Keep a part of the payload; with the first, keep the tree and begin in the background."""
    (work / "parts").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(part, work / "parts" / f"{part.name}.partial")
    (work / "parts" / f"{part.name}.partial").replace(work / "parts" / part.name)
    source = work / "src"
    if not source.is_dir():  # the tree may be replaced by the next call
        names = {".git", ".venv", "__pycache__", part.parent.name}

        def ignored(folder: str, entries: list[str]) -> set[str]:
            return names | {"build"} if Path(folder) == tree else names  # not gspn2_deploy/build

        shutil.copytree(tree, work / "src.partial", ignore=ignored, symlinks=True)
        (work / "src.partial").rename(source)
    if not is_running(work):
        command = [sys.executable, str(source / "tests/trt/gpu_day.py"), "background"]
        with (work / "background.log").open("a") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (work / "background.pid").write_text(str(child.pid))
    _say(f"{part.name} is there, of {len(list((work / 'parts').glob('part.??')))} so far")


def is_running(work: Path) -> bool:
    """Whether the background process is still at it."""
    try:
        pid = int((work / "background.pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_text()
        # The command is empty for a moment after the start; the number may be another's by now.
        return state not in "ZX" and (not command or "gpu_day.py" in command)
    except (OSError, ValueError):
        return False


def file_name(name: str) -> str:
    """A step's name as its log and its state have it."""
    return name.replace(":", "_").replace("/", "_")


def _tail(log: Path, lines: int = 15) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-lines:]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    taker = commands.add_parser("take")
    taker.add_argument("part", type=Path)
    commands.add_parser("background")
    commands.add_parser("list")
    runner = commands.add_parser("run")
    runner.add_argument("--budget", type=float, default=570.0, help="seconds that may pass")
    runner.add_argument("--only", default="*", help="a pattern of steps' names")
    runner.add_argument("--again", action="store_true", help="run failed steps, too")
    runner.add_argument(
        "--together", type=int, default=1, help="steps side by side; those that measure run alone"
    )
    runner.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    work = Path(os.environ.get(WORK_VARIABLE, DEFAULT_WORK))
    tree = Path(__file__).resolve().parents[2]
    if arguments.command == "take":
        take(work, arguments.part, tree)
        return
    from gpu_steps import make_steps

    day = Day(work, make_steps(work))
    if arguments.command == "background":
        day.run(budget=float("inf"), background=True)
    elif arguments.command == "list":
        for step in day.steps.values():
            result = day.result(step.name)
            ended = f"{result.status} in {result.seconds:.0f} s" if result else "not yet"
            _say(f"{step.name:<28} {step.estimate:>4} s, at most {step.limit:>4} s   {ended}")
        _say(f"{'in all':<28} {sum(step.estimate for step in day.steps.values()):>4} s")
    else:
        left = day.run(
            budget=arguments.budget,
            only=arguments.only,
            again=arguments.again,
            together=arguments.together,
        )
        day.report(arguments.out or Path(os.environ.get("OUT") or work / "out"))
        results = [day.result(name) for name in day.steps]
        failed = [result for result in results if result and result.status != "passed"]
        _say("".join(f"left      {line}\n" for line in left) + f"{len(failed)} failed")
        sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
