"""Bad arguments of the C ABI: a status and a message, never a launch. Needs no GPU.

The pointers are made up: a launch would fault. Every case must be refused before CUDA is asked.
"""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from kernel_calls import last_error

from gspn2_deploy.errors import KernelLibraryError
from gspn2_deploy.ops import cuda

SUCCESS, INVALID_ARGUMENT, UNSUPPORTED, CUDA_ERROR = range(4)
N, C, H, W, G = 2, 3, 4, 8, 1
MAP = N * C * H * W * 4  # bytes of x in float32
X, LAM, W_PTR, OUT, U, D, M = (0x10_0000 * i for i in range(1, 8))


def problem(**changes: int) -> cuda.Problem:
    base = {"n": N, "c": C, "h": H, "w": W, "g": G, "chunk": 0, "dtype": 0, "normalize": 1}
    return cuda.Problem(**{**base, **changes})


def scan(library: ctypes.CDLL, **changes: Any) -> int:
    call = {
        "problem": problem(), "direction": 0, "x": X, "lam": LAM, "w": W_PTR, "h": OUT,
        "workspace": None, "size": 0, "stream": None, **changes,
    }  # fmt: skip
    return int(library.gspn2_line_scan(*call.values()))


def merge(library: ctypes.CDLL, **changes: Any) -> int:
    call = {
        "problem": problem(), "strides": None, "x": X, "lam": LAM, "w": W_PTR, "u": U, "d": D,
        "m": M, "y": OUT, "workspace": None, "size": 0, "stream": None, **changes,
    }  # fmt: skip
    return int(library.gspn2_prop2d(*call.values()))


