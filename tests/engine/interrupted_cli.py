"""The command line with a backend that never finishes; ran by test_cli_build.py."""

from __future__ import annotations

import logging
import signal
from typing import Any

from test_build_engine import FakeBackend

from gspn2_deploy.build import backend
from gspn2_deploy.build.isolation import run_isolated
from gspn2_deploy.cli import main


class Hanging(FakeBackend):
    """Writes half a plan, then waits in a child process."""

    def build(self, request: Any, progress: Any) -> Any:
        request.plan_path.write_bytes(b"half")

        def show(fraction: float | None, detail: str | None) -> None:
            print("child", detail, flush=True)  # noqa: T201

        return run_isolated("isolation_tasks:hang", {}, show, logging.getLogger(__name__))


if __name__ == "__main__":
    # A shell starts background jobs with interrupts ignored, which their children inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    backend._BACKENDS["tensorrt-rtx"] = (__name__, "Hanging")
    main()
