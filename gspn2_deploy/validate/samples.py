"""What the runners are fed: seeded random images, a user's arrays, recorded golden inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspn2_deploy.arrays import read_npz
from gspn2_deploy.errors import InputError, ShapeError, UsageError
from gspn2_deploy.manifest import Profile, ShapeRange, TensorInfo
from gspn2_deploy.runners.base import Array, Arrays

LABELS = "labels"
DEFAULT_BATCHES = (1, 3)  # where the file leaves the batch free; 3: no power of two helps
DEFAULT_SIZE = (64, 64)  # where neither the file nor its metadata says one
_CELLS = 8  # cells per axis of the coarse part of a random image
_COARSE_SHARE = 0.8


@dataclass(frozen=True)
class Sample:
    """One set of inputs.

    Args:
        name: For reports.
        inputs: Arrays by input name.
        labels: Right classes, (N,), where known.
        first: Index of the first item in the user's file, where the inputs come from one.
    """

    name: str
    inputs: Arrays
    labels: NDArray[np.int64] | None = None
    first: int | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by input name."""
        return {name: array.shape for name, array in self.inputs.items()}


def random_samples(
    specs: Sequence[TensorInfo],
    *,
    batches: Sequence[int] = (),
    sizes: Sequence[tuple[int, int]] = (),
    default_size: tuple[int, int] | None = None,
    count: int = 2,
    seed: int = 0,
) -> Iterator[Sample]:
    """Yield random inputs for every combination of batch and image size.

    Args:
        specs: The file's inputs; axis 0 is the batch, the last two of a four-axis input the
            image's height and width.
        batches: Batch sizes; empty for the file's own, or 1 and 3 where it is free.
        sizes: (height, width) in pixels; empty for the file's own, or for ``default_size`` and
            one non-square neighbour where both are free.
        default_size: (height, width) in pixels that the model was exported with.
        count: Samples per combination, at least 1.
        seed: Each sample's content depends on this and on its place only.

    Raises:
        ShapeError: A batch or size that the file fixes otherwise.
    """
    image = next((spec for spec in specs if len(spec.shape) == 4), None)
    batches = tuple(batches) or _default_batches(specs)
    sizes = tuple(sizes) or _default_sizes(image, default_size)
    for spec in specs:
        _check_fixed(spec, batches, sizes)
    place = 0
    for size in sizes:
        for batch in batches:
            for index in range(count):
                rng = np.random.default_rng([seed, place])
                place += 1
                inputs = {
                    spec.name: _random(spec, _shape(spec, batch, size), rng) for spec in specs
                }
                where = f"x{size[0]}x{size[1]}" if image is not None else ""
                yield Sample(f"{batch}{where} #{index + 1}", inputs)


def profile_samples(
    specs: Sequence[TensorInfo], profiles: Sequence[Profile], *, count: int = 2, seed: int = 0
) -> Iterator[Sample]:
    """Yield random inputs over the shapes that an engine's profiles cover.

    Of every profile its smallest, its tuned and its largest shape, and one between.

    Args:
        specs: The inputs.
        profiles: At least one; ranges by input name, for the dynamic inputs or for all.
        count: Samples per shape, at least 1.
        seed: Each sample's content depends on this and on its place only.
    """
    seen: list[dict[str, tuple[int, ...]]] = []
    for profile in profiles:
        for choose in (_smallest, _tuned, _largest, _between):
            shapes = {spec.name: choose(_range(spec, profile)) for spec in specs}
            if shapes not in seen:
                seen.append(shapes)
    for place, shapes in enumerate(seen):
        for index in range(count):
            rng = np.random.default_rng([seed, place, index])
            inputs = {spec.name: _random(spec, shapes[spec.name], rng) for spec in specs}
            shape = shapes[specs[0].name]
            image = f"x{shape[2]}x{shape[3]}" if len(shape) == 4 else ""
            yield Sample(f"{shape[0] if shape else 1}{image} #{index + 1}", inputs)


