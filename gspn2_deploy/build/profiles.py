"""Optimisation profiles: read from the command line, checked against a model's inputs.

A profile gives every dynamic input a smallest, a tuned-for and a largest shape. The engine
accepts what lies between, and is tuned for the middle one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gspn2_deploy.errors import ShapeError, UsageError
from gspn2_deploy.manifest import Profile, ShapeRange, TensorInfo

SYNTAX = "NAME=MIN:OPT:MAX, as in images=1x3x224x224:8x3x224x224:64x3x224x224"
DEFAULT_BATCHES = (1, 8, 64)  # min, opt, max where only the batch is dynamic

_INT32_MAX = 2**31 - 1  # an extent in TensorRT is a 32-bit integer where it is a profile's


def parse_profile(text: str) -> Profile:
    """Read one profile.

    Args:
        text: ``NAME=MIN:OPT:MAX``, several inputs separated by commas. A shape is extents joined
            by ``x``; one shape alone stands for all three.

    Returns:
        The shapes by input name.

    Raises:
        UsageError: The text does not follow the syntax, or names an input twice.
        ShapeError: Shapes of different rank, an extent under 1, or not min <= opt <= max.
    """
    profile: dict[str, ShapeRange] = {}
    for part in text.split(","):
        # A tensor's name may hold "=", "." or "/"; the shapes never hold "=".
        name, separator, shapes = part.strip().rpartition("=")
        if not separator or not name or not shapes:
            raise UsageError("a profile cannot be read", got=text, expected=SYNTAX)
        if name in profile:
            raise UsageError(
                "a profile names an input twice",
                got=text,
                expected="each input once; a second range is a second --profile",
            )
        profile[name] = _parse_range(name, shapes, text)
    return profile


def _parse_range(name: str, shapes: str, text: str) -> ShapeRange:
    parsed = [_parse_shape(shape, text) for shape in shapes.split(":")]
    if len(parsed) == 1:
        parsed *= 3
    if len(parsed) != 3:
        raise UsageError("a profile cannot be read", got=text, expected=SYNTAX)
    smallest, tuned, largest = parsed
    if not len(smallest) == len(tuned) == len(largest):
        raise ShapeError(f"the profile's shapes for {name!r} differ in rank", got=shapes)
    for low, middle, high in zip(smallest, tuned, largest, strict=True):
        if not 1 <= low <= middle <= high <= _INT32_MAX:
            raise ShapeError(
                f"the profile's shapes for {name!r} are out of order",
                got=shapes,
                expected=f"1 <= min <= opt <= max <= {_INT32_MAX} on every axis",
            )
    return ShapeRange(smallest, tuned, largest)


def _parse_shape(shape: str, text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d{1,10}(x\d{1,10})*", shape.strip(), flags=re.ASCII):
        raise UsageError("a profile cannot be read", got=text, expected=SYNTAX)
    return tuple(int(extent) for extent in shape.strip().split("x"))


def resolve_profiles(
    profiles: Sequence[Profile], inputs: Sequence[TensorInfo]
) -> tuple[Profile, ...]:
    """Check profiles against a model's inputs, and fill in what needs no saying.

    Args:
        profiles: What the user asked for; may be empty.
        inputs: The model's inputs.

    Returns:
        Profiles that cover every dynamic input; fixed inputs are left out. Empty when every
        input is fixed. Without a request, a model whose only dynamic axis is the first gets one
        profile over the batches of :data:`DEFAULT_BATCHES`.

    Raises:
        UsageError: An input is unknown or not covered, or dynamic height or width has no profile.
        ShapeError: A profile contradicts the model's fixed extents.
    """
    dynamic = {tensor.name: tensor for tensor in inputs if tensor.dynamic_axes}
    if not profiles:
        return (_default_profile(list(dynamic.values())),) if dynamic else ()
    known = {tensor.name: tensor for tensor in inputs}
    resolved = []
    for profile in profiles:
        for name, shapes in profile.items():
            if name not in known:
                raise UsageError(
                    "a profile names an unknown input",
                    got=name,
                    expected=", ".join(str(tensor) for tensor in inputs),
                )
            _check_range(known[name], shapes)
        missing = [str(tensor) for name, tensor in dynamic.items() if name not in profile]
        if missing:
            raise UsageError(
                "a profile leaves a dynamic input out",
                got=", ".join(profile),
                expected=f"also {', '.join(missing)}",
                hint=f"separate several inputs by commas: {SYNTAX}",
            )
        kept = {name: profile[name] for name in dynamic}
        if kept and kept not in resolved:
            resolved.append(kept)
    return tuple(resolved)


def _check_range(tensor: TensorInfo, shapes: ShapeRange) -> None:
    if len(shapes.min) != len(tensor.shape):
        raise ShapeError(
            f"the profile for {tensor.name!r} has the wrong rank",
            got=str(shapes),
            expected=f"{len(tensor.shape)} extents for {tensor}",
        )
    for axis, extent in enumerate(tensor.shape):
        given = {shapes.min[axis], shapes.opt[axis], shapes.max[axis]}
        if isinstance(extent, int) and given != {extent}:
            raise ShapeError(
                f"the profile for {tensor.name!r} varies axis {axis}, which the ONNX file fixes",
                got=str(shapes),
                expected=f"{extent} on axis {axis} ({tensor})",
                hint="export the model again with that axis dynamic, or keep the extent",
            )


def _default_profile(dynamic: Sequence[TensorInfo]) -> Profile:
    for tensor in dynamic:
        if tensor.dynamic_axes != (0,):
            raise UsageError(
                f"the input {tensor.name!r} has dynamic axes beside the batch and no profile",
                got=str(tensor),
                expected=f"--profile {SYNTAX}",
            )
    profile = {}
    for tensor in dynamic:
        shapes = [
            (batch, *(extent for extent in tensor.shape[1:] if isinstance(extent, int)))
            for batch in DEFAULT_BATCHES
        ]
        profile[tensor.name] = ShapeRange(*shapes)
    return profile
