"""The child process's side of :mod:`gspn2_deploy.build.isolation`."""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.errors import Gspn2Error

_PACKAGE = "gspn2_deploy"
_PROGRESS_SECONDS = 0.05  # a terminal shows no more; a build has thousands of steps


class Channel:
    """The pipe to the parent. Safe to use from the engine library's threads.

    Args:
        descriptor: The pipe's file descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._last_progress = 0.0
        self.log_level = 0

    def log(self, level: int, text: str) -> None:
        """Pass a log record on, if the parent wants its level (a number of :mod:`logging`)."""
        if level >= self.log_level:
            self.send({"kind": "log", "level": level, "text": text})

    def progress(
        self, fraction: float | None, detail: str | None, *, important: bool = False
    ) -> None:
        """Say how far the work is; too many calls are thinned out, but for important ones."""
        now = time.monotonic()
        if important or now - self._last_progress >= _PROGRESS_SECONDS:
            self._last_progress = now
            self.send({"kind": "progress", "fraction": fraction, "detail": detail})

    def send(self, message: dict[str, Any]) -> None:
        """Write one line. A parent that is gone ends this process: nobody wants the result."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except BrokenPipeError:
                os._exit(1)


class _Bridge(logging.Handler):
    """Passes on what this package's modules log, with tracebacks.

    This process has no log of its own.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._channel.log(record.levelno, self.format(record))
        except Exception:
            self.handleError(record)  # as every handler: what is logged badly stops no build


def main(entry: str) -> None:
    """Do the work that the parent asks for.

    Args:
        entry: ``module:function``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    channel = Channel(os.dup(1))
    os.dup2(2, 1)  # whatever native code prints must not mix with the answers
    order = json.load(sys.stdin)
    channel.log_level = order["log_level"]
    package = logging.getLogger(_PACKAGE)
    package.setLevel(channel.log_level)
    package.addHandler(_Bridge(channel))
    try:
        module, _, function = entry.partition(":")
        result = getattr(importlib.import_module(module), function)(order["task"], channel)
        channel.send({"kind": "result", "result": result})
    except Exception as error:
        channel.send(_describe(error))


def _describe(error: Exception) -> dict[str, Any]:
    kind = type(error).__name__
    raw: tuple[str, ...] = ()
    fields: dict[str, Any]
    if isinstance(error, Gspn2Error):
        raw = error.raw if isinstance(error, EngineLibraryError) else ()
        fields = {
            "problem": error.problem,
            "got": _text(error.got),
            "expected": _text(error.expected),
            "hint": error.hint,
        }
    elif isinstance(error, OSError) and error.errno is not None:
        kind = "OSError"
        fields = {
            "errno": error.errno,
            "strerror": error.strerror,
            "filename": _text(error.filename),
        }
    else:
        raw = tuple(traceback.format_exc().splitlines())
        fields = {
            "problem": "the build failed unexpectedly",
            "got": f"{kind}: {error}",
            "hint": "run again with --debug and report what it says",
        }
    return {"kind": "error", "type": kind, "fields": fields, "raw": raw}


def _text(value: object) -> str | None:
    return None if value is None else str(value)
