"""From the torch operators to the ONNX custom ops: schemas and the exporter's translation table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from onnx.defs import OpSchema
from onnxscript import opset18, values

from gspn2_deploy import ops as _register_operators  # noqa: F401  torch.ops.gspn2 exists after it
from gspn2_deploy.spec import (
    DEFAULT_CHUNK,
    DEFAULT_NORMALIZE,
    DTYPES,
    LINE_SCAN,
    LINE_SCAN_ATTRIBUTES,
    LINE_SCAN_SHAPES,
    NUM_DIRECTIONS,
    ONNX_DOMAIN,
    ONNX_DOMAIN_VERSION,
    PROP2D,
    PROP2D_ATTRIBUTES,
    PROP2D_OPTIONAL,
    PROP2D_SHAPES,
    Direction,
)

_TENSOR_TYPES = {"float32": "float", "float16": "float16", "bfloat16": "bfloat16"}


def torch_operators() -> dict[Any, str]:
    """ONNX op types by the torch operator that becomes a node of it."""
    return {
        torch.ops.gspn2.prop2d.default: PROP2D,
        torch.ops.gspn2.line_scan.default: LINE_SCAN,
    }


def custom_translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Translations for ``torch.onnx.export(custom_translation_table=...)``."""
    return {
        torch.ops.gspn2.prop2d.default: _translate_prop2d,
        torch.ops.gspn2.line_scan.default: _translate_line_scan,
    }


def op_schema(op_type: str) -> OpSchema:
    """The ONNX schema of one of the custom ops, written from the definition in ``spec``."""
    prop2d = op_type == PROP2D
    *inputs, output = PROP2D_SHAPES if prop2d else LINE_SCAN_SHAPES
    optional = PROP2D_OPTIONAL if prop2d else ()
    attributes: Mapping[str, Any] = PROP2D_ATTRIBUTES if prop2d else LINE_SCAN_ATTRIBUTES
    options = OpSchema.FormalParameterOption
    kinds = {int: OpSchema.AttrType.INT, str: OpSchema.AttrType.STRING}
    return OpSchema(
        op_type,
        ONNX_DOMAIN,
        ONNX_DOMAIN_VERSION,
        inputs=[
            OpSchema.FormalParameter(
                name, "T", param_option=options.Optional if name in optional else options.Single
            )
            for name in inputs
        ],
        outputs=[OpSchema.FormalParameter(output, "T")],
        type_constraints=[("T", [f"tensor({_TENSOR_TYPES[name]})" for name in DTYPES], "")],
        attributes=[
            OpSchema.Attribute(key, kinds[type(value)]) for key, value in attributes.items()
        ],
    )


_DOMAIN = values.Opset(ONNX_DOMAIN, ONNX_DOMAIN_VERSION)
_PROP2D = values.Op(_DOMAIN, PROP2D, op_schema(PROP2D))
_LINE_SCAN = values.Op(_DOMAIN, LINE_SCAN, op_schema(LINE_SCAN))

# The translations have torch's argument names: an `Op` put into the table itself would bind
# attributes in alphabetical order. Every attribute is written, defaults included.


def _translate_prop2d(
    x: Any,
    lam: Any,
    w: Any,
    u: Any,
    d: Any = None,
    m: Any = None,
    normalize: str = DEFAULT_NORMALIZE,
    chunk: int = DEFAULT_CHUNK,
) -> Any:
    if d is None and m is not None:
        # TensorRT takes no function call with a gap in its inputs; m_k (u_k h_k) = (m_k u_k) h_k.
        shape: Any = opset18.Constant(value_ints=[NUM_DIRECTIONS, 1, 1, 1])
        u, m = opset18.Mul(u, opset18.Reshape(m, shape)), None
    given = [x, lam, w, u, d, m]
    while given[-1] is None:
        given.pop()
    return _PROP2D(*given, normalize=normalize, chunk=chunk)


def _translate_line_scan(
    x: Any,
    lam: Any,
    w: Any,
    direction: str = Direction.LEFT_TO_RIGHT.value,
    normalize: str = DEFAULT_NORMALIZE,
    chunk: int = DEFAULT_CHUNK,
) -> Any:
    return _LINE_SCAN(x, lam, w, direction=direction, normalize=normalize, chunk=chunk)
