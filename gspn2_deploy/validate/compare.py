"""Comparison of two sets of outputs, in float64, with every reason to fail named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspn2_deploy.runners.base import Array
from gspn2_deploy.validate.tolerances import Tolerance

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
_KINDS = {"nan": "NaN", "inf": "Inf"}
_FLOATS = ("float64", "float32", "float16", "bfloat16")
# Relative errors of elements near zero say nothing: those below this share of the reference's root
# mean square are left out of the relative figures (never out of the verdict).
_RELATIVE_FLOOR = 0.01

Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Worst:
    """The element with the largest error in units of what is allowed there."""

    index: tuple[int, ...]
    reference: float
    actual: float


@dataclass(frozen=True)
class Flip:
    """One item whose highest-scored class differs.

    Args:
        item: Its index along the batch.
        reference: The reference's class.
        actual: The other's class.
        margin: How far the reference's class leads the other's class in the reference, as a
            fraction of the reference's root mean square: about 0 is a tie.
    """

    item: int
    reference: int
    actual: int
    margin: float


@dataclass(frozen=True)
class Top1:
    """Agreement on the highest-scored class of an (N, classes) output."""

    items: int
    flips: tuple[Flip, ...] = ()

    @property
    def agreement(self) -> float:
        """The share of items with the same class, 0 to 1."""
        return 1 - len(self.flips) / self.items


@dataclass(frozen=True)
class Errors:
    """How far two tensors lie apart, over the elements that are finite in both.

    Args:
        max_abs: Largest absolute error.
        mean_abs: Mean absolute error.
        max_relative: Largest error by the reference's magnitude (without elements near zero).
        mean_relative: Mean of the same.
        max_scaled: Largest absolute error by the reference's root mean square.
        worst_ratio: Largest error by what the tolerance allows there: up to 1 passes.
        cosine: Cosine similarity of the flattened tensors, None when either is all zero.
        quantiles: Quantiles of the absolute error by name.
        worst: Where the largest ratio lies.
    """

    max_abs: float
    mean_abs: float
    max_relative: float
    mean_relative: float
    max_scaled: float
    worst_ratio: float
    cosine: float | None
    quantiles: dict[str, float]
    worst: Worst


@dataclass(frozen=True)
class OutputComparison:
    """One output of one run, compared.

    Args:
        name: The output's name.
        shape: The reference's shape.
        dtype: The reference's dtype.
        failures: Every reason why it fails; empty when it passes.
        not_finite: Counts of NaN and Inf by side, for instance ``{"actual_nan": 3}``; only
            those above 0.
        reference_rms: Root mean square of the reference.
        input_effect: Spread of the reference over the items of the batch as a fraction of its
            root mean square; None for one item. Near 0 the output hardly depends on the input.
        errors: The figures, None where shapes differ or nothing is finite.
        top1: Class agreement, None unless the output is (N, classes).
        tolerance: What was applied.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    failures: tuple[str, ...]
    tolerance: Tolerance
    not_finite: dict[str, int] = field(default_factory=dict)
    reference_rms: float | None = None
    input_effect: float | None = None
    errors: Errors | None = None
    top1: Top1 | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.failures


def compare_outputs(
    reference: Mapping[str, Array], actual: Mapping[str, Array], tolerance: Tolerance
) -> tuple[OutputComparison, ...]:
    """Compare named outputs; a missing one, an extra one, or none at all is a failure.

    Args:
        reference: What is right, by name.
        actual: What is held against it.
        tolerance: What is allowed.

    Returns:
        One comparison per name on either side, never an empty tuple.
    """
    results = []
    for name, expected in reference.items():
        if name in actual:
            results.append(compare_output(name, expected, actual[name], tolerance))
        else:
            reason = f"missing; there are: {', '.join(actual) or 'none'}"
            results.append(_refused(name, expected, reason, tolerance))
    for name in actual:
        if name not in reference:
            reason = f"not in the reference, which has: {', '.join(reference) or 'none'}"
            results.append(_refused(name, actual[name], reason, tolerance))
    return tuple(results) or (
        OutputComparison("", (), "", ("there was no output to compare",), tolerance),
    )


def compare_output(
    name: str, reference: Array, actual: Array, tolerance: Tolerance
) -> OutputComparison:
    """Compare one output.

    Floating-point outputs pass when every element and the cosine are within the tolerance;
    integers and booleans when all are equal.

    Args:
        name: For messages.
        reference: What is right.
        actual: What is held against it, of the same shape and dtype.
        tolerance: What is allowed.

    Returns:
        The figures, and every reason to fail.
    """
    if reference.shape != actual.shape:
        reason = f"shape {actual.shape}, expected {reference.shape}"
        return _refused(name, reference, reason, tolerance)
    if reference.dtype != actual.dtype:
        reason = f"dtype {actual.dtype.name}, expected {reference.dtype.name}"
        return _refused(name, reference, reason, tolerance)
    if reference.size == 0:
        return _refused(name, reference, "empty: nothing was compared", tolerance)
    if reference.dtype.name not in _FLOATS:
        unequal = int(np.count_nonzero(reference != actual))
        reasons = (f"{unequal} of {reference.size} elements differ",) if unequal else ()
        return OutputComparison(name, reference.shape, reference.dtype.name, reasons, tolerance)
    left, right = reference.astype(np.float64), actual.astype(np.float64)
    not_finite = _not_finite(left, right)
    finite = np.isfinite(left) & np.isfinite(right)
    errors = rms = None
    if finite.any():
        rms = _rms(left[finite])
        errors = _errors(left, right, finite, rms, tolerance)
    return OutputComparison(
        name,
        reference.shape,
        reference.dtype.name,
        _failures(errors, not_finite, left, tolerance),
        tolerance,
        not_finite,
        rms,
        _input_effect(left) if not not_finite else None,
        errors,
        _top1(left, right) if not not_finite else None,
    )


