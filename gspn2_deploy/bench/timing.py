"""Repeated runs and what they are summarised to. All times are milliseconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

_MS = 1e3
_BURSTS = 3
_MOST_BURST = 1000  # runs of one
# Percentiles 10 and 90 further apart than this say that other work interfered.
_STEADY = 2.0


@dataclass(frozen=True)
class Effort:
    """How much is run.

    Args:
        warmup: Runs that are not counted.
        iterations: Runs at least.
        seconds: How long at least, in all.
    """

    warmup: int = 10
    iterations: int = 50
    seconds: float = 2.0


@dataclass(frozen=True)
class Phases:
    """The times of one inference.

    Args:
        total: From inputs in host memory to outputs in host memory, by the host's clock.
        copy_in: The inputs' way to the device; None where there is none.
        compute: The model itself, with everything on the device; None where the total is that.
        copy_out: The outputs' way back.
    """

    total: float
    copy_in: float | None = None
    compute: float | None = None
    copy_out: float | None = None


@dataclass(frozen=True)
class Summary:
    """Times of one kind over many runs.

    Args:
        median, p90, p99, min, mean: Milliseconds; a percentile is the least of the times that this
            share of the runs did not exceed.
        p10: As the others, to see whether the runs are alike.
        runs: How many.
    """

    median: float
    p90: float
    p99: float
    min: float
    mean: float
    p10: float
    runs: int

    @property
    def steady(self) -> bool:
        """Whether the runs are alike."""
        return self.p90 <= _STEADY * self.p10


@dataclass(frozen=True)
class Measured:
    """One executor on one set of inputs.

    Args:
        total: Latency, host to host.
        copy_in: Of the copies to the device, where there are any.
        compute: Of the model on the device, likewise.
        copy_out: Of the copies back, likewise.
        runs_per_second: Back to back, the median of a few bursts, with the inputs where the model
            takes them.
    """

    total: Summary
    copy_in: Summary | None
    compute: Summary | None
    copy_out: Summary | None
    runs_per_second: float


def summarise(values: Sequence[float]) -> Summary:
    """Summarise milliseconds of at least one run."""
    ordered = sorted(values)

    def rank(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return Summary(
        median=median(ordered),
        p90=rank(0.9),
        p99=rank(0.99),
        min=ordered[0],
        mean=fmean(ordered),
        p10=rank(0.1),
        runs=len(ordered),
    )


def measure(run: Callable[[], Phases], burst: Callable[[int], float], effort: Effort) -> Measured:
    """Run until there is enough to say.

    Args:
        run: One inference, complete when it returns.
        burst: That many inferences back to back, on inputs that lie where the model takes them;
            returns the milliseconds of all of them.
        effort: How much.
    """
    for _ in range(effort.warmup):
        run()
    taken: list[Phases] = []
    began = time.perf_counter()
    while len(taken) < effort.iterations or time.perf_counter() - began < effort.seconds:
        taken.append(run())
    total = summarise([phases.total for phases in taken])
    count = round(effort.seconds * _MS / max(total.median, 1e-6) / _BURSTS)
    count = min(max(count, 1), _MOST_BURST)
    milliseconds = median(burst(count) for _ in range(_BURSTS))
    return Measured(
        total,
        _optional([phases.copy_in for phases in taken]),
        _optional([phases.compute for phases in taken]),
        _optional([phases.copy_out for phases in taken]),
        count / milliseconds * _MS,
    )


def _optional(values: Sequence[float | None]) -> Summary | None:
    known = [value for value in values if value is not None]
    return summarise(known) if known else None


class Stopwatch:
    """The host's clock: ``lap`` gives the milliseconds since the last one, or the start."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        now = time.perf_counter()
        before, self._last = self._last, now
        return (now - before) * _MS

    def total(self) -> float:
        """Milliseconds since the start."""
        return (time.perf_counter() - self._began) * _MS
