"""What a built engine's layers compute in, as TensorRT's engine inspector tells.

A network says what it asks for; the engine is what runs. Its layers are fused, so that only the
plugin layers keep their names: they are looked for one by one, and the layers that multiply by
weights are held against the file's precision as a whole.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.manifest import Profile

# Words of the inspector's description of a tensor, by our name of the type.
_TYPES = {
    "FP32": "float32",
    "Float": "float32",
    "FP16": "float16",
    "Half": "float16",
    "BF16": "bfloat16",
    "BFloat16": "bfloat16",
    "INT8": "int8",
    "Int8": "int8",
    "INT32": "int32",
    "Int32": "int32",
    "INT64": "int64",
    "Int64": "int64",
    "BOOL": "bool",
    "Bool": "bool",
}
_DESCRIPTION = "Format/Datatype"
_PRECISION_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_REDUCED = frozenset({"float16", "bfloat16", "int8"})
_WIDE = frozenset({"float32"})
_FLOATS = _REDUCED | _WIDE
# Kinds of layers that multiply by weights: CaskConvolution, CaskGemmMatrixMultiply, gemm ...
_WEIGHTED = re.compile(r"conv|gemm|mat(rix)?_?mul|fully", re.IGNORECASE)
_SHOWN = 5  # layers that an error names
# An engine with several profiles has its layers once for each.
_PROFILE_SUFFIX = re.compile(r"\s*\[profile \d+\]$")


@dataclass(frozen=True)
class EngineLayer:
    """A layer of a built engine.

    Args:
        name: Its name without the profile that it belongs to.
        kind: The library's name of what it is.
        inputs: The element types of its inputs, as far as they are told.
        outputs: Those of its outputs, likewise.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def is_weighted(self) -> bool:
        """Whether it is a convolution or a matrix product."""
        return bool(_WEIGHTED.search(self.kind))


def inspect_engine(trt: Any, engine: Any, profiles: tuple[Profile, ...]) -> list[EngineLayer]:
    """Ask TensorRT for an engine's layers, in every profile.

    Args:
        trt: TensorRT's module.
        engine: An engine, built with detailed profiling verbosity.
        profiles: The engine's profiles; empty when every shape is fixed.

    Returns:
        The layers; empty when TensorRT does not tell them.
    """
    inspector = engine.create_engine_inspector()
    context = engine.create_execution_context()
    found: dict[EngineLayer, None] = {}
    for index, profile in enumerate(profiles or ({},)):
        if context is not None:
            if index > 0:  # the first is chosen already; the stream is the default one
                context.set_optimization_profile_async(index, 0)
            # Without shapes it does not tell the types of layers whose shapes are dynamic.
            for name, shapes in profile.items():
                context.set_input_shape(name, shapes.opt)
            inspector.execution_context = context
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        found |= dict.fromkeys(read_layers(text))
    return list(found)


def read_layers(text: str) -> list[EngineLayer]:
    """Read the engine inspector's JSON.

    Args:
        text: What the inspector says of a whole engine.

    Returns:
        The layers; empty when the text is in no form that TensorRT 8.6 to 11 write.
    """
    try:
        described = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return []
    return [
        EngineLayer(
            _PROFILE_SUFFIX.sub("", str(item.get("Name", ""))),
            str(item.get("LayerType", "")),
            _types(item.get("Inputs")),
            _types(item.get("Outputs")),
        )
        for item in described
        if isinstance(item, Mapping)  # a name alone, where the engine keeps nothing else
    ]


def dtype_counts(layers: Iterable[EngineLayer]) -> dict[str, int]:
    """Return how many layers give each element type first."""
    return dict(Counter(layer.outputs[0] for layer in layers if layer.outputs))


def check_plugin_layers(
    layers: Iterable[EngineLayer], wanted: Mapping[str, str]
) -> tuple[str, ...]:
    """Check that every propagation is in the engine, in the file's type.

    Args:
        layers: The engine's layers.
        wanted: The element type by the name of each plugin layer.

    Returns:
        The names of those whose type TensorRT does not tell.

    Raises:
        EngineLibraryError: One is missing, or runs in another type.
    """
    plugins = [layer for layer in layers if layer.name in wanted]
    missing = sorted(wanted.keys() - {layer.name for layer in plugins})
    wrong = [layer for layer in plugins if layer.outputs and layer.outputs[0] != wanted[layer.name]]
    if not missing and not wrong:
        return tuple(layer.name for layer in plugins if not layer.outputs)
    types = ", ".join(sorted(set(wanted.values())))
    raise EngineLibraryError(
        "plugin layers are missing from the engine"
        if missing
        else "plugin layers do not run in the type that the file gives them",
        got=", ".join(missing or [f"{layer.name}: {layer.outputs[0]}" for layer in wrong]),
        expected=f"{len(wanted)} plugin layers in {types}",
        hint="build again; if it persists, report it with the ONNX file",
    )


def misplaced_layers(layers: Iterable[EngineLayer], precision: str | None) -> list[EngineLayer]:
    """Return the layers that contradict a file's precision.

    Args:
        layers: The engine's layers.
        precision: What the file says was baked in.

    Returns:
        Of a float32 file, every layer that gives or takes a reduced type. Of a float16 or
        bfloat16 file, every convolution and matrix product with float32 on both sides; one side
        alone may be a cast that was fused into it. Of a mixed file none: layers that are fused
        do not tell which of the file's they were.
    """
    wanted = _PRECISION_TYPES.get(precision or "")
    if wanted == "float32":
        return [layer for layer in layers if _REDUCED & {*layer.inputs, *layer.outputs}]
    if wanted is None:
        return []
    return [
        layer
        for layer in layers
        if layer.is_weighted and _FLOATS & {*layer.inputs, *layer.outputs} == _WIDE
    ]


def check_precision(layers: Iterable[EngineLayer], precision: str | None) -> None:
    """Check an engine's layers against a file's precision.

    Raises:
        EngineLibraryError: Layers run in another; see :func:`misplaced_layers`.
    """
    misplaced = misplaced_layers(layers, precision)
    if misplaced:
        raise EngineLibraryError(
            f"layers of the engine do not run in {precision}, as the file says",
            got="; ".join(
                f"{layer.name} ({layer.kind}): {', '.join(layer.inputs)} -> "
                + ", ".join(layer.outputs)
                for layer in misplaced[:_SHOWN]
            )
            + (f"; and {len(misplaced) - _SHOWN} more" if len(misplaced) > _SHOWN else ""),
            hint="build again; if it persists, allow it by --precision-constraints prefer "
            "(TensorRT before 10), or report it with the ONNX file",
        )


def _types(tensors: Any) -> tuple[str, ...]:
    if not isinstance(tensors, list):
        return ()
    found = (_type(tensor) for tensor in tensors if isinstance(tensor, Mapping))
    return tuple(dtype for dtype in found if dtype)


def _type(tensor: Mapping[str, Any]) -> str | None:
    words = str(tensor.get(_DESCRIPTION, "")).replace(":", " ").split()
    return next((_TYPES[word] for word in reversed(words) if word in _TYPES), None)
