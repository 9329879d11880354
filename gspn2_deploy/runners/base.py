"""The interface of every runner, and the checks around each inference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from gspn2_deploy.errors import DtypeError, ShapeError
from gspn2_deploy.manifest import TensorInfo

Array = NDArray[Any]
Arrays = dict[str, Array]

_Self = TypeVar("_Self", bound="Runner")


class Kind(str, Enum):
    """What executes a model, which decides on what its failures point at."""

    PYTORCH = "pytorch"
    GOLDEN = "golden"
    ONNXRUNTIME = "onnxruntime"
    ENGINE = "engine"
    OTHER = "other"


class Runner(ABC):
    """Executes one model. Use it as a context manager; it holds nothing before it is entered.

    Subclasses implement :meth:`activate`, :meth:`deactivate` and :meth:`infer_impl`; callers use
    :meth:`infer`, which checks names, shapes and dtypes on the way in and the names on the way
    out.

    Args:
        name: How reports call this runner, unique among those that are compared.
    """

    kind: ClassVar[Kind] = Kind.OTHER

    def __init__(self, name: str) -> None:
        self.name = name
        self._active = False

    def __enter__(self: _Self) -> _Self:
        self.activate()
        self._active = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._active = False
        self.deactivate()

    @property
    @abstractmethod
    def input_specs(self) -> tuple[TensorInfo, ...]:
        """The inputs, in the model's order. Known once entered."""

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, in the model's order. Known once entered."""

    @abstractmethod
    def activate(self) -> None:
        """Load the model and take what running it needs."""

    @abstractmethod
    def deactivate(self) -> None:
        """Let go of everything that :meth:`activate` took."""

    @abstractmethod
    def infer_impl(self, inputs: Arrays) -> Arrays:
        """Run the model on inputs that have been checked."""

    def describe(self) -> dict[str, Any]:
        """What ran, for reports: versions, devices, arithmetic. JSON types only."""
        return {"name": self.name}

    def can_run(self, inputs: Mapping[str, Array]) -> bool:
        """Whether this runner has an answer for these inputs. A playback does not for most."""
        return True

    def infer(self, inputs: Mapping[str, Array]) -> Arrays:
        """Run the model once.

        Args:
            inputs: Arrays by input name, of the dtypes and shapes of :attr:`input_specs`.

        Returns:
            Arrays by output name, which the caller owns.

        Raises:
            ShapeError: A name is missing or unknown, or a shape does not fit.
            DtypeError: An input has another dtype.
        """
        if not self._active:
            raise RuntimeError(f"the runner {self.name!r} must be entered first: use `with`")
        checked = check_inputs(self.name, self.input_specs, inputs)
        outputs = self.infer_impl(checked)
        if set(outputs) != set(self.output_names):
            raise ShapeError(
                f"{self.name}: the outputs are not those that were announced",
                got=", ".join(outputs),
                expected=", ".join(self.output_names),
            )
        return outputs


def check_inputs(runner: str, specs: tuple[TensorInfo, ...], inputs: Mapping[str, Array]) -> Arrays:
    """Hold inputs against what a runner takes.

    Args:
        runner: The runner's name, for messages.
        specs: What it takes.
        inputs: Arrays by name.

    Returns:
        The inputs in the order of ``specs``, contiguous.

    Raises:
        ShapeError: A name is missing or unknown, a shape does not fit, or an extent that has one
            name differs between two places.
        DtypeError: An input has another dtype.
    """
    expected = "; ".join(str(spec) for spec in specs)
    if set(inputs) != {spec.name for spec in specs}:
        raise ShapeError(
            f"{runner}: the inputs' names do not fit", got=", ".join(inputs), expected=expected
        )
    extents: dict[str, int] = {}
    for spec in specs:
        _check_array(runner, spec, inputs[spec.name], extents)
    return {spec.name: np.ascontiguousarray(inputs[spec.name]) for spec in specs}


def _check_array(runner: str, spec: TensorInfo, array: Array, extents: dict[str, int]) -> None:
    if array.dtype.name != spec.dtype:
        raise DtypeError(
            f"{runner}: the input {spec.name!r} has another dtype",
            got=array.dtype.name,
            expected=spec.dtype,
            hint=f'convert it: array.astype("{spec.dtype}")',
        )
    if array.size == 0:
        raise ShapeError(f"{runner}: the input {spec.name!r} is empty", got=array.shape)
    fits = array.ndim == len(spec.shape) and all(
        extent == actual
        if isinstance(extent, int)
        else extent is None or extents.setdefault(extent, actual) == actual
        for extent, actual in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise ShapeError(
            f"{runner}: the input {spec.name!r} has a shape that does not fit",
            got=array.shape,
            expected=str(spec) + "".join(f", {name} = {size}" for name, size in extents.items()),
        )
