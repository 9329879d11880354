"""The function bodies in onnxruntime against the float64 reference."""

import numpy as np
import onnxruntime
import pytest
import reference
from export_models import single_op
from gspn2_deploy.export.functions import Variant

from gspn2_deploy.spec import DIRECTIONS, LINE_SCAN, PROP2D, Direction, Normalize
from gspn2_deploy.validate import OP_TOLERANCES, compare_output

# N, C, H, W; one session runs them all, so every extent is proven free.
SIZES = [(1, 2, 5, 7), (2, 3, 1, 4), (2, 2, 6, 1), (1, 1, 1, 1), (3, 2, 4, 9), (1, 4, 11, 3)]


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def tensors(n, c, height, width, group, mode, seed=0):
    rng = np.random.default_rng(seed)
    # Weights as they are must not let the state grow with the line's length.
    spread = 0.25 if mode is Normalize.NONE else 2.0
    return {
        "x": rng.standard_normal((n, c, height, width)),
        "lam": rng.standard_normal((n, 4, c, height, width)),
        "w": rng.standard_normal((n, 4, 3, group, height, width)) * spread,
        "u": rng.standard_normal((n, 4, c, height, width)),
        "d": rng.standard_normal((n, 4, c, height, width)),
        "m": rng.standard_normal(4),
    }


def run(runner, values, dtype="float32"):
    names = [item.name for item in runner.get_inputs()]
    return runner.run(None, {name: values[name].astype(dtype) for name in names})[0]


def assert_agrees(actual, expected, dtype="float32"):
    tolerance = OP_TOLERANCES[dtype]
    result = compare_output("y", expected, actual.astype(np.float64), tolerance)
    if expected.any():  # lam x can be all zero after rounding, a cosine then does not exist
        assert result.passed, result.failures


@pytest.mark.parametrize("mode", Normalize)
@pytest.mark.parametrize("chunk", [0, 1, 3, 100])
@pytest.mark.parametrize("optional", [(), ("d",), ("d", "m")], ids=["bare", "d", "dm"])
def test_prop2d(mode, chunk, optional):
    runner = session(single_op(Variant(PROP2D, mode, optional=optional), chunk=chunk))
    for size in SIZES:
        for group in {1, size[1]}:
            values = tensors(*size, group, mode)
            extra = {name: values[name] for name in optional}
            needed = [values[name] for name in ("x", "lam", "w", "u")]
            expected = reference.prop2d(*needed, normalize=mode.value, chunk=chunk, **extra)
            assert_agrees(run(runner, values), expected)


@pytest.mark.parametrize("mode", Normalize)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_line_scan(mode, direction):
    for chunk in (0, 2):
        runner = session(single_op(Variant(LINE_SCAN, mode, direction), chunk=chunk))
        for size in SIZES:
            values = tensors(*size, size[1], mode)
            values |= {"lam": values["lam"][:, 0], "w": values["w"][:, 0]}
            needed = [values[name] for name in ("x", "lam", "w")]
            expected = reference.line_scan(*needed, direction.value, mode.value, chunk)
            assert_agrees(run(runner, values), expected)


def test_float16_keeps_its_state_in_float32():
    runner = session(single_op(Variant(PROP2D, Normalize.SIGMOID), dtype="float16"))
    values = tensors(1, 2, 64, 64, 1, Normalize.SIGMOID)
    rounded = {name: value.astype(np.float16) for name, value in values.items()}
    expected = reference.prop2d(*(rounded[name] for name in ("x", "lam", "w", "u")))
    assert_agrees(run(runner, rounded, "float16"), expected, "float16")


@pytest.mark.parametrize("mode", Normalize)
def test_what_has_no_influence_may_be_anything(mode):
    runner = session(single_op(Variant(LINE_SCAN, mode, Direction.LEFT_TO_RIGHT), chunk=3))
    values = tensors(2, 2, 4, 7, 1, mode)
    values |= {"lam": values["lam"][:, 0], "w": values["w"][:, 0]}
    clean = run(runner, values)
    spoilt = values["w"].copy()
    spoilt[..., ::3] = np.nan  # the first step of each segment
    spoilt[:, 0, :, 0] = np.inf  # the missing neighbour p-1 of the first position
    spoilt[:, 2, :, -1] = np.nan
    assert np.array_equal(run(runner, {**values, "w": spoilt}), clean)
    assert np.isfinite(clean).all()


def test_small_sigmoids_keep_their_ratio():
    """onnxruntime's Sigmoid returns 0 or 6e-8 here."""
    runner = session(single_op(Variant(PROP2D, Normalize.SIGMOID)))
    values = tensors(2, 2, 9, 8, 1, Normalize.SIGMOID)
    values["w"] = values["w"].astype(np.float32) - np.float32(13.0)
    expected = reference.prop2d(*(values[name] for name in ("x", "lam", "w", "u")))
    assert_agrees(run(runner, values), expected)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
@pytest.mark.parametrize("mode", [Normalize.SIGMOID, Normalize.SOFTMAX])
def test_extreme_logits_stay_finite(mode, logit):
    runner = session(single_op(Variant(PROP2D, mode)))
    values = tensors(1, 2, 5, 6, 1, mode)
    values["w"] = np.full_like(values["w"], logit)
    expected = reference.prop2d(
        *(values[name] for name in ("x", "lam", "w", "u")), normalize=mode.value
    )
    assert_agrees(run(runner, values), expected)