def _refused(name: str, array: Array, reason: str, tolerance: Tolerance) -> OutputComparison:
    return OutputComparison(name, array.shape, array.dtype.name, (reason,), tolerance)


def _rms(values: Wide) -> float:
    # Scaled first: a square of a large float64 can overflow.
    peak = float(np.abs(values).max())
    return peak * float(np.sqrt(np.mean((values / peak) ** 2))) if peak else 0.0


def _not_finite(reference: Wide, actual: Wide) -> dict[str, int]:
    counts = {
        "reference_nan": int(np.isnan(reference).sum()),
        "reference_inf": int(np.isinf(reference).sum()),
        "actual_nan": int(np.isnan(actual).sum()),
        "actual_inf": int(np.isinf(actual).sum()),
    }
    return {key: count for key, count in counts.items() if count}


def _errors(
    reference: Wide, actual: Wide, finite: NDArray[np.bool_], rms: float, tolerance: Tolerance
) -> Errors:
    error = np.abs(np.where(finite, actual, 0.0) - np.where(finite, reference, 0.0))
    magnitude = np.where(finite, np.abs(reference), 0.0)
    scale = rms if tolerance.scale == "rms" else magnitude.max()
    allowed = tolerance.atol * scale + tolerance.rtol * magnitude
    ratio = np.zeros_like(error)
    with np.errstate(divide="ignore"):  # inf where nothing is allowed
        np.divide(error, allowed, out=ratio, where=error > 0)
    index = tuple(int(i) for i in np.unravel_index(int(ratio.argmax()), ratio.shape))
    clear = finite & (magnitude > _RELATIVE_FLOOR * rms)
    relative = error[clear] / magnitude[clear] if clear.any() else np.zeros(1)
    kept = error[finite]
    quantiles = np.quantile(kept, list(QUANTILES.values()))
    return Errors(
        max_abs=float(kept.max()),
        mean_abs=float(kept.mean()),
        max_relative=float(relative.max()),
        mean_relative=float(relative.mean()),
        max_scaled=float(kept.max() / rms) if rms else float(np.inf if kept.max() else 0.0),
        worst_ratio=float(ratio[index]),
        cosine=_cosine(reference[finite], actual[finite]),
        quantiles={key: float(value) for key, value in zip(QUANTILES, quantiles, strict=True)},
        worst=Worst(index, float(reference[index]), float(actual[index])),
    )


def _cosine(reference: Wide, actual: Wide) -> float | None:
    peaks = np.abs(reference).max(), np.abs(actual).max()
    if not all(peaks):
        return None
    left, right = reference / peaks[0], actual / peaks[1]
    return float(np.dot(left, right) / np.sqrt(np.dot(left, left) * np.dot(right, right)))


def _failures(
    errors: Errors | None, not_finite: dict[str, int], reference: Wide, tolerance: Tolerance
) -> tuple[str, ...]:
    reasons = [
        f"{count} {_KINDS[kind]} in the {'reference' if side == 'reference' else 'output'}"
        for (side, kind), count in ((key.split("_"), count) for key, count in not_finite.items())
    ]
    if errors is None:
        return (*reasons, "no element is finite on both sides: nothing was compared")
    if errors.worst_ratio > 1:
        worst = errors.worst
        reasons.append(
            f"at {worst.index} got {worst.actual:.6g}, expected {worst.reference:.6g}: "
            f"{errors.worst_ratio:.3g}x the allowed error"
        )
    if errors.cosine is None:
        side = "the output" if reference.any() else "the reference"
        reasons.append(f"{side} is all zero: a cosine similarity does not exist")
    elif errors.cosine < tolerance.cosine:
        reasons.append(f"cosine similarity {errors.cosine:.8f}, at least {tolerance.cosine:g}")
    return tuple(reasons)


def _input_effect(reference: Wide) -> float | None:
    if reference.ndim < 2 or reference.shape[0] < 2:
        return None
    rms = _rms(reference)
    return _rms(reference - reference.mean(axis=0)) / rms if rms else 0.0


def _top1(reference: Wide, actual: Wide) -> Top1 | None:
    if reference.ndim != 2 or reference.shape[1] < 2:
        return None
    expected, got = reference.argmax(axis=1), actual.argmax(axis=1)
    rms = _rms(reference) or 1.0
    flips = tuple(
        Flip(
            int(item),
            int(expected[item]),
            int(got[item]),
            float(reference[item, expected[item]] - reference[item, got[item]]) / rms,
        )
        for item in np.flatnonzero(expected != got)
    )
    return Top1(int(reference.shape[0]), flips)


def as_json(value: Any) -> Any:
    """Turn the figures into what JSON holds: no NaN, no infinities, no NumPy scalars."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        return as_json(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
