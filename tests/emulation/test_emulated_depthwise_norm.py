"""gspn2_depthwise_norm on the emulated device, against float64."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import emulated
import layer_reference
import pytest
import torch
from conftest import Opener
from kernel_calls import DTYPES, depthwise_norm, depthwise_norm_inputs, misaligned
from tolerances import FORWARD, assert_close

# N, C, H, W: channels that one block holds, or up to sixteen, the last of them fewer; tiles that
# the map fills, and does not.
SIZES = (
    (1, 8, 1, 1), (2, 16, 7, 7), (1, 136, 9, 5), (3, 40, 4, 14), (1, 264, 3, 8), (2, 320, 2, 3),
    (1, 520, 3, 4), (1, 640, 2, 7), (2, 1024, 1, 2), (1, 88, 15, 16),
)  # fmt: skip
# Vectors of a block and its tile, in one launch; none is two launches.
PLANS = ("5,7", "5,14", "10,7", "10,14", "0,0")
TWO_LAUNCHES = PLANS[-1]
PLAN_VARIABLE = "GSPN2_DEPTHWISE_NORM"
CLUSTER_BLOCKS, VECTOR = 16, 8  # the most blocks of a cluster, and the channels of a vector


def fits(channels: int, plan: str) -> bool:
    vectors = int(plan.split(",")[0])
    return plan == TWO_LAUNCHES or channels <= CLUSTER_BLOCKS * vectors * VECTOR


@contextlib.contextmanager
def taking(library: ctypes.CDLL, plan: str) -> Iterator[None]:
    """The one call within must take the plan."""
    emulated.take_kernels(library)
    with emulated.environment(**{PLAN_VARIABLE: plan}):
        yield
    check_launches(library, plan)


def check_launches(library: ctypes.CDLL, plan: str) -> None:
    instances = emulated.take_kernels(library)
    if plan == TWO_LAUNCHES:
        templates = [emulated.kernel_template(name) for name in instances]
        assert templates == ["depthwiseKernel", "normRowsKernel"]
    else:
        (instance,) = instances
        assert instance.endswith(f", {plan.replace(',', ', ')}>"), instance


def check(
    outs: tuple[torch.Tensor, torch.Tensor],
    inputs: tuple[torch.Tensor, ...],
    what: str = "",
    **options: bool,
) -> None:
    """y against float64, and z against the norm of this very y."""
    (y, z), (x, weight, bias, scale, shift) = outs, inputs
    expected = layer_reference.depthwise(x, weight, bias, **options)
    assert_close(y, expected, FORWARD[x.dtype], f"y {what}")
    assert_close(z, layer_reference.channel_norm(y, scale, shift), FORWARD[x.dtype], f"z {what}")


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize(
    ("size", "plan"),
    [(size, plan) for size in SIZES for plan in PLANS if fits(size[1], plan)],
    ids=str,
)
def test_against_float64(
    opener: Opener, size: tuple[int, int, int, int], plan: str, dtype: torch.dtype
) -> None:
    library = opener("fastest")
    x, weight, bias, *affine = depthwise_norm_inputs(size, dtype, "cpu")
    for silu, residual in ((False, True), (True, False)):
        given = (x, weight, bias, *affine)
        with taking(library, plan):
            outs = depthwise_norm(*given, silu=silu, residual=residual, library=library)
        check(outs, given, silu=silu, residual=residual)


@pytest.mark.parametrize("plan", PLANS)
def test_without_a_bias(opener: Opener, plan: str) -> None:
    x, weight, _, scale, shift = depthwise_norm_inputs((2, 40, 5, 6), torch.float16, "cpu")
    x = x + torch.linspace(1, 5, 40).half().view(-1, 1, 1)
    given = (x, weight, None, scale, shift)
    library = opener("fastest")
    with taking(library, plan):
        outs = depthwise_norm(*given, residual=True, library=library)
    check(outs, given, residual=True)


def test_a_device_without_clusters(opener: Opener) -> None:
    inputs = depthwise_norm_inputs((2, 40, 5, 6), torch.float16, "cpu")
    check(depthwise_norm(*inputs, residual=True, library=opener("old")), inputs, residual=True)


def test_misaligned_parameters(opener: Opener) -> None:
    library = opener("fastest")
    x, *rest = depthwise_norm_inputs((2, 24, 6, 5), torch.bfloat16, "cpu")
    moved = tuple(misaligned(value) for value in rest)
    emulated.take_kernels(library)
    check(depthwise_norm(x, *moved, library=library), (x, *rest))
    check_launches(library, TWO_LAUNCHES)


@pytest.mark.parametrize("plan", PLANS)
def test_reads_nothing_past_the_inputs(opener: Opener, plan: str) -> None:
    library = opener("fastest")
    for at_end in (True, False):
        with emulated.Fenced(library) as fenced, taking(library, plan):
            x, *rest = depthwise_norm_inputs((1, 24, 6, 9), torch.float16, "cpu")
            # So laid out that the copy is what the kernel reads.
            copy = fenced.copy(x.movedim(1, -1).contiguous(), at_end).movedim(-1, 1)
            outs = depthwise_norm(copy, *fenced.copies(*rest, at_end=at_end), library=library)
            check(outs, (x, *rest))


def test_nan_reaches_its_neighbours_alone(opener: Opener) -> None:
    x, *rest = depthwise_norm_inputs((1, 8, 9, 9), torch.float16, "cpu")
    x[0, 2, 4, 4] = torch.nan
    y, z = depthwise_norm(x, *rest, library=opener("fastest"))
    assert y[0, 2, 3:6, 3:6].isnan().all()
    assert int(y.isnan().sum()) == 9
    assert z[0, :, 3:6, 3:6].isnan().all()
    assert int(z.isnan().sum()) == 9 * 8


def test_what_is_refused(opener: Opener) -> None:
    library = opener("fastest")
    for changes, message in (
        ({"dtype": torch.float32}, "expected float16 or bfloat16, c a multiple of 8"),
        ({"size": (1, 12, 3, 3)}, "c a multiple of 8"),
        ({"size": (1, 1032, 3, 3)}, "at most 1024 channels"),
    ):
        given = {"size": (1, 8, 3, 3), "dtype": torch.float16} | changes
        with pytest.raises(AssertionError, match=message):
            depthwise_norm(*depthwise_norm_inputs(**given, device="cpu"), library=library)
    inputs = depthwise_norm_inputs((1, 8, 3, 3), torch.float16, "cpu")
    with pytest.raises(AssertionError, match="multiples of 16 bytes"):
        depthwise_norm(*inputs, offset=1, library=library)
    with pytest.raises(AssertionError, match="epsilon is -1"):
        depthwise_norm(*inputs, epsilon=-1.0, library=library)
    x, _, *rest = inputs
    wide = torch.ones(8, 1, 5, 5, dtype=torch.float16)
    with pytest.raises(AssertionError, match="expected a kernel of 3"):
        depthwise_norm(x, wide, *rest, library=library)
