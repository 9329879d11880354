"""Progress on stderr: a live line on a terminal, plain lines elsewhere, nothing when quiet.

Results go to stdout and never pass through here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Turn all progress output off or on, for the whole process."""
    global _quiet
    _quiet = quiet


class Step:
    """One running step. Obtain it from :func:`step`; it costs nothing when nothing is shown."""

    def __init__(self, live: Any = None, task: Any = None) -> None:
        self._live = live
        self._task = task

    def update(self, *, fraction: float | None = None, detail: str | None = None) -> None:
        """Say how far the step is.

        Args:
            fraction: Between 0 and 1, or None where it is not known.
            detail: What is being done right now.
        """
        if self._live is None:
            return
        if fraction is not None:
            self._live.update(self._task, completed=fraction, total=1.0)
        if detail is not None:
            self._live.update(self._task, detail=detail)


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show that a step runs and how long it has been running.

    Args:
        title: What is done, in a few words ("Building the engine").

    Yields:
        The step, to be told of its progress.
    """
    if _quiet:
        yield Step()
        return
    if not sys.stderr.isatty():
        print(f"{title} ...", file=sys.stderr, flush=True)  # noqa: T201
        began = time.perf_counter()
        yield Step()
        seconds = time.perf_counter() - began
        print(f"{title}: {seconds:.1f} s", file=sys.stderr, flush=True)  # noqa: T201
        return
    # rich is only paid for where someone is looking.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    console = Console(stderr=True)
    began = time.perf_counter()
    with Progress(*columns, console=console, transient=True) as live:
        yield Step(live, live.add_task(title, total=None, detail=""))
    console.print(f"[green]✓[/] {title} [dim]{time.perf_counter() - began:.1f} s")
