"""Repeated runs and their figures."""

import itertools

import pytest

from gspn2_deploy.bench.timing import Effort, Phases, Stopwatch, measure, summarise


def test_figures_of_known_times():
    summary = summarise([float(value) for value in range(100, 0, -1)])
    assert (summary.median, summary.p10, summary.p90, summary.p99) == (50.5, 10, 90, 99)
    assert (summary.min, summary.mean, summary.runs) == (1, 50.5, 100)
    assert not summary.steady


def test_one_run_is_all_its_figures():
    summary = summarise([3.0])
    assert summary.median == summary.p90 == summary.p99 == summary.min == summary.p10 == 3
    assert summary.steady


def test_it_runs_as_often_and_as_long_as_asked():
    runs, bursts = itertools.count(), []

    def run():
        next(runs)
        return Phases(2.0, 0.5, 1.0, 0.25)

    def burst(count):
        bursts.append(count)
        return count * 0.5

    measured = measure(run, burst, Effort(warmup=3, iterations=7, seconds=0))
    assert next(runs) == 3 + 7
    assert measured.total.runs == 7
    assert (measured.copy_in.median, measured.compute.median) == (0.5, 1.0)
    assert bursts == [1, 1, 1]
    assert measured.runs_per_second == pytest.approx(2000)


def test_seconds_count_too():
    watch = Stopwatch()
    measured = measure(lambda: Phases(1.0), lambda count: 1.0 * count, Effort(0, 1, 0.05))
    assert watch.total() >= 50
    assert measured.total.runs > 1
    assert measured.compute is measured.copy_in is measured.copy_out is None


def test_a_slow_burst_does_not_decide():
    times = iter([100.0, 2.0, 2.0])
    measured = measure(lambda: Phases(1.0), lambda _: next(times), Effort(0, 1, 0))
    assert measured.runs_per_second == pytest.approx(500)


def test_the_stopwatch_laps():
    watch = Stopwatch()
    first, second = watch.lap(), watch.lap()
    assert first >= 0
    assert first + second <= watch.total()
