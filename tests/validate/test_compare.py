"""The comparison: each figure against a hand-computed one, each way to fail seen to fail."""

from __future__ import annotations

import json
import math

import ml_dtypes
import numpy as np
import pytest

from gspn2_deploy.validate.compare import as_json, compare_output, compare_outputs
from gspn2_deploy.validate.tolerances import MODEL_TOLERANCES, OP_TOLERANCES, Tolerance

LOOSE = Tolerance(atol=0.1, rtol=0.0, cosine=0.9)


def random(shape=(4, 10), seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_equal_arrays_pass_with_zero_error():
    result = compare_output("y", random(), random(), MODEL_TOLERANCES["fp32"])
    assert result.passed
    assert result.errors.max_abs == result.errors.mean_abs == result.errors.worst_ratio == 0
    assert result.errors.cosine == pytest.approx(1)
    assert result.top1.agreement == 1
    assert not result.not_finite


def test_every_figure_of_a_small_case():
    reference = np.array([[3.0, 4.0, 0.0, 0.0]])
    actual = np.array([[3.0, 4.3, 0.1, 0.0]])
    result = compare_output("y", reference, actual, Tolerance(atol=0.2, rtol=0.1, cosine=0.9))
    errors = result.errors
    assert result.reference_rms == pytest.approx(2.5)
    assert errors.max_abs == pytest.approx(0.3)
    assert errors.mean_abs == pytest.approx(0.1)
    assert errors.max_relative == pytest.approx(0.3 / 4)  # the zeros are left out
    assert errors.mean_relative == pytest.approx(0.15 / 4)
    assert errors.max_scaled == pytest.approx(0.3 / 2.5)
    assert errors.worst_ratio == pytest.approx(0.3 / (0.2 * 2.5 + 0.1 * 4))
    assert errors.worst.index == (0, 1)
    assert (errors.worst.reference, errors.worst.actual) == (4.0, 4.3)
    dot = 9 + 4 * 4.3
    assert errors.cosine == pytest.approx(dot / (5 * math.sqrt(9 + 4.3**2 + 0.01)))
    assert errors.quantiles["p50"] == pytest.approx(0.05)
    assert set(errors.quantiles) == {"p50", "p90", "p99", "p99.9"}
    assert result.passed


def test_the_bound_is_scaled_by_the_largest_element_for_ops():
    reference = np.array([[100.0] + [0.0] * 99])
    actual = reference.copy()
    actual[0, 5] = 2.0
    rms = Tolerance(atol=0.1, rtol=0, cosine=0.9)
    largest = Tolerance(atol=0.1, rtol=0, cosine=0.9, scale="max")
    assert compare_output("y", reference, actual, rms).errors.worst_ratio == pytest.approx(2)
    assert compare_output("y", reference, actual, largest).errors.worst_ratio == pytest.approx(0.2)


def test_the_elementwise_bound_alone_fails_it():
    reference = random((1000,)).astype(np.float64)
    actual = reference.copy()
    actual[7] += 0.5
    result = compare_output("y", reference, actual, LOOSE)
    assert result.errors.cosine > LOOSE.cosine
    assert len(result.failures) == 1
    assert "(7,)" in result.failures[0]
    assert "allowed error" in result.failures[0]


def test_the_cosine_alone_fails_it():
    reference = random((1000,)).astype(np.float64)
    actual = reference + np.where(np.arange(1000) % 2, 0.05, -0.05)
    strict = Tolerance(atol=0.1, rtol=0, cosine=0.9999)
    result = compare_output("y", reference, actual, strict)
    assert result.errors.worst_ratio < 1
    assert len(result.failures) == 1
    assert "cosine" in result.failures[0]


def test_the_verdict_does_not_depend_on_the_scale():
    reference, noise = random(), random(seed=1) * 0.05
    for scale in (1e-12, 1.0, 1e12):
        result = compare_output("y", reference * scale, (reference + noise) * scale, LOOSE)
        assert result.errors.worst_ratio == pytest.approx(
            compare_output("y", reference, reference + noise, LOOSE).errors.worst_ratio, rel=1e-4
        )


@pytest.mark.parametrize("side", ["reference", "output"])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "Inf"), (-np.inf, "Inf")])
def test_not_finite_fails_on_either_side(side, value, word):
    arrays = {"reference": random(), "output": random()}
    arrays[side][1, 2] = value
    result = compare_output("y", arrays["reference"], arrays["output"], LOOSE)
    assert result.failures == (f"1 {word} in the {side}",)
    assert result.top1 is None


def test_not_finite_at_the_same_places_fails_too():
    value = random()
    value[0, 0] = np.inf
    assert len(compare_output("y", value, value.copy(), LOOSE).failures) == 2


