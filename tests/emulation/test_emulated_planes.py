"""Tensors in NHWC8 that become planes ahead of gspn2_prop2d, on the emulated device.

The bits are those of a call with dense tensors, on the generic path, which takes planes alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import emulated
import pytest
import torch
from conftest import Opener
from emulated import Fenced
from kernel_calls import DTYPES, prop2d, prop2d_inputs
from torch import Tensor

VECTOR = 8

# The tensors that the parts lie in: each part's name and the unused channels ahead of it.
Layout = tuple[tuple[tuple[str, int], ...], ...]
LAYOUTS: dict[str, Layout] = {
    "side by side": ((("lam", 0), ("u", 0), ("d", 0), ("w", 0), ("x", 0)),),
    "apart": ((("lam", 1), ("u", 3), ("d", 5), ("w", 7), ("x", 2)),),
    "whole vectors between": ((("lam", 9), ("u", 17), ("d", 24), ("w", 30), ("x", 19)),),
    "in another order": ((("x", 3), ("w", 0), ("d", 6), ("u", 0), ("lam", 16)),),
    "of three tensors": ((("w", 5),), (("u", 0), ("d", 11), ("lam", 4)), (("x", 7),)),
}
WHOLE = ((1, 8), (8, 16), (12, 12), (16, 65))  # planes of whole vectors, less than a tile and more
RAGGED = ((1, 3), (7, 7), (14, 14), (13, 21))


def lay_out(
    given: dict[str, Tensor], layout: Layout, move: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Views of tensors in NHWC8, with NaN between, whose items lie apart from the second one on."""
    channels = {name: value.shape[1:-2].numel() for name, value in given.items()}
    widest = max(sum(gap + channels.get(name, 0) for name, gap in tensor) for tensor in layout)
    position = -(-widest // VECTOR) * VECTOR
    found = {}
    for room, tensor in enumerate(layout, 1):
        x = given["x"]
        n, _, height, width = x.shape
        rows = x.new_full((n, room, height, width, position), torch.nan)
        spans, end = {}, 0
        for name, gap in tensor:
            if name not in given:
                continue
            start, end = end + gap, end + gap + channels[name]
            spans[name] = slice(start, end)
            value = given[name].reshape(n, -1, height, width)
            rows[:, 0, ..., start:end] = value.movedim(1, -1)
        rows = move(rows)
        for name, span in spans.items():
            view = rows[:, 0].movedim(-1, 1)[:, span]
            found[name] = view.unflatten(1, given[name].shape[1:-2])
    return found


def parts(
    size: tuple[int, int, int, int], per_channel: bool, dtype: torch.dtype, options: bool
) -> tuple[dict[str, Tensor], Tensor | None]:
    """The tensors by name, and m."""
    x, lam, w, u, d, m = prop2d_inputs(size, per_channel, dtype, "sigmoid", options, "cpu")
    given = {"x": x, "lam": lam, "w": w, "u": u}
    return (given if d is None else {**given, "d": d}), m


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("extent", [*WHOLE, *RAGGED], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_bits_of_dense_tensors(
    opener: Opener, layout: str, extent: tuple[int, int], dtype: torch.dtype
) -> None:
    library = opener("generic")
    forms = ((1, 2, False, True), (3, 2, False, False), (2, 5, True, True))
    for (n, c, per_channel, options), at_end in itertools.product(forms, (False, True)):
        given, m = parts((n, c, *extent), per_channel, dtype, options)
        expected = prop2d(**given, m=m, library=library)
        with Fenced(library) as fenced:
            move = functools.partial(fenced.copy, at_end=at_end)
            views = lay_out(given, LAYOUTS[layout], move)
            emulated.take_kernels(library)
            out = prop2d(**views, m=m, library=library)
            kernel, *others = emulated.take_kernels(library)
        what = f"{layout} {n}x{c} {per_channel=} {options=} {at_end=}"
        assert emulated.kernel_template(kernel) == "layOutPlanesKernel", what
        assert kernel.endswith(f"<{str(extent in WHOLE).lower()}>"), kernel
        assert "layOutPlanesKernel" not in map(emulated.kernel_template, others), what
        assert torch.equal(out, expected), what


# Of 40 channels: the first of each part. All of them lie in what another part has, some in its
# middle, or begin in its last vector and go on behind it.
SHARED = (
    {"x": 1, "lam": 0, "u": 0, "d": 0, "w": 0},
    {"x": 1, "lam": 2, "u": 5, "d": 6, "w": 0},
    {"x": 30, "lam": 27, "u": 13, "d": 20, "w": 19},
)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("extent", [(16, 16), (13, 11)], ids=str)
@pytest.mark.parametrize("firsts", SHARED, ids=str)
def test_parts_that_share_channels(
    opener: Opener, firsts: dict[str, int], extent: tuple[int, int], every: int
) -> None:
    """x is of the items of the other parts, or of every second one."""
    library = opener("generic")
    rows = torch.rand(3 * every, *extent, 40).half().movedim(-1, 1)
    shapes = {"x": (3,), "lam": (4, 3), "u": (4, 3), "d": (4, 3), "w": (4, 3, 1)}
    views = {}
    for name, shape in shapes.items():
        items = rows[::every] if name == "x" else rows[:3]
        first = firsts[name]
        views[name] = items[:, first : first + torch.Size(shape).numel()].unflatten(1, shape)
    dense = {name: value.contiguous() for name, value in views.items()}
    out = prop2d(**views, library=library)
    assert torch.equal(out, prop2d(**dense, library=library))


def test_no_schedule_changes_a_bit(opener: Opener) -> None:
    library = opener("generic")
    for extent in ((24, 17), (15, 19)):
        given, m = parts((2, 3, *extent), True, torch.bfloat16, True)
        views = lay_out(given, LAYOUTS["in another order"], lambda rows: rows)
        expected = prop2d(**given, m=m, library=library)
        for seed in range(4):
            with emulated.seeded(seed):
                assert torch.equal(prop2d(**views, m=m, library=library), expected), seed
