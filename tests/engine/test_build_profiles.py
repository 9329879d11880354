from __future__ import annotations

import pytest

from gspn2_deploy.build.profiles import parse_profile, resolve_profiles
from gspn2_deploy.errors import ShapeError, UsageError
from gspn2_deploy.manifest import ShapeRange, TensorInfo

IMAGES = TensorInfo("images", "float32", ("batch", 3, 224, 224))
ANY_SIZE = TensorInfo("images", "float32", ("batch", 3, "height", "width"))
FIXED = TensorInfo("images", "float32", (1, 3, 224, 224))
MASK = TensorInfo("mask", "bool", ("batch", 224))
THREE = "images=1x3x224x224:8x3x224x224:64x3x224x224"


def test_three_shapes():
    assert parse_profile(THREE) == {
        "images": ShapeRange((1, 3, 224, 224), (8, 3, 224, 224), (64, 3, 224, 224))
    }


def test_one_shape_stands_for_three():
    assert parse_profile("x=2x3") == {"x": ShapeRange((2, 3), (2, 3), (2, 3))}


def test_several_inputs_and_odd_names():
    profile = parse_profile("in:0=1x2, a.b=c=3:4:5")
    assert profile == {
        "in:0": ShapeRange((1, 2), (1, 2), (1, 2)),
        "a.b=c": ShapeRange((3,), (4,), (5,)),
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "images",
        "images=",
        "=1x3",
        "x=1x3:2x3",
        "x=1:2:3:4",
        "x=1xax3",
        "x=-1x3",
        "x=1x",
        "x=1²",
    ],
)
def test_malformed(text: str):
    with pytest.raises(UsageError, match="cannot be read"):
        parse_profile(text)


def test_an_input_twice():
    with pytest.raises(UsageError, match="twice"):
        parse_profile("x=1,x=2")


@pytest.mark.parametrize("text", ["x=2:1:3", "x=1:3:2", "x=0:1:2", "x=1:2:3000000000"])
def test_out_of_order(text: str):
    with pytest.raises(ShapeError, match="out of order"):
        parse_profile(text)


def test_ranks_differ():
    with pytest.raises(ShapeError, match="differ in rank"):
        parse_profile("x=1x2:1:1x2")


def test_default_covers_the_batch():
    (profile,) = resolve_profiles([], [IMAGES])
    assert profile == parse_profile(THREE)


def test_no_profile_for_fixed_inputs():
    assert resolve_profiles([], [FIXED]) == ()
    assert resolve_profiles([parse_profile("images=1x3x224x224")], [FIXED]) == ()


def test_dynamic_size_needs_a_profile():
    with pytest.raises(UsageError, match="axes beside the batch"):
        resolve_profiles([], [ANY_SIZE])


def test_fixed_inputs_are_left_out_and_repeats_merged():
    given = [parse_profile(THREE + ",size=2"), parse_profile(THREE)]
    size = TensorInfo("size", "int64", (2,))
    assert resolve_profiles(given, [IMAGES, size]) == (parse_profile(THREE),)


def test_several_profiles_keep_their_order():
    given = [parse_profile("images=1x3x224x224"), parse_profile("images=64x3x224x224")]
    assert resolve_profiles(given, [IMAGES]) == tuple(given)


def test_unknown_input():
    with pytest.raises(UsageError, match="unknown input") as raised:
        resolve_profiles([parse_profile("image=1x3x224x224")], [IMAGES])
    assert "images" in str(raised.value.expected)


def test_dynamic_input_left_out():
    with pytest.raises(UsageError, match="leaves a dynamic input out") as raised:
        resolve_profiles([parse_profile(THREE)], [IMAGES, MASK])
    assert "mask" in str(raised.value.expected)


def test_wrong_rank():
    with pytest.raises(ShapeError, match="wrong rank"):
        resolve_profiles([parse_profile("images=1x3x224")], [IMAGES])


def test_fixed_axis_varied():
    with pytest.raises(ShapeError, match="varies axis 2"):
        resolve_profiles([parse_profile("images=1x3x112x224:1x3x224x224:1x3x224x224")], [IMAGES])


def test_dynamic_size_with_a_profile():
    given = parse_profile("images=1x3x64x64:1x3x224x320:2x3x512x1024")
    assert resolve_profiles([given], [ANY_SIZE]) == (given,)
