"""The command line: one module per command, loaded when it is called.

Modules here import only click and the light parts of the package at their top, so that ``--help``
answers at once; what a command needs is imported inside its function.
"""

from __future__ import annotations


def main() -> None:
    """Run ``gspn2-deploy``."""
    from gspn2_deploy.cli.app import app

    app(prog_name="gspn2-deploy")
