"""Run a build in a process of its own.

An engine library is a few hundred megabytes of native code that can run for a minute without
looking up: as a child process it stops at once when the user interrupts, and takes nothing
down with it when it aborts or runs out of memory.

The child gets its work as JSON on stdin and answers in JSON lines on a private pipe: log
records, progress, and at last one result or error.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from gspn2_deploy import errors
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.errors import BuildError, Gspn2Error

OnProgress = Callable[[float | None, str | None], None]

# The child imports from where this process does, and never from the working directory.
_BOOTSTRAP = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from gspn2_deploy.build.worker import main; main(sys.argv[1])"
)
_TAIL_BYTES = 2000
_DEATH_HINTS: dict[int, str] = {
    signal.SIGKILL: "most likely the machine ran out of memory: free some, or build a smaller "
    "model",
    signal.SIGSEGV: "a bug in the engine library: try another version of it, or fix what the "
    "profile leaves free (height and width first)",
}
# The library's own fault, so that asking less of it may help.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


def run_isolated(
    entry: str,
    task: Mapping[str, Any],
    on_progress: OnProgress,
    logger: logging.Logger,
    *,
    suspects: Sequence[str] = (),
) -> dict[str, Any]:
    """Call a function in a child process.

    Args:
        entry: ``module:function``; called with the task and a
            :class:`gspn2_deploy.build.worker.Channel`.
        task: Its argument, JSON-ready.
        on_progress: Told the fraction done and what is being done.
        logger: Gets the child's log records.
        suspects: Options that were given and that may make a library crash: where it does, the
            error says first to try without them.

    Returns:
        What the function returned.

    Raises:
        Gspn2Error: The function raised it.
        BuildError: The child died.
        OSError: The child met it (a full disk), with the same error number.
        KeyboardInterrupt: The user interrupted; the child is gone.
    """
    command = [sys.executable, "-c", _BOOTSTRAP, entry, *filter(None, sys.path)]
    with tempfile.TemporaryFile() as child_stderr:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=child_stderr,
            start_new_session=True,  # the terminal's Ctrl-C reaches this process alone
        )
        try:
            _send(child, {"task": task, "log_level": logger.getEffectiveLevel()})
            answer = _listen(child, on_progress, logger)
            child.wait()
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
        if answer is None:
            raise _death(child.returncode, child_stderr, suspects)
    if answer["kind"] == "error":
        raise _revive(answer, logger)
    result: dict[str, Any] = answer["result"]
    return result


def _send(child: subprocess.Popen[bytes], message: Mapping[str, Any]) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(json.dumps(message).encode())
        child.stdin.flush()
        child.stdin.close()
    except BrokenPipeError:  # it died already: its exit says why
        pass


def _listen(
    child: subprocess.Popen[bytes], on_progress: OnProgress, logger: logging.Logger
) -> dict[str, Any] | None:
    assert child.stdout is not None
    for line in child.stdout:
        message: dict[str, Any] = json.loads(line)
        if message["kind"] == "log":
            logger.log(message["level"], message["text"])
        elif message["kind"] == "progress":
            on_progress(message["fraction"], message["detail"])
        else:
            return message
    return None


def _death(code: int, child_stderr: IO[bytes], suspects: Sequence[str]) -> BuildError:
    child_stderr.seek(0, os.SEEK_END)
    child_stderr.seek(max(0, child_stderr.tell() - _TAIL_BYTES))
    said = child_stderr.read().decode(errors="replace").strip()
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    hint = _DEATH_HINTS.get(-code, "run again with --debug and report what it says")
    if suspects and -code in _CRASHES:
        hint = f"try first without {' and '.join(suspects)}; if it dies all the same: {hint}"
    return EngineLibraryError(
        "the engine library's process died", (said,) if said else (), got=how, hint=hint
    )


def _revive(answer: Mapping[str, Any], logger: logging.Logger) -> Exception:
    fields: dict[str, Any] = answer["fields"]
    if answer["type"] == "OSError":
        return OSError(fields["errno"], fields["strerror"], fields["filename"])
    for line in answer["raw"]:
        logger.debug("engine library: %s", line)
    kind = getattr(errors, answer["type"], None)
    if isinstance(kind, type) and issubclass(kind, Gspn2Error):
        error = kind.__new__(kind)  # its own constructor may want other things than its text
        Gspn2Error.__init__(error, **fields)
        return error
    return EngineLibraryError(raw=answer["raw"], **fields)