def test_all_nan_has_no_figures():
    value = np.full((2, 3), np.nan, np.float32)
    result = compare_output("y", value, value.copy(), LOOSE)
    assert result.errors is None
    assert "nothing was compared" in result.failures[-1]
    json.dumps(as_json([result.failures, result.not_finite]), allow_nan=False)


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        (random((10, 4)), "shape"),
        (random((4, 10)).astype(np.float16), "dtype float16, expected float32"),
    ],
)
def test_shape_and_dtype_must_be_equal(actual, message):
    result = compare_output("y", random((4, 10)), actual, LOOSE)
    assert not result.passed
    assert message in result.failures[0]


def test_an_empty_array_fails():
    empty = np.zeros((0, 10), np.float32)
    assert "nothing was compared" in compare_output("y", empty, empty, LOOSE).failures[0]


def test_all_zero_outputs_prove_nothing():
    zero = np.zeros((2, 3), np.float32)
    assert "the reference is all zero" in compare_output("y", zero, zero, LOOSE).failures[-1]
    one_sided = compare_output("y", random((2, 3)), zero, LOOSE).failures
    assert "the output is all zero" in one_sided[-1]


def test_a_zero_reference_allows_nothing():
    zero = np.zeros((2, 3), np.float32)
    result = compare_output("y", zero, zero + 1e-30, LOOSE)
    assert result.errors.worst_ratio == math.inf
    assert as_json(result.errors.worst_ratio) is None


def test_missing_extra_and_no_outputs_fail():
    value = random()
    missing, extra = compare_outputs({"a": value}, {"b": value}, LOOSE)
    assert "missing" in missing.failures[0]
    assert "not in the reference" in extra.failures[0]
    (nothing,) = compare_outputs({}, {}, LOOSE)
    assert not nothing.passed


def test_swapped_outputs_fail():
    left, right = random(seed=1), random(seed=2)
    results = compare_outputs({"a": left, "b": right}, {"a": right, "b": left}, LOOSE)
    assert [result.passed for result in results] == [False, False]


def test_integers_and_booleans_must_be_equal():
    reference = np.arange(6)
    assert compare_output("y", reference, reference.copy(), LOOSE).passed
    assert "1 of 6" in compare_output("y", reference, np.r_[:5, 9], LOOSE).failures[0]
    assert not compare_output("y", reference > 2, reference > 3, LOOSE).passed


def test_top1_flips_name_the_item_and_its_margin():
    reference = np.array([[3.0, 1.0, 0.0], [2.0, 1.99, 0.0], [0.0, 1.0, 5.0]])
    actual = reference.copy()
    actual[1, 1] = 2.01
    top1 = compare_output("y", reference, actual, LOOSE).top1
    assert top1.agreement == pytest.approx(2 / 3)
    (flip,) = top1.flips
    assert (flip.item, flip.reference, flip.actual) == (1, 0, 1)
    assert flip.margin == pytest.approx(0.01 / np.sqrt(np.mean(reference**2)))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3, 2)])
def test_other_shapes_have_no_top1(shape):
    assert compare_output("y", random(shape), random(shape), LOOSE).top1 is None


def test_input_effect_tells_outputs_that_ignore_the_input():
    common = random((1, 10)) * np.ones((8, 1), np.float32)
    ignoring = compare_output("y", common, common.copy(), LOOSE)
    answering = compare_output("y", random((8, 10)), random((8, 10)), LOOSE)
    assert ignoring.passed
    assert ignoring.input_effect < 1e-6
    assert answering.input_effect > 0.5
    assert compare_output("y", random((1, 10)), random((1, 10)), LOOSE).input_effect is None


@pytest.mark.parametrize(
    ("name", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)]
)
def test_op_tolerances_hold_one_rounding_and_not_two_units(name, dtype):
    exact = random((4, 1000), dtype=np.float64)
    rounded = exact.astype(dtype).astype(np.float64)
    assert compare_output("y", exact, rounded, OP_TOLERANCES[name]).passed
    unit = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[name]
    off = exact * (1 + 2 * unit)
    assert not compare_output("y", exact, off, OP_TOLERANCES[name]).passed


def test_half_precisions_are_compared_in_float64():
    # In float16 arithmetic 60000 - (-60000) overflows and 1000 elements of 300^2 do too.
    reference = np.full((1, 1000), 300, np.float16)
    reference[0, 0] = 60000
    actual = reference.copy()
    actual[0, 0] = -60000
    result = compare_output("y", reference, actual, LOOSE)
    assert result.errors.max_abs == 120000
    assert math.isfinite(result.errors.cosine)