def _range(spec: TensorInfo, profile: Profile) -> ShapeRange:
    if spec.name in profile:
        return profile[spec.name]
    fixed = tuple(extent for extent in spec.shape if isinstance(extent, int))
    return ShapeRange(fixed, fixed, fixed)


def _smallest(shapes: ShapeRange) -> tuple[int, ...]:
    return shapes.min


def _tuned(shapes: ShapeRange) -> tuple[int, ...]:
    return shapes.opt


def _largest(shapes: ShapeRange) -> tuple[int, ...]:
    return shapes.max


def _between(shapes: ShapeRange) -> tuple[int, ...]:
    """Nearer to the smallest, and odd where there is room: no power of two helps."""
    return tuple(
        min(high, (low + max((high - low) // 4, 1)) | 1) if high > low else low
        for low, high in zip(shapes.min, shapes.max, strict=True)
    )


def data_samples(path: Path, specs: Sequence[TensorInfo], *, batch: int = 64) -> list[Sample]:
    """Read a user's arrays, cut into batches.

    Args:
        path: An ``.npz`` file with one array per input, each with the items along axis 0 and
            already preprocessed, and optionally ``labels`` (N,) of integers. float32 arrays are
            cast to the file's dtype.
        specs: The ONNX file's inputs.
        batch: Items per run where the file leaves the batch free.

    Raises:
        InputError: The file is missing, corrupt, or holds other arrays than are needed.
        ShapeError: Lengths or shapes do not fit.
    """
    arrays = _read_npz(path)
    labels = arrays.pop(LABELS, None)
    names = {spec.name for spec in specs}
    if set(arrays) != names:
        raise InputError(
            f"{path} does not hold the model's inputs",
            got=", ".join(sorted(arrays)) or "no array",
            expected=f"{', '.join(sorted(names))} and optionally {LABELS}",
        )
    lengths = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    if labels is not None:
        labels = _checked_labels(path, labels)
        lengths[LABELS] = labels.shape[0]
    items = min(lengths.values())
    if items == 0 or len(set(lengths.values())) != 1:
        raise ShapeError(
            f"{path}: every array needs the same number of items along axis 0, at least 1",
            got=", ".join(f"{name}: {length}" for name, length in lengths.items()),
        )
    fixed = specs[0].shape[0] if specs[0].shape else None
    step = fixed if isinstance(fixed, int) else min(batch, items)
    if items % step and isinstance(fixed, int):
        raise ShapeError(
            f"{path}: the ONNX file takes {step} items at a time and {items} are not a multiple",
            hint="export with a dynamic batch, or cut the data",
        )
    cast = {spec.name: _cast(arrays[spec.name], spec.dtype) for spec in specs}
    return [
        Sample(
            f"data [{start}:{min(start + step, items)}]",
            {name: array[start : start + step] for name, array in cast.items()},
            None if labels is None else labels[start : start + step],
            start,
        )
        for start in range(0, items, step)
    ]


def check_labels(sample: Sample, classes: int) -> None:
    """Refuse labels that no class of the model bears: each would count as a wrong answer.

    Args:
        sample: A sample, with labels or without.
        classes: How many classes the model tells apart.

    Raises:
        UsageError: A label is negative, or not below ``classes``.
    """
    if sample.labels is None:
        return
    outside = np.flatnonzero((sample.labels < 0) | (sample.labels >= classes))
    if outside.size:
        item = (sample.first or 0) + int(outside[0])
        raise UsageError(
            f"{LABELS}: the model has no class of the label of item {item}",
            got=int(sample.labels[outside[0]]),
            expected=f"0 to {classes - 1}: the model has {classes} classes",
            hint="number the labels as in training, and leave items without a class out",
        )


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a name, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def _cast(array: Array, dtype: str) -> Array:
    return array.astype(numpy_dtype(dtype)) if array.dtype == np.float32 else array


def _read_npz(path: Path) -> Arrays:
    try:
        return read_npz(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", expected="an .npz file") from error
    except ValueError as error:
        raise InputError(
            f"{path} cannot be read",
            got=error,
            expected="an .npz file of plain arrays, as numpy.savez writes it",
        ) from error


def _checked_labels(path: Path, labels: Array) -> NDArray[np.int64]:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"{path}: {LABELS} must be one integer per item",
            got=f"{labels.dtype.name} {labels.shape}",
            expected="integers (N,)",
        )
    return labels.astype(np.int64)


def _default_batches(specs: Sequence[TensorInfo]) -> tuple[int, ...]:
    first = next((spec.shape[0] for spec in specs if spec.shape), None)
    return (first,) if isinstance(first, int) else DEFAULT_BATCHES


def _default_sizes(
    image: TensorInfo | None, default: tuple[int, int] | None
) -> tuple[tuple[int, int], ...]:
    height, width = default or DEFAULT_SIZE
    if image is None:
        return ((height, width),)
    free = [not isinstance(extent, int) for extent in image.shape[2:]]
    fixed = tuple(
        extent if isinstance(extent, int) else fallback
        for extent, fallback in zip(image.shape[2:], (height, width), strict=True)
    )
    if not any(free):
        return ((fixed[0], fixed[1]),)
    # A dynamic size is only proven by a second one; no common factor with the first is assumed.
    second = tuple(
        extent + offset if is_free else extent
        for extent, offset, is_free in zip(fixed, (height // 4 + 1, height // 2), free, strict=True)
    )
    return ((fixed[0], fixed[1]), (second[0], second[1]))


def _check_fixed(
    spec: TensorInfo, batches: Sequence[int], sizes: Sequence[tuple[int, int]]
) -> None:
    wanted = [("--batch", 0, set(batches))]
    if len(spec.shape) == 4:
        wanted += [
            ("--image-size", 2, {size[0] for size in sizes}),
            ("--image-size", 3, {size[1] for size in sizes}),
        ]
    for option, axis, values in wanted:
        extent = spec.shape[axis]
        if isinstance(extent, int) and values != {extent}:
            raise ShapeError(
                f"{option}: the ONNX file fixes axis {axis} of {spec.name!r}",
                got=", ".join(str(value) for value in sorted(values)),
                expected=str(spec),
                hint="export with a dynamic batch or size, or leave the option out",
            )


def _shape(spec: TensorInfo, batch: int, size: tuple[int, int]) -> tuple[int, ...]:
    axes = list(spec.shape)
    axes[0] = batch
    if len(axes) == 4:
        axes[2:] = size
    shape = tuple(extent for extent in axes if isinstance(extent, int))
    if len(shape) != len(axes):
        raise UsageError(f"random values cannot be made for {spec}", hint="give arrays with --data")
    return shape


def _random(spec: TensorInfo, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if not (spec.dtype.startswith("float") or spec.dtype == "bfloat16"):
        raise UsageError(f"random values cannot be made for {spec}", hint="give arrays with --data")
    values = rng.standard_normal(shape)
    if len(shape) == 4:
        # White noise alone averages out over the image, so that every item looks the same to a
        # classifier; coarse patches, per-channel offsets and contrast set the items apart.
        values = (1 - _COARSE_SHARE) * values + _COARSE_SHARE * _coarse(shape, rng)
        values *= rng.uniform(0.5, 1.5, (shape[0], 1, 1, 1))
        values += rng.normal(0.0, 0.5, (shape[0], shape[1], 1, 1))
    return values.astype(numpy_dtype(spec.dtype))


def _coarse(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Random patches, (N, C, H, W): nearest-neighbour enlargement of a coarse grid."""
    n, c, height, width = shape
    rows, columns = min(_CELLS, height), min(_CELLS, width)
    grid = rng.standard_normal((n, c, rows, columns))
    row = np.arange(height) * rows // height
    column = np.arange(width) * columns // width
    patches: NDArray[np.float64] = grid[:, :, row][:, :, :, column]
    return patches
