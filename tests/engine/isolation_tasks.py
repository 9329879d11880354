"""What the isolation tests have their child process do."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import time
from typing import Any

from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.errors import MissingDependencyError, ShapeError


def echo(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    print("noise from Python", flush=True)  # noqa: T201
    os.write(1, b"noise from native code\n")
    channel.log(logging.DEBUG, "unwanted")
    channel.log(logging.WARNING, "wanted")
    logging.getLogger("gspn2_deploy.build.a_module").debug("unwanted, too")
    logging.getLogger("gspn2_deploy.build.a_module").warning("of a %s", "module")
    channel.progress(0.5, "half")
    return {"task": task, "path": sys.path}


def log_badly(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    log = logging.getLogger("gspn2_deploy.build.a_module")
    log.warning("%d runs", "many")
    try:
        int("many")
    except ValueError:
        log.exception("it failed")
    return {"done": True}


def flood(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    for step in range(task["steps"]):
        channel.progress(step / task["steps"], None)
    return {}


def shape_error(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    raise ShapeError("too large", got=5, expected="4", hint="shrink it")


def library_error(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    raise EngineLibraryError("refused", ("line 1", "line 2"), hint="mend it")


def missing(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    raise MissingDependencyError("a library", "tensorrt-rtx", "not there")


def full_disk(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    raise OSError(errno.ENOSPC, "No space left on device", "plan")


def bug(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    return {"value": task["absent"]}


def abort(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    os.write(2, b"terminate called after throwing\n")
    os.kill(os.getpid(), task["signal"])
    time.sleep(60)
    return {}


def hang(task: dict[str, Any], channel: Any) -> dict[str, Any]:
    channel.progress(None, str(os.getpid()))
    signal.pause()
    return {}
