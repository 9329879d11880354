"""The CPU operators against the independent float64 reference, and their gradients."""

import numpy as np
import pytest
import reference
import torch

from gspn2_deploy import ops
from gspn2_deploy.errors import ShapeError
from gspn2_deploy.ops import cuda
from gspn2_deploy.spec import DIRECTIONS, Direction, Normalize

SIZES = [(1, 1), (1, 6), (6, 1), (2, 2), (5, 8), (7, 3)]
NORMALIZE = [mode.value for mode in Normalize]


def make_inputs(size, *, channels=2, group=1, batch=2, dtype=torch.float64, seed=0):
    """All of prop2d's tensors, fresh and random."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    gate = (batch, 4, channels, *size)
    return {
        "x": draw(batch, channels, *size),
        "lam": draw(*gate),
        "w": draw(batch, 4, 3, group, *size),
        "u": draw(*gate),
        "d": draw(*gate),
        "m": draw(4),
    }


def expected_prop2d(tensors, normalize="sigmoid", chunk=0):
    arrays = {name: value.double().numpy() for name, value in tensors.items()}
    return reference.prop2d(**arrays, normalize=normalize, chunk=chunk)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("chunk", [0, 1, 2, 3, 100])
def test_prop2d_matches_the_reference(size, normalize, group, chunk):
    tensors = make_inputs(size, group=group)
    y = ops.prop2d(**tensors, normalize=normalize, chunk=chunk)
    np.testing.assert_allclose(
        y.numpy(), expected_prop2d(tensors, normalize, chunk), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("chunk", [0, 3])
def test_line_scan_matches_the_reference(direction, normalize, chunk):
    t = make_inputs((5, 7))
    h = ops.line_scan(t["x"], t["lam"][:, 0], t["w"][:, 0], direction.value, normalize, chunk)
    expected = reference.line_scan(
        t["x"].numpy(), t["lam"][:, 0].numpy(), t["w"][:, 0].numpy(), direction.value, normalize,
        chunk,
    )  # fmt: skip
    np.testing.assert_allclose(h.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("with_d", [False, True])
@pytest.mark.parametrize("with_m", [False, True])
def test_optional_inputs_may_be_absent(with_d, with_m):
    tensors = make_inputs((4, 5))
    if not with_d:
        del tensors["d"]
    if not with_m:
        del tensors["m"]
    np.testing.assert_allclose(
        ops.prop2d(**tensors).numpy(), expected_prop2d(tensors), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    "dtype, tolerance",
    [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1.6e-2)],
)
def test_low_precision_rounds_only_inputs_and_outputs(dtype, tolerance):
    # The state is float32: against float64 on the *rounded* inputs only the output's own rounding
    # (half a unit in the last place, relative) is left.
    tensors = make_inputs((16, 12), dtype=dtype)
    y = ops.prop2d(**tensors)
    assert y.dtype == dtype
    expected = expected_prop2d(tensors)
    error = np.abs(y.double().numpy() - expected) / np.maximum(np.abs(expected), 1.0)
    assert error.max() < tolerance


def test_non_contiguous_inputs():
    tensors = make_inputs((6, 6))
    expected = ops.prop2d(**tensors)
    tensors["x"] = tensors["x"].transpose(2, 3).contiguous().transpose(2, 3)
    tensors["lam"] = tensors["lam"].movedim(1, -1).contiguous().movedim(-1, 1)
    y = ops.prop2d(**tensors)
    assert torch.equal(y, expected)
    assert y.is_contiguous()


def test_all_logits_far_below_zero_stay_finite():
    tensors = make_inputs((4, 4), dtype=torch.float32)
    tensors["w"].fill_(-200.0)  # every sigmoid underflows to 0: the clamp keeps 0/0 away
    assert torch.isfinite(ops.prop2d(**tensors)).all()


@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_weights_without_influence_never_reach_the_result(normalize, poison):
    t = make_inputs((4, 5))
    clean = ops.line_scan(t["x"], t["lam"][:, 2], t["w"][:, 2], "top_to_bottom", normalize, 2)
    w = t["w"][:, 2].clone()
    w[:, :, :, 0::2] = poison  # first steps of the segments
    w[:, 0, :, :, 0] = poison  # no neighbour p-1 at the line's start
    w[:, 2, :, :, -1] = poison  # no neighbour p+1 at its end
    h = ops.line_scan(t["x"], t["lam"][:, 2], w, "top_to_bottom", normalize, 2)
    assert torch.equal(h, clean)


def test_nan_spreads_along_its_light_cone_only():
    t = make_inputs((5, 9), batch=1, channels=1)
    t["x"][0, 0, 1, 4] = float("nan")
    h = ops.line_scan(t["x"], t["lam"][:, 2], t["w"][:, 2], "top_to_bottom")
    row, column = torch.meshgrid(torch.arange(5), torch.arange(9), indexing="ij")
    cone = (row >= 1) & ((column - 4).abs() <= row - 1)
    assert torch.equal(h.isnan()[0, 0], cone)


@pytest.mark.parametrize("normalize", NORMALIZE)
@pytest.mark.parametrize("group, chunk", [(1, 0), (2, 2)])
def test_prop2d_gradients(normalize, group, chunk):
    tensors = make_inputs((3, 4), group=group, batch=1)
    inputs = tuple(value.requires_grad_() for value in tensors.values())
    assert torch.autograd.gradcheck(
        lambda *values: ops.prop2d(*values, normalize, chunk), inputs, fast_mode=True
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("chunk", [0, 3])
def test_line_scan_gradients(direction, chunk):
    t = make_inputs((4, 5), batch=1)
    inputs = tuple(v.clone().requires_grad_() for v in (t["x"], t["lam"][:, 0], t["w"][:, 0]))
    assert torch.autograd.gradcheck(
        lambda *values: ops.line_scan(*values, direction.value, "sigmoid", chunk), inputs
    )


def test_sigmoid_gradient_where_the_sum_is_clamped():
    # Not gradcheck's business: the true derivatives are about 1e-9 there.
    t = make_inputs((3, 3), batch=1)
    w = torch.full_like(t["w"][:, 0], -40.0).requires_grad_()
    ops.line_scan(t["x"], t["lam"][:, 0], w).sum().backward()
    assert torch.isfinite(w.grad).all()


def test_gradients_only_where_asked():
    t = make_inputs((3, 3))
    del t["d"]
    t["x"].requires_grad_()
    ops.prop2d(**t).sum().backward()
    assert t["x"].grad is not None
    assert t["lam"].grad is None


def test_registrations_are_sound():
    t = make_inputs((3, 4), dtype=torch.float32, batch=1)
    lam, w = t["lam"][:, 0].clone(), t["w"][:, 0].clone()
    torch.library.opcheck(ops.line_scan, (t["x"].requires_grad_(), lam, w))
    torch.library.opcheck(ops.prop2d, tuple(t.values()))
    torch.library.opcheck(ops.prop2d, (t["x"], t["lam"], t["w"], t["u"]))


def test_compiles_without_graph_breaks():
    t = make_inputs((3, 4), dtype=torch.float32)
    compiled = torch.compile(lambda v: ops.prop2d(**v), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(t), ops.prop2d(**t))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": torch.zeros(2, 3, 4)}, "4 axes"),
        ({"lam": torch.zeros(2, 3, 2, 3, 4)}, "lam does not fit"),
        ({"w": torch.zeros(2, 4, 3, 5, 3, 4)}, "w does not fit"),
        ({"w": torch.zeros(2, 4, 2, 1, 3, 4)}, "w does not fit"),
        ({"w": torch.zeros(3)}, "w does not fit"),
        ({"u": torch.zeros(2, 4, 2, 4, 3)}, "u does not fit"),
        ({"d": torch.zeros(1, 4, 2, 3, 4)}, "d does not fit"),
        ({"m": torch.zeros(5)}, "m does not fit"),
        ({"u": torch.zeros(2, 4, 2, 3, 4, dtype=torch.float16)}, "differs from x in dtype"),
        ({"normalize": "l2"}, "unknown normalize"),
        ({"chunk": -1}, "chunk is negative"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_are_refused(change, message):
    arguments = make_inputs((3, 4), dtype=torch.float32) | change
    with pytest.raises(ShapeError, match=message):
        ops.prop2d(**arguments)


def test_line_scan_refuses_an_unknown_direction():
    t = make_inputs((3, 4))
    with pytest.raises(ShapeError, match="unknown direction"):
        ops.line_scan(t["x"], t["lam"][:, 0], t["w"][:, 0], "up")
    with pytest.raises(ShapeError, match="unsupported dtype"):
        ops.line_scan(*(v.int() for v in (t["x"], t["lam"][:, 0], t["w"][:, 0])))


def test_opposite_directions_mirror_each_other():
    t = make_inputs((4, 6))
    args = (t["x"], t["lam"][:, 0], t["w"][:, 0])
    for direction, axis in ((Direction.LEFT_TO_RIGHT, -1), (Direction.TOP_TO_BOTTOM, -2)):
        forward = ops.line_scan(*args, direction.value)
        backward = ops.line_scan(*(v.flip(axis) for v in args), direction.opposite.value)
        torch.testing.assert_close(forward, backward.flip(axis), rtol=1e-13, atol=1e-13)


def test_parts_of_one_tensor_go_to_the_kernels_as_they_lie():
    whole = torch.randn(2, 40, 3, 4)
    lam, u, w = (whole[:, first : first + 12].unflatten(1, (4, 3)) for first in (1, 13, 26))
    (same, other), between = cuda._items(lam, u)
    assert same is lam
    assert other is u
    assert between == whole.stride(0)
    assert cuda._items(w)[1] == whole.stride(0)
    dense = w.contiguous()
    assert cuda._items(dense) == ([dense], dense.stride(0))


@pytest.mark.parametrize(
    "strange",
    [
        lambda lam: lam[:1].expand_as(lam),  # the items are one
        lambda lam: lam.contiguous(),  # not as far apart as the others
        lambda lam: torch.cat([lam, lam], -1)[..., : lam.shape[-1]],
        lambda lam: lam.transpose(1, 2),
        lambda lam: torch.randn(2, lam[0].numel() + 5)[:, :-5].view(lam.shape),  # between planes
    ],
)
def test_tensors_that_the_kernels_cannot_read_are_copied(strange):
    lam = torch.randn(2, 40, 3, 4)[:, 4:20].unflatten(1, (4, 4))
    odd = strange(lam)
    (first, second), between = cuda._items(odd, lam)
    assert between == 0
    for value, given in ((first, odd), (second, lam)):
        assert value.is_contiguous()
        assert torch.equal(value, given)
