"""The comparison loop: every candidate against the reference, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspn2_deploy.errors import MissingDependencyError, PlatformError, UsageError
from gspn2_deploy.runners.base import Array, Arrays, Runner
from gspn2_deploy.validate.blame import blame
from gspn2_deploy.validate.compare import compare_outputs
from gspn2_deploy.validate.report import Case, Image, Score, ValidationReport
from gspn2_deploy.validate.samples import Sample, check_labels
from gspn2_deploy.validate.tolerances import Tolerance

_Classes = dict[str, NDArray[np.int64]]  # (N,) by runner


def validate(
    reference: Runner,
    candidates: Sequence[Runner],
    samples: Iterable[Sample],
    tolerance: Tolerance,
    *,
    require_top1: float | None = None,
    another_model: bool = False,
    on_sample: Callable[[str], None] | None = None,
    context: Mapping[str, Any] | None = None,
) -> ValidationReport:
    """Run everything on every sample and compare.

    A candidate that cannot answer a sample (:meth:`Runner.can_run`) is left out there; one that
    answered none fails.

    Args:
        reference: What is right. Entered by the caller, like the candidates.
        candidates: What is held against it, under different names.
        samples: Inputs.
        tolerance: What is allowed.
        require_top1: The least share of images, 0 to 1, on which a candidate must give the
            reference's class: over the user's images where there are any, else over all.
        another_model: Whether the reference is known not to be what was exported.
        on_sample: Told each sample's name before it runs.
        context: Passed on into the report.

    Returns:
        The report; it says whether all passed.

    Raises:
        UsageError: There is no candidate, two runners share a name, or a label is none of the
            model's classes.
        ShapeError: A sample does not fit a runner.
    """
    names = [runner.name for runner in (reference, *candidates)]
    if len(names) < 2 or len(set(names)) != len(names):
        raise UsageError("a comparison needs two runners of different names", got=", ".join(names))
    cases: list[Case] = []
    tally = _Tally(reference.name)
    agreements: set[frozenset[str]] = set()
    for sample in samples:
        if on_sample is not None:
            on_sample(sample.name)
        answers = {reference.name: reference.infer(sample.inputs)}
        fresh = _compare(reference.name, candidates, sample, tolerance, answers)
        cases += fresh
        agreements |= _agreements(fresh, answers, tolerance)
        tally.add(sample, answers)
    failures = [
        f"{name}: nothing was compared"
        for name in names[1:]
        if not any(case.candidate == name for case in cases)
    ]
    if require_top1 is not None:
        failures += tally.shortfalls(require_top1)
    kinds = {runner.name: runner.kind for runner in candidates}
    blames = blame(reference.name, kinds, cases, agreements, another_model=another_model)
    return ValidationReport(
        reference=reference.name,
        runners=tuple(runner.describe() for runner in (reference, *candidates)),
        tolerance=tolerance,
        cases=tuple(cases),
        scores=tally.scores(),
        images=tally.images(),
        failures=tuple(failures),
        warnings=_warnings(cases, tolerance),
        blames=blames,
        context=context or {},
    )


def _compare(
    reference: str,
    candidates: Sequence[Runner],
    sample: Sample,
    tolerance: Tolerance,
    answers: dict[str, Arrays],
) -> list[Case]:
    """Run the candidates on one sample; their outputs are added to ``answers``."""
    cases = []
    for candidate in candidates:
        if not candidate.can_run(sample.inputs):
            continue
        try:
            answers[candidate.name] = candidate.infer(sample.inputs)
        except MissingDependencyError:
            raise
        except PlatformError as error:  # it could not run this sample: that is a result
            case = Case(sample.name, sample.shapes, candidate.name, error=str(error))
        else:
            outputs = compare_outputs(answers[reference], answers[candidate.name], tolerance)
            case = Case(sample.name, sample.shapes, candidate.name, outputs)
        cases.append(case)
    return cases


def _agreements(
    cases: Sequence[Case], answers: Mapping[str, Arrays], tolerance: Tolerance
) -> set[frozenset[str]]:
    """Pairs of failing candidates that agree with each other."""
    failed = [case.candidate for case in cases if case.candidate in answers and not case.passed]
    return {
        frozenset(pair)
        for pair in combinations(failed, 2)
        if all(
            output.passed
            for output in compare_outputs(answers[pair[0]], answers[pair[1]], tolerance)
        )
    }


def _warnings(cases: Sequence[Case], tolerance: Tolerance) -> tuple[str, ...]:
    effects = [
        output.input_effect
        for case in cases
        for output in case.outputs
        if output.input_effect is not None
    ]
    if effects and max(effects) < tolerance.atol:
        return (
            f"the inputs change the outputs by {max(effects):.1e} of their magnitude only, less "
            f"than the tolerance of {tolerance.atol:.1e}: use images that matter with --data",
        )
    return ()


class _Tally:
    """Classes by runner over all samples."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        # Sample, classes by runner, and every runner that answered, with classes or without.
        self._rows: list[tuple[Sample, _Classes, tuple[str, ...]]] = []

    def add(self, sample: Sample, answers: Mapping[str, Arrays]) -> None:
        output = _classes_output(answers[self._reference])
        if output is None:
            return
        check_labels(sample, answers[self._reference][output].shape[1])
        classes = {name: _classes(outputs.get(output)) for name, outputs in answers.items()}
        known = {name: value for name, value in classes.items() if value is not None}
        if self._reference in known:
            self._rows.append((sample, known, tuple(answers)))

    def _counted(self) -> list[tuple[Sample, _Classes, tuple[str, ...]]]:
        """The rows of the user's images where there are any, else all."""
        own = [row for row in self._rows if row[0].first is not None]
        return own or self._rows

    def scores(self) -> dict[str, Score]:
        totals: dict[str, list[int]] = {}
        labelled = any(sample.labels is not None for sample, _, _ in self._counted())
        for sample, classes, _ in self._counted():
            for name, got in classes.items():
                expected = classes[self._reference]
                total = totals.setdefault(name, [0, 0, 0, 0])
                total[0] += got.size
                if got.shape == expected.shape:
                    total[1] += int((got == expected).sum())
                if sample.labels is not None and got.shape == sample.labels.shape:
                    total[2] += int((got == sample.labels).sum())
                    total[3] += got.size
        return {
            name: Score(items, agreeing, correct if labelled else None, known)
            for name, (items, agreeing, correct, known) in totals.items()
        }

    def images(self) -> tuple[Image, ...]:
        return tuple(
            Image(
                sample.first + index,
                {name: int(got[index]) for name, got in classes.items() if index < got.size},
                None if sample.labels is None else int(sample.labels[index]),
            )
            for sample, classes, _ in self._rows
            if sample.first is not None
            for index in range(classes[self._reference].size)
        )

    def shortfalls(self, least: float) -> list[str]:
        scores = self.scores()
        results = []
        for name in dict.fromkeys(name for _, _, names in self._counted() for name in names):
            score = scores.get(name)
            if score is None:
                results.append(f"{name}: no (N, classes) output, so top-1 was not compared")
            elif score.agreement < least:
                results.append(
                    f"{name}: the same class on {score.agreeing} of {score.items} images "
                    f"({score.agreement:.2%}), at least {least:.2%} required"
                )
        return results or ([] if scores else ["top-1 was not compared: there were no classes"])


def _classes_output(outputs: Arrays) -> str | None:
    """The name of the first (N, classes) output, None without one."""
    return next(
        (name for name, value in outputs.items() if value.ndim == 2 and value.shape[1] > 1), None
    )


def _classes(scores: Array | None) -> NDArray[np.int64] | None:
    """Highest-scored class per item, None where there is none."""
    if scores is None or scores.ndim != 2:
        return None
    wide = scores.astype(np.float32)
    return None if np.isnan(wide).any() else wide.argmax(axis=1).astype(np.int64)
