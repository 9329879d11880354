"""The tensors of networks and engines, as TensorRT and TensorRT for RTX tell them, in our names."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from gspn2_deploy.manifest import TensorInfo

# By TensorRT's names of the types.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "FP8": "float8",
}


def dtype_name(dtype: Any) -> str:
    """Return our name of one of the library's element types."""
    name: str = dtype.name
    return _DTYPES.get(name, name.lower())


def network_interface(network: Any) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Return a parsed network's inputs and outputs."""
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    outputs = (network.get_output(index) for index in range(network.num_outputs))
    return tuple(map(_tensor, inputs)), tuple(map(_tensor, outputs))


def engine_interface(
    trt: ModuleType, engine: Any
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Return a loaded engine's inputs and outputs."""
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        info = TensorInfo(
            name,
            dtype_name(engine.get_tensor_dtype(name)),
            _shape(engine.get_tensor_shape(name)),
        )
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(info)
    return tuple(inputs), tuple(outputs)


def _tensor(tensor: Any) -> TensorInfo:
    return TensorInfo(tensor.name, dtype_name(tensor.dtype), _shape(tensor.shape))


def _shape(extents: Any) -> tuple[int | None, ...]:
    return tuple(int(extent) if extent >= 0 else None for extent in extents)
