"""Bad arguments of the layers around the propagations: as test_abi.py, for these."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import pytest
import torch
from kernel_calls import NCHW, NHWC8, Depthwise, Norm, Projection, last_error

SUCCESS, INVALID_ARGUMENT, UNSUPPORTED, CUDA_ERROR = range(4)
FLOAT32, FLOAT16, BFLOAT16 = range(3)
N, C, H, W = 2, 3, 4, 8
MAP = N * C * H * W * 4  # bytes of x in float32
X, SCALE, SHIFT, OUT, RESPONSE_SCALE, RESPONSE_SHIFT, WORKSPACE = (
    0x10_0000 * i for i in range(1, 8)
)
WEIGHT, BIAS = SCALE, SHIFT
PROXY, PROXY_WEIGHT, PROXY_BIAS = (0x10_0000 * i for i in range(8, 11))
NORM_SCALE, NORM_SHIFT, NORM_OUT = (0x10_0000 * i for i in range(11, 14))


def norm(**changes: float) -> Norm:
    base = {"n": N, "c": C, "h": H, "w": W, "dtype": FLOAT32, "layout": NCHW, "epsilon": 1e-6}
    return Norm(**{**base, **changes})


def pointer(address: int | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(address)


def normalise(library: ctypes.CDLL, **changes: Any) -> int:
    """One without a response, unless told otherwise."""
    call = {
        "norm": norm(), "x": X, "projection": None, "scale": SCALE, "shift": SHIFT,
        "response_scale": None, "response_shift": None, "y": OUT, "workspace": None, "size": 0,
        **changes,
    }  # fmt: skip
    given, x, projection, size = (call.pop(key) for key in ("norm", "x", "projection", "size"))
    return int(
        library.gspn2_channel_norm(
            None if given is None else ctypes.byref(given),
            pointer(x),
            None if projection is None else ctypes.byref(projection),
            *map(pointer, call.values()),
            ctypes.c_size_t(size),
            pointer(None),
        )
    )


def respond(library: ctypes.CDLL, **changes: Any) -> int:
    response = {"response_scale": RESPONSE_SCALE, "response_shift": RESPONSE_SHIFT}
    return normalise(library, **response, **{"workspace": WORKSPACE, "size": 0x10_0000, **changes})


def norm_workspace(library: ctypes.CDLL, given: Norm | None, size: ctypes.c_size_t | None) -> int:
    return int(
        library.gspn2_channel_norm_workspace(
            None if given is None else ctypes.byref(given),
            1,
            None if size is None else ctypes.byref(size),
        )
    )


BAD_NORMS = [
    (None, INVALID_ARGUMENT, "norm is null"),
    (norm(n=0), INVALID_ARGUMENT, "n is 0"),
    (norm(c=-1), INVALID_ARGUMENT, "c is -1"),
    (norm(h=0), INVALID_ARGUMENT, "h is 0"),
    (norm(w=-(2**63)), INVALID_ARGUMENT, "w is -9223372036854775808"),
    (norm(n=2**20, c=2**20, h=2**10, w=2**10), INVALID_ARGUMENT, "overflow"),
    (norm(dtype=3), INVALID_ARGUMENT, "dtype is 3"),
    (norm(dtype=-1), INVALID_ARGUMENT, "dtype is -1"),
    (norm(layout=2), INVALID_ARGUMENT, "layout is 2; expected 0 (NCHW) or 1 (NHWC8)"),
    (norm(layout=-1), INVALID_ARGUMENT, "layout is -1"),
    (norm(epsilon=-1e-6), INVALID_ARGUMENT, "epsilon is -1e-06"),
    (norm(epsilon=math.nan), INVALID_ARGUMENT, "expected finite numbers of at least 0"),
    (norm(epsilon=math.inf), INVALID_ARGUMENT, "epsilon is inf"),
    (norm(response_epsilon=-1), INVALID_ARGUMENT, "response_epsilon -1"),
    (norm(response_epsilon=math.inf), INVALID_ARGUMENT, "response_epsilon inf"),
    (norm(layout=NHWC8), UNSUPPORTED, "layout NHWC8 with dtype 0"),
    (norm(layout=NHWC8, dtype=FLOAT16, c=2049), UNSUPPORTED, "at most 2048 channels"),
    (norm(c=2**31, h=1, w=1), UNSUPPORTED, "below 2^31"),
    (norm(n=2**28, c=1, h=1, w=1), UNSUPPORTED, "n * h * w / 32 below 2^31"),
    (norm(n=1, c=1, h=2**20, w=2**16), UNSUPPORTED, "n * h * w / 32 below 2^31"),
]


@pytest.mark.parametrize(("bad", "status", "message"), BAD_NORMS, ids=lambda v: str(v)[:24])
def test_bad_norm(library: ctypes.CDLL, bad: Norm | None, status: int, message: str) -> None:
    size = ctypes.c_size_t(77)
    calls = (
        lambda: normalise(library, norm=bad),
        lambda: respond(library, norm=bad),
        lambda: norm_workspace(library, bad, size),
    )
    for call in calls:
        assert call() == status
        assert message in last_error(library)
    assert size.value == 77


@pytest.mark.parametrize("name", ["x", "scale", "shift", "y"])
def test_channel_norm_pointers(library: ctypes.CDLL, name: str) -> None:
    for call in (normalise, respond):
        assert call(library, **{name: None}) == INVALID_ARGUMENT
        assert f"{name} is null" in last_error(library)
        assert call(library, **{name: X * 16 + 2}) == INVALID_ARGUMENT
        assert f"{name} is at" in last_error(library)
        assert "not aligned" in last_error(library)


@pytest.mark.parametrize("name", ["response_scale", "response_shift"])
def test_a_response_has_both_parameters(library: ctypes.CDLL, name: str) -> None:
    workspace = {"workspace": WORKSPACE, "size": 0x10_0000}
    assert normalise(library, **{name: RESPONSE_SCALE}, **workspace) == INVALID_ARGUMENT
    expected = "one of response_scale and response_shift is null; expected both or none"
    assert expected in last_error(library)
    response = {"response_scale": RESPONSE_SCALE, "response_shift": RESPONSE_SHIFT}
    assert (
        normalise(library, **{**response, name: RESPONSE_SCALE + 2}, **workspace)
        == INVALID_ARGUMENT
    )
    assert f"{name} is at" in last_error(library)


def test_projections(library: ctypes.CDLL) -> None:
    half = norm(dtype=FLOAT16, layout=NHWC8)
    good = {"c": 2, "proxy": PROXY, "weight": PROXY_WEIGHT, "bias": PROXY_BIAS}
    for changes, status, message in (
        ({"c": 0}, INVALID_ARGUMENT, "the projection's c is 0; expected at least 1"),
        ({"c": -1}, INVALID_ARGUMENT, "the projection's c is -1"),
        ({"c": 3}, UNSUPPORTED, "a projection of 3 channels in layout 1; expected 1 to 2 channels"),
        ({"proxy": None}, INVALID_ARGUMENT, "proxy is null"),
        ({"weight": None}, INVALID_ARGUMENT, "weight is null"),
        ({"bias": None}, INVALID_ARGUMENT, "bias is null"),
        ({"bias": PROXY_BIAS + 1}, INVALID_ARGUMENT, "bias is at"),
        ({"proxy": OUT}, INVALID_ARGUMENT, "overlaps the input proxy "),
        ({"weight": OUT}, INVALID_ARGUMENT, "overlaps the input weight "),
        ({"bias": OUT}, INVALID_ARGUMENT, "overlaps the input bias "),
    ):
        assert normalise(library, norm=half, projection=Projection(**{**good, **changes})) == status
        assert message in last_error(library)
    for given in (norm(), norm(dtype=FLOAT16)):
        assert normalise(library, norm=given, projection=Projection(**good)) == UNSUPPORTED
        assert "expected 1 to 2 channels in layout 1 (NHWC8)" in last_error(library)


@pytest.mark.parametrize(
    ("name", "at", "shift"),
    [
        *(("x", X, shift) for shift in (0, 4, MAP - 4, 4 - MAP)),
        *(("scale", SCALE, shift) for shift in (0, 4 * C - 4, 4 - MAP)),
        ("shift", SHIFT, 4 * C - 4),
        ("response_scale", RESPONSE_SCALE, 4 * C - 4),
        ("response_shift", RESPONSE_SHIFT, 4 - MAP),
    ],
)
def test_channel_norm_overlap(library: ctypes.CDLL, name: str, at: int, shift: int) -> None:
    assert respond(library, y=at + shift) == INVALID_ARGUMENT
    assert f"overlaps the input {name} " in last_error(library)


def test_channels_behind_the_last_one_overlap_too(library: ctypes.CDLL) -> None:
    """Of 3 channels the layout has 8."""
    half = norm(dtype=FLOAT16, layout=NHWC8)
    end = X + 2 * N * H * W * 8
    assert normalise(library, norm=half, y=end - 16) == INVALID_ARGUMENT
    assert "overlaps the input x " in last_error(library)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16])
@pytest.mark.parametrize("name", ["x", "y"])
def test_vectors_are_aligned(library: ctypes.CDLL, name: str, dtype: int) -> None:
    given = {name: (X if name == "x" else OUT) + 8}
    rows = norm(dtype=dtype, layout=NHWC8)
    assert normalise(library, norm=rows, **given) == INVALID_ARGUMENT
    assert "multiples of 16 bytes for layout NHWC8" in last_error(library)
    assert convolve(library, conv=depthwise(dtype=dtype), **given) == INVALID_ARGUMENT
    assert "multiples of 16 bytes for layout NHWC8" in last_error(library)


@pytest.mark.parametrize("layout", [NCHW, NHWC8])
def test_channel_norm_workspace(library: ctypes.CDLL, layout: int) -> None:
    given = norm(dtype=FLOAT16, layout=layout)
    size = ctypes.c_size_t()
    assert norm_workspace(library, given, size) == SUCCESS
    assert size.value > 0
    for workspace, bytes_ in ((None, 0), (WORKSPACE, size.value - 1), (None, size.value)):
        status = respond(library, norm=given, workspace=workspace, size=bytes_)
        assert status == INVALID_ARGUMENT
        assert str(size.value) in last_error(library)
        assert "gspn2_channel_norm_workspace" in last_error(library)
    assert respond(library, norm=given, workspace=WORKSPACE + 8) == INVALID_ARGUMENT
    assert "aligned to 256" in last_error(library)
    for what, at in (("input scale", SCALE), ("output y", OUT)):
        assert respond(library, norm=given, workspace=at - 256, size=512) == INVALID_ARGUMENT
        assert f"overlaps the {what}" in last_error(library)
    assert norm_workspace(library, given, None) == INVALID_ARGUMENT
    assert "bytes is null" in last_error(library)


def test_a_norm_without_a_response_needs_no_workspace(library: ctypes.CDLL) -> None:
    size = ctypes.c_size_t(77)
    given = ctypes.byref(norm())
    assert library.gspn2_channel_norm_workspace(given, 0, ctypes.byref(size)) == SUCCESS
    assert size.value == 0


def depthwise(**changes: int) -> Depthwise:
    base = {"n": N, "c": 8, "h": H, "w": W, "dtype": FLOAT16, "kernel": 3}
    return Depthwise(**{**base, **changes})


def convolve(library: ctypes.CDLL, **changes: Any) -> int:
    call = {"conv": depthwise(), "x": X, "weight": WEIGHT, "bias": BIAS, "y": OUT, **changes}
    given = call.pop("conv")
    return int(
        library.gspn2_depthwise(
            None if given is None else ctypes.byref(given),
            *map(pointer, call.values()),
            pointer(None),
        )
    )


BAD_CONVOLUTIONS = [
    (None, INVALID_ARGUMENT, "conv is null"),
    (depthwise(n=0), INVALID_ARGUMENT, "n is 0"),
    (depthwise(c=-8), INVALID_ARGUMENT, "c is -8"),
    (depthwise(h=0), INVALID_ARGUMENT, "h is 0"),
    (depthwise(w=-1), INVALID_ARGUMENT, "w is -1"),
    (depthwise(n=2**20, c=2**20, h=2**12, w=2**12), INVALID_ARGUMENT, "overflow"),
    (depthwise(dtype=3), INVALID_ARGUMENT, "dtype is 3"),
    (depthwise(activation=2), INVALID_ARGUMENT, "activation is 2; expected 0 (identity) or 1"),
    (depthwise(activation=-1), INVALID_ARGUMENT, "activation is -1"),
    (depthwise(dtype=FLOAT32), UNSUPPORTED, "dtype 0"),
    *((depthwise(kernel=k), UNSUPPORTED, f"kernel = {k};") for k in (-3, 0, 1, 2, 4, 9)),
    (depthwise(h=2**31), UNSUPPORTED, "each extent below 2^31 - 16"),
    (depthwise(n=2**31, h=1, w=1), UNSUPPORTED, "2147483648 blocks"),
]


@pytest.mark.parametrize(("bad", "status", "message"), BAD_CONVOLUTIONS, ids=lambda v: str(v)[:24])
def test_bad_depthwise(
    library: ctypes.CDLL, bad: Depthwise | None, status: int, message: str
) -> None:
    far = {"weight": 2**50, "bias": 2**51, "y": 2**52}
    assert convolve(library, conv=bad, **far) == status
    assert message in last_error(library)


@pytest.mark.parametrize("name", ["x", "weight", "bias", "y"])
def test_depthwise_pointers(library: ctypes.CDLL, name: str) -> None:
    if name != "bias":
        assert convolve(library, **{name: None}) == INVALID_ARGUMENT
        assert f"{name} is null" in last_error(library)
    assert convolve(library, **{name: X * 16 + 1}) == INVALID_ARGUMENT
    assert f"{name} is at" in last_error(library)


@pytest.mark.parametrize(
    ("name", "at", "bytes_"),
    [("x", X, 2 * N * 8 * H * W), ("weight", WEIGHT, 2 * 8 * 9), ("bias", BIAS, 2 * 8)],
)
def test_depthwise_overlap(library: ctypes.CDLL, name: str, at: int, bytes_: int) -> None:
    for y in (at, at + bytes_ - 2, at - 2 * N * 8 * H * W + 2):
        assert convolve(library, y=y) == INVALID_ARGUMENT
        assert f"overlaps the input {name} " in last_error(library)


def test_depthwise_overlap_behind_the_last_channel(library: ctypes.CDLL) -> None:
    """Twelve channels take the room of sixteen."""
    bytes_ = 2 * N * 16 * H * W
    for y in (X + bytes_ - 16, X - bytes_ + 16):
        assert convolve(library, conv=depthwise(c=12), y=y) == INVALID_ARGUMENT
        assert "overlaps the input x " in last_error(library)


def convolve_and_normalise(library: ctypes.CDLL, **changes: Any) -> int:
    call = {
        "conv": depthwise(), "epsilon": 1e-6, "x": X, "weight": WEIGHT, "bias": BIAS,
        "scale": NORM_SCALE, "shift": NORM_SHIFT, "y": OUT, "z": NORM_OUT, **changes,
    }  # fmt: skip
    given, epsilon = call.pop("conv"), call.pop("epsilon")
    return int(
        library.gspn2_depthwise_norm(
            None if given is None else ctypes.byref(given),
            ctypes.c_float(epsilon),
            *map(pointer, call.values()),
            pointer(None),
        )
    )


BAD_CONVOLUTIONS_WITH_NORMS = [
    (None, INVALID_ARGUMENT, "conv is null"),
    (depthwise(n=0), INVALID_ARGUMENT, "n is 0"),
    (depthwise(activation=2), INVALID_ARGUMENT, "activation is 2"),
    (depthwise(dtype=FLOAT32), UNSUPPORTED, "dtype 0"),
    (depthwise(c=12), UNSUPPORTED, "a multiple of 8 and at most 1024 channels"),
    (depthwise(c=1032), UNSUPPORTED, "at most 1024 channels"),
    *((depthwise(kernel=k), UNSUPPORTED, f"kernel = {k}; expected a kernel of 3") for k in (5, 7)),
    (depthwise(n=2**10, h=2**10, w=2**10), UNSUPPORTED, "n * h * w below 2^30"),
]


@pytest.mark.parametrize(
    ("bad", "status", "message"), BAD_CONVOLUTIONS_WITH_NORMS, ids=lambda v: str(v)[:24]
)
def test_bad_depthwise_norm(
    library: ctypes.CDLL, bad: Depthwise | None, status: int, message: str
) -> None:
    assert convolve_and_normalise(library, conv=bad) == status
    assert message in last_error(library)


@pytest.mark.parametrize("epsilon", [-1e-6, math.nan, math.inf])
def test_epsilon_of_a_depthwise_norm(library: ctypes.CDLL, epsilon: float) -> None:
    assert convolve_and_normalise(library, epsilon=epsilon) == INVALID_ARGUMENT
    assert "expected a finite number of at least 0" in last_error(library)


@pytest.mark.parametrize("name", ["x", "weight", "bias", "scale", "shift", "y", "z"])
def test_depthwise_norm_pointers(library: ctypes.CDLL, name: str) -> None:
    if name != "bias":
        assert convolve_and_normalise(library, **{name: None}) == INVALID_ARGUMENT
        assert f"{name} is null" in last_error(library)
    assert convolve_and_normalise(library, **{name: X * 32 + 1}) == INVALID_ARGUMENT
    assert f"{name} is at" in last_error(library)
    if name in "xyz":
        assert convolve_and_normalise(library, **{name: X * 32 + 8}) == INVALID_ARGUMENT
        assert "multiples of 16 bytes" in last_error(library)


@pytest.mark.parametrize("output", ["y", "z"])
@pytest.mark.parametrize(
    ("name", "at"),
    [("x", X), ("weight", WEIGHT), ("bias", BIAS), ("scale", NORM_SCALE), ("shift", NORM_SHIFT)],
)
def test_depthwise_norm_overlap(library: ctypes.CDLL, name: str, at: int, output: str) -> None:
    for shift in (0, 2 - 2 * N * 8 * H * W):
        assert convolve_and_normalise(library, **{output: at + shift}) == INVALID_ARGUMENT
        assert f"{output} (" in last_error(library)
        assert f"overlaps the input {name} " in last_error(library)


def test_outputs_of_a_depthwise_norm_that_overlap(library: ctypes.CDLL) -> None:
    for z in (OUT, OUT + 2 * N * 8 * H * W - 16, OUT - 2 * N * 8 * H * W + 16):
        assert convolve_and_normalise(library, z=z) == INVALID_ARGUMENT
        assert "overlaps the output y " in last_error(library)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there: the calls would launch")
def test_without_a_gpu_the_calls_are_refused(library: ctypes.CDLL) -> None:
    for call in (normalise, respond, convolve, convolve_and_normalise):
        assert call(library) == CUDA_ERROR
        assert "CUDA error" in last_error(library)
    for changes in ({"bias": None}, {"conv": depthwise(kernel=7, activation=1, residual=1)}):
        assert convolve(library, **changes) == CUDA_ERROR
    for changes in ({"bias": None}, {"conv": depthwise(c=1024, activation=1, residual=1)}):
        assert convolve_and_normalise(library, **changes) == CUDA_ERROR
