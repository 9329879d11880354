"""The command line: one module per command, loaded when it is called.

Modules here import only click and the light parts of the package at their top, so that ``--help``
answers at once; what a command needs is imported inside its function.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def main() -> None:
    """Run ``gspn2-deploy``."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from gspn2_deploy.cli.app import app
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    app(prog_name="gspn2-deploy")


def _terminate(*_: object) -> NoReturn:
    """End as an interrupt does: what is half written is cleared away, child processes end."""
    sys.exit(EXIT_TERMINATED)
