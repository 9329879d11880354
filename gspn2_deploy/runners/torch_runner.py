"""The live PyTorch model: the reference that everything else is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gspn2_deploy.errors import Gspn2Error, InputError, PlatformError, ShapeError, UsageError
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.base import Array, Arrays, Kind, Runner
from gspn2_deploy.runners.torch_tf32 import tf32

if TYPE_CHECKING:
    import torch
    from torch import nn


class TorchRunner(Runner):
    """Runs a module in eval mode without recording gradients, float32 without TF32.

    Args:
        model: The module, already in the precision to be compared (the exporter's preparation);
            inputs are passed by position in the order of ``input_specs``.
        input_specs: Names, dtypes and shapes of the inputs.
        output_names: Names of the outputs, in the order in which the module returns them.
        device: Where to run.
        name: The runner's name in reports.
    """

    kind: ClassVar[Kind] = Kind.PYTORCH

    def __init__(
        self,
        model: nn.Module,
        input_specs: Sequence[TensorInfo],
        output_names: Sequence[str],
        *,
        device: str = "cpu",
        name: str = "pytorch",
    ) -> None:
        super().__init__(name)
        self._model = model
        self._input_specs = tuple(input_specs)
        self._output_names = tuple(output_names)
        self._device = device

    @property
    def input_specs(self) -> tuple[TensorInfo, ...]:
        """The inputs as given."""
        return self._input_specs

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs as given."""
        return self._output_names

    def activate(self) -> None:
        """Move the module to the device and into eval mode.

        Raises:
            UsageError: There is no device of that name.
            PlatformError: PyTorch has no such device here.
        """
        self._model.eval().to(checked_device(self._device))

    def deactivate(self) -> None:
        """Nothing to let go of: the module is the caller's."""

    def infer_impl(self, inputs: Arrays) -> Arrays:
        """Run the module once."""
        import torch

        arguments = [to_tensor(inputs[spec.name]).to(self._device) for spec in self._input_specs]
        try:
            with tf32(allowed=False), torch.inference_mode():
                result = self._model(*arguments)
        except Gspn2Error:
            raise
        except NotImplementedError as error:
            raise PlatformError(
                f"PyTorch has no implementation of a layer on {self._device}", got=error
            ) from error
        except Exception as error:  # a user's model runs here: anything may come
            shapes = ", ".join(f"{name} {value.shape}" for name, value in inputs.items())
            raise InputError(
                f"{self.name}: the model failed on {shapes}", got=f"{type(error).__name__}: {error}"
            ) from error
        return self._named(result)

    def describe(self) -> dict[str, Any]:
        """PyTorch's version, the device, the threads and the parameters' dtypes."""
        import torch

        dtypes = {str(value.dtype).removeprefix("torch.") for value in self._model.parameters()}
        return {
            "name": self.name,
            "torch": torch.__version__,
            "device": self._device,
            "threads": torch.get_num_threads(),
            "parameter_dtypes": sorted(dtypes),
        }

    def _named(self, result: Any) -> Arrays:
        import torch
        from torch.utils._pytree import tree_leaves

        if isinstance(result, Mapping) and set(result) == set(self._output_names):
            return {name: to_array(value) for name, value in result.items()}
        # As the exporter names them: the leaves of whatever nest of containers comes back.
        values = [value for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        if len(values) != len(self._output_names):
            raise ShapeError(
                f"{self.name}: the model returned another number of outputs",
                got=len(values),
                expected=f"{len(self._output_names)} ({', '.join(self._output_names)})",
            )
        return {
            name: to_array(value) for name, value in zip(self._output_names, values, strict=True)
        }


def checked_device(name: str) -> str:
    """A device's name, where PyTorch knows it and has it here.

    Raises:
        UsageError: There is no device of that name.
        PlatformError: PyTorch has no such device here.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError("no such device", got=name, expected="cpu, cuda or cuda:N") from error
    if device.type != "cuda":
        return name
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise PlatformError(
            "PyTorch sees no GPU of that number" if count else "PyTorch sees no GPU",
            got=f"{name}; torch {torch.__version__} sees {count}",
            hint="use --device cpu, or a CUDA build of PyTorch on a machine with a GPU",
        )
    return name


def to_tensor(array: Array) -> torch.Tensor:
    """A CPU tensor with a copy of an array, bfloat16 (from ml_dtypes) included."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def to_array(tensor: torch.Tensor) -> Array:
    """An array with a copy of a tensor; bfloat16 becomes ml_dtypes' type."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    array: Array
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        array = tensor.view(torch.uint16).numpy().copy().view(ml_dtypes.bfloat16)
    else:
        array = tensor.numpy().copy()
    return array