BAD_PROBLEMS = [
    (None, "problem is null"),
    (problem(n=0), "n is 0"),
    (problem(c=-1), "c is -1"),
    (problem(h=0), "h is 0"),
    (problem(w=-(2**63)), "w is -9223372036854775808"),
    (problem(n=2**31, c=2**20, h=2**10, w=2**10), "overflow"),
    (problem(n=2**62, c=2), "overflow"),
    (problem(g=2), "g is 2; expected 1 (affinities shared by the channels) or c = 3"),
    (problem(g=0), "g is 0"),
    (problem(chunk=-1), "chunk is -1"),
    (problem(dtype=3), "dtype is 3"),
    (problem(dtype=-1), "dtype is -1"),
    (problem(normalize=7), "normalize is 7"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_PROBLEMS, ids=lambda v: str(v)[:24])
def test_bad_problem(library: ctypes.CDLL, bad: cuda.Problem | None, message: str) -> None:
    size = ctypes.c_size_t(77)
    calls = (
        lambda: scan(library, problem=bad),
        lambda: merge(library, problem=bad),
        lambda: library.gspn2_line_scan_workspace(bad, 0, size),
        lambda: library.gspn2_prop2d_workspace(bad, None, 0, size),
    )
    for call in calls:
        assert call() == INVALID_ARGUMENT
        assert message in last_error(library)
    assert size.value == 77


@pytest.mark.parametrize("direction", [-1, 4, 1 << 20])
def test_bad_direction(library: ctypes.CDLL, direction: int) -> None:
    assert scan(library, direction=direction) == INVALID_ARGUMENT
    assert f"direction is {direction}" in last_error(library)


@pytest.mark.parametrize("name", ["x", "lam", "w", "h"])
def test_line_scan_pointers(library: ctypes.CDLL, name: str) -> None:
    assert scan(library, **{name: None}) == INVALID_ARGUMENT
    assert f"{name} is null" in last_error(library)
    assert scan(library, **{name: X * 16 + 2}) == INVALID_ARGUMENT
    assert f"{name} is at" in last_error(library)
    assert "not aligned" in last_error(library)


@pytest.mark.parametrize("name", ["x", "lam", "w", "u", "y"])
def test_prop2d_pointers(library: ctypes.CDLL, name: str) -> None:
    assert merge(library, **{name: None}) == INVALID_ARGUMENT
    assert f"{name} is null" in last_error(library)


@pytest.mark.parametrize("name", ["d", "m"])
def test_optional_pointers_are_checked_too(library: ctypes.CDLL, name: str) -> None:
    assert merge(library, **{name: X * 16 + 1}) == INVALID_ARGUMENT
    assert f"{name} is at" in last_error(library)


@pytest.mark.parametrize("name", ["x", "lam", "w"])
@pytest.mark.parametrize("shift", [0, 4, MAP - 4, 4 - MAP])
def test_line_scan_overlap(library: ctypes.CDLL, name: str, shift: int) -> None:
    other = {"x": X, "lam": LAM, "w": W_PTR}[name]
    assert scan(library, h=other + shift) == INVALID_ARGUMENT
    assert f"overlaps the input {name} " in last_error(library)


@pytest.mark.parametrize(
    ("name", "shift"), [("lam", 4 * MAP - 4), ("u", 4 * MAP - 4), ("d", 0), ("m", 12)]
)
def test_prop2d_overlap(library: ctypes.CDLL, name: str, shift: int) -> None:
    other = {"lam": LAM, "u": U, "d": D, "m": M}[name]
    assert merge(library, y=other + shift) == INVALID_ARGUMENT
    assert f"overlaps the input {name} " in last_error(library)


PLANE, ITEM = H * W, 4 * C * H * W


@pytest.mark.parametrize(
    ("strides", "message"),
    [
        ((2 * PLANE, 0, 0), f"the batch stride of x is {2 * PLANE}"),
        ((3 * PLANE + 1, 0, 0), f"no less than the {3 * PLANE} elements of an item"),
        ((0, ITEM - PLANE, 0), f"the batch stride of lam, u and d is {ITEM - PLANE}"),
        ((0, -ITEM, 0), f"is {-ITEM}; expected 0 (dense) or a multiple of h * w = {PLANE}"),
        ((0, ITEM + 1, 0), f"no less than the {ITEM} elements of an item"),
        ((0, 2**62, 0), "n of them below 2^63 bytes"),
        ((0, 0, 11 * PLANE), f"the batch stride of w is {11 * PLANE}"),
        ((0, 0, 12 * PLANE + W), "the batch stride of w is"),
    ],
)
def test_bad_batch_strides(
    library: ctypes.CDLL, strides: tuple[int, int, int], message: str
) -> None:
    given, size = cuda.Strides(*strides), ctypes.c_size_t(77)
    calls = (
        lambda: merge(library, strides=given),
        lambda: library.gspn2_prop2d_workspace(problem(), given, 0, size),
    )
    for call in calls:
        assert call() == INVALID_ARGUMENT
        assert message in last_error(library)
    assert size.value == 77


@pytest.mark.parametrize(
    ("strides", "changes", "status", "message"),
    [
        ((0, 0, 0, -8), {}, INVALID_ARGUMENT, "the position stride is -8; expected 0 or 1 (NCHW)"),
        ((0, 0, 0, 20), {}, INVALID_ARGUMENT, "a multiple of 8, no less than the 12 of lam or w"),
        ((0, 0, 0, 8), {}, INVALID_ARGUMENT, "is 8; expected"),
        ((0, 0, 0, 32), {"g": C}, INVALID_ARGUMENT, "no less than the 36 of lam or w"),
        ((0, 0, 0, 2**60), {}, INVALID_ARGUMENT, "4 * n * h * w * position below 2^63"),
        ((0, 0, 0, 16), {"dtype": 0}, UNSUPPORTED, "is 16 with dtype 0; expected float16"),
        ((3 * PLANE, 0, 0, 16), {}, INVALID_ARGUMENT, "the batch stride of x is"),
        ((0, 17 * PLANE, 0, 16), {}, INVALID_ARGUMENT, f"h * w * position = {16 * PLANE}, no less"),
    ],
)
def test_bad_position_strides(
    library: ctypes.CDLL,
    strides: tuple[int, int, int, int],
    changes: dict[str, int],
    status: int,
    message: str,
) -> None:
    given, size = cuda.Strides(*strides), ctypes.c_size_t(77)
    bad = problem(**{"dtype": 1, **changes})
    calls = (
        lambda: merge(library, problem=bad, strides=given),
        lambda: library.gspn2_prop2d_workspace(bad, given, 0, size),
    )
    for call in calls:
        assert call() == status
        assert message in last_error(library)
    assert size.value == 77


@pytest.mark.parametrize(("name", "channels"), [("x", C), ("lam", 4 * C), ("w", 12 * G)])
def test_an_output_between_positions(library: ctypes.CDLL, name: str, channels: int) -> None:
    other = {"x": X, "lam": LAM, "w": W_PTR}[name]
    last = 2 * (48 * (N * PLANE - 1) + channels - 1)  # bytes to the last element
    for y in (other + last, other + 2 * channels):
        call = {"problem": problem(dtype=1), "strides": cuda.Strides(0, 0, 0, 48), "y": y}
        assert merge(library, **call) == INVALID_ARGUMENT
        assert f"overlaps the input {name} " in last_error(library)
    assert merge(library, **{**call, "y": other + last + 2}) == INVALID_ARGUMENT
    assert "gspn2_prop2d_workspace says" in last_error(library)


def test_a_copy_of_x_needs_workspace(library: ctypes.CDLL) -> None:
    assert merge(library, strides=cuda.Strides(4 * PLANE, 0, 0)) == INVALID_ARGUMENT
    assert f"expected at least {MAP} bytes" in last_error(library)


@pytest.mark.parametrize(
    ("name", "shift"),
    [("x", 4 * PLANE), ("lam", ITEM), ("u", 2 * ITEM - 4), ("d", 3 * ITEM - 4), ("w", 100 * PLANE)],
)
def test_an_output_between_batch_items(library: ctypes.CDLL, name: str, shift: int) -> None:
    """Items lie apart, and the output inside what a tensor spans: its last element included."""
    other = {"x": X, "lam": LAM, "u": U, "d": D, "w": W_PTR}[name]
    strides = cuda.Strides(10 * PLANE, 2 * ITEM, 200 * PLANE)
    assert merge(library, strides=strides, y=other + 4 * shift) == INVALID_ARGUMENT
    assert f"overlaps the input {name} " in last_error(library)


@pytest.mark.parametrize(("name", "at"), [("input x", X), ("output h", OUT)])
def test_workspace_overlap(library: ctypes.CDLL, name: str, at: int) -> None:
    assert scan(library, workspace=at - 256, size=512) == INVALID_ARGUMENT
    assert f"overlaps the {name}" in last_error(library)


def test_workspace_too_small(library: ctypes.CDLL) -> None:
    long = problem(n=1, c=1, w=200_000)
    size = ctypes.c_size_t()
    assert library.gspn2_line_scan_workspace(long, 2, size) == SUCCESS
    assert size.value > 0
    far = {"x": 1 << 32, "lam": 2 << 32, "w": 3 << 32, "h": 4 << 32}
    for workspace, given in ((None, 0), (5 << 32, size.value - 1), (None, size.value)):
        status = scan(library, problem=long, direction=2, **far, workspace=workspace, size=given)
        assert status == INVALID_ARGUMENT
        assert str(size.value) in last_error(library)
    status = scan(
        library, problem=long, direction=2, **far, workspace=(5 << 32) + 8, size=size.value
    )
    assert status == INVALID_ARGUMENT
    assert "aligned to 256" in last_error(library)


def test_null_result(library: ctypes.CDLL) -> None:
    assert library.gspn2_line_scan_workspace(problem(), 0, None) == INVALID_ARGUMENT
    assert "bytes is null" in last_error(library)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there: the call would launch")
def test_without_a_gpu_the_call_is_refused(library: ctypes.CDLL) -> None:
    assert scan(library) == CUDA_ERROR
    assert "CUDA error" in last_error(library)


def test_missing_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv(cuda.LIBRARY_VARIABLE, str(tmp_path / "absent.so"))
    with pytest.raises(KernelLibraryError, match=r"absent\.so[\s\S]*cmake"):
        cuda.load_library.__wrapped__()


def test_foreign_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    path = tmp_path / "foreign.so"
    path.write_bytes(b"not a library")
    monkeypatch.setenv(cuda.LIBRARY_VARIABLE, str(path))
    with pytest.raises(KernelLibraryError, match="does not load"):
        cuda.load_library.__wrapped__()


def test_other_abi_version(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "ABI_VERSION", 999)
    with pytest.raises(KernelLibraryError, match="999"):
        cuda.load_library.__wrapped__()
