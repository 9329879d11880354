"""Hold a parsed network against the ONNX file that it comes from, and an engine's interface."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from gspn2_deploy.build.backend import BuildRequest
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.trt_tensors import dtype_name, network_interface
from gspn2_deploy.spec import HALF_TYPES, PRECISION_TYPES, base_op

_WEIGHTED_LAYERS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
# A layer from a function's body says who called it: "[ONNX Layer: NODE | CALLER (OP_TYPE)]".
_CALLER = re.compile(r"\| ([^|\]]+) \((\w+)\)")


@dataclass(frozen=True)
class NetworkSummary:
    """A parsed network.

    Args:
        inputs: Its inputs.
        outputs: Its outputs.
        layer_dtypes: How many layers give each element type.
        weighted_dtypes: The same for convolutions and matrix products alone.
        propagations: Function bodies found in it, by the op type that they implement.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layer_dtypes: Mapping[str, int]
    weighted_dtypes: Mapping[str, int]
    propagations: Mapping[str, int]


def summarise(trt: ModuleType, network: Any) -> NetworkSummary:
    """Read a parsed network."""
    weighted_types = {getattr(trt.LayerType, name) for name in _WEIGHTED_LAYERS}
    every: Counter[str] = Counter()
    weighted: Counter[str] = Counter()
    bodies: set[tuple[str, str]] = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        bodies.update(_CALLER.findall(getattr(layer, "metadata", None) or ""))
        if layer.num_outputs == 0:
            continue
        dtype = dtype_name(layer.get_output(0).dtype)
        every[dtype] += 1
        if layer.type in weighted_types:
            weighted[dtype] += 1
    inputs, outputs = network_interface(network)
    calls = Counter(base_op(op_type) for _, op_type in bodies)
    return NetworkSummary(inputs, outputs, dict(every), dict(weighted), dict(calls))


def check(summary: NetworkSummary, request: BuildRequest) -> None:
    """Check a parsed network before any time goes into building it.

    Raises:
        BuildError: Inputs, outputs, propagations or precision are not those of the file.
    """
    check_interface(summary.inputs, summary.outputs, request)
    for op_type, expected in request.propagations.items():
        found = summary.propagations.get(op_type, 0)
        if found != expected:
            raise EngineLibraryError(
                f"the network does not hold every {op_type} of the file",
                got=f"{found} bodies",
                expected=expected,
                hint="export the file again; its nodes need distinct names",
            )
    _check_precision(summary, request.precision)


def check_interface(
    inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...], request: BuildRequest
) -> None:
    """Check names, types, ranks and fixed extents against the file's.

    Raises:
        BuildError: One differs.
    """
    for what, found, expected in (
        ("inputs", inputs, request.inputs),
        ("outputs", outputs, request.outputs),
    ):
        by_name = {tensor.name: tensor for tensor in found}
        same = by_name.keys() == {tensor.name for tensor in expected} and all(
            _agree(by_name[tensor.name], tensor) for tensor in expected
        )
        if not same:
            raise EngineLibraryError(
                f"the network's {what} are not those of the ONNX file",
                got="; ".join(map(str, found)),
                expected="; ".join(map(str, expected)),
                hint="use float32, float16, bfloat16, int32, int64 or bool at the interface",
            )


def _agree(found: TensorInfo, expected: TensorInfo) -> bool:
    if found.dtype != expected.dtype or len(found.shape) != len(expected.shape):
        return False
    # An extent that only one of the two knows is no contradiction.
    return all(
        not isinstance(there, int) or not isinstance(here, int) or here == there
        for here, there in zip(found.shape, expected.shape, strict=True)
    )


def _check_precision(summary: NetworkSummary, precision: str | None) -> None:
    weighted = summary.weighted_dtypes
    if precision == "mixed":
        wrong = not any(weighted.get(dtype) for dtype in HALF_TYPES)
    elif precision in PRECISION_TYPES:
        wanted = PRECISION_TYPES[precision]
        wrong = any(dtype != wanted for dtype in weighted)
        if precision == "fp32":
            wrong = wrong or any(summary.layer_dtypes.get(dtype) for dtype in HALF_TYPES)
    else:
        return
    if wrong:
        raise EngineLibraryError(
            f"the network does not compute in {precision}, as the file's metadata says",
            got="convolutions and matrix products by type: "
            + (", ".join(f"{count} {dtype}" for dtype, count in weighted.items()) or "none"),
            hint="the file was changed after its export: export it again",
        )
