"""Which step of ``gpu_day.py`` begins next, where several run side by side.

Steps begin in their order as soon as what they need has passed and there is room. One that
measures runs alone: it begins when nothing runs, and nothing begins beside it. It does not hold up
those behind it, so that it comes when the others are through; ``--only`` brings it forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_day import Step


@dataclass
class Schedule:
    """The steps of one call.

    Args:
        waiting: Those that are due, in order.
        passed: Whether a step passed, by name.
        together: How many may run side by side.
        elsewhere: Names of those that another process is about to run or runs.
        running: Those that were taken and have not ended.
        left: Those that do not begin in this call, with the reason.
    """

    waiting: list[Step]
    passed: Callable[[str], bool]
    together: int = 1
    elsewhere: frozenset[str] = frozenset()
    running: list[Step] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def take(self, remaining: float) -> Step | None:
        """Return a step that begins now; None while none may.

        Args:
            remaining: Seconds that are left of this call.
        """
        while True:
            count = len(self.left)
            for step in list(self.waiting):
                if reason := self._never(step, remaining):
                    self.waiting.remove(step)
                    self.left.append(f"{step.name}: {reason}")
                elif self._may_begin(step):
                    self.waiting.remove(step)
                    self.running.append(step)
                    return step
            if len(self.left) == count:  # else one before may need what was just left
                return None

    def end(self, step: Step) -> None:
        """Take note that a step has ended, however it did."""
        self.running.remove(step)

    def drop(self, steps: Sequence[Step]) -> None:
        """Take steps out that another process has run."""
        self.waiting = [step for step in self.waiting if step not in steps]

    def give_up(self) -> None:
        """Leave what waits, where nothing runs any more that it could wait for."""
        self.left += [f"{step.name}: waits for what waits for it" for step in self.waiting]
        self.waiting = []

    def _coming(self) -> set[str]:
        return {step.name for step in (*self.waiting, *self.running)} | self.elsewhere

    def _never(self, step: Step, remaining: float) -> str | None:
        missing = [name for name in step.needs if not self.passed(name)]
        if not self._coming().issuperset(missing):
            return f"needs {', '.join(missing)}"
        if remaining < step.least:
            return f"needs {step.least} s, {remaining:.0f} s are left"
        return None

    def _may_begin(self, step: Step) -> bool:
        if step.name in self.elsewhere or not all(map(self.passed, step.needs)):
            return False
        if self._coming() & set(step.after):
            return False
        if step.alone:
            return not self.running and not self.elsewhere
        return len(self.running) < self.together and not any(one.alone for one in self.running)
