"""Hold a built engine's layers against the file: the plugin's one by one, the others by precision.

A network says what it asks for; the engine is what runs. Its layers are fused, so that only the
plugin layers keep their names: they are looked for, and the layers that multiply by weights are
held against the file's precision as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.manifest import Profile
from gspn2_deploy.runners.engine_layers import EngineLayer, inspect_layers
from gspn2_deploy.spec import PRECISION_TYPES

_REDUCED = frozenset({"float16", "bfloat16", "int8"})
_WIDE = frozenset({"float32"})
_FLOATS = _REDUCED | _WIDE
# Kinds of layers that multiply by weights: CaskConvolution, CaskGemmMatrixMultiply, gemm ...
_WEIGHTED = re.compile(r"conv|gemm|mat(rix)?_?mul|fully", re.IGNORECASE)
_SHOWN = 5  # layers that an error names


def inspect_engine(trt: Any, engine: Any, profiles: tuple[Profile, ...]) -> list[EngineLayer]:
    """Ask TensorRT for an engine's layers, in every profile.

    Args:
        trt: TensorRT's module.
        engine: An engine, built with detailed profiling verbosity.
        profiles: The engine's profiles; empty when every shape is fixed.

    Returns:
        The layers; empty when TensorRT tells nothing but names. Their types may be untold: of
        dynamic shapes 8.6 did not tell them for shapes that were merely set, and did once the
        engine had run with them, which is not done here.
    """
    context = engine.create_execution_context()
    found: list[EngineLayer] = []
    for index, profile in enumerate(profiles or ({},)):
        if context is not None:
            if index > 0:  # the first is chosen already; the stream is the default one
                context.set_optimization_profile_async(index, 0)
            for name, shapes in profile.items():
                context.set_input_shape(name, shapes.opt)
            with suppress(RuntimeError):  # then the types stay untold
                context.infer_shapes()  # what is set is resolved when it is needed, not before
        found += inspect_layers(trt, engine, context)
    return merge_layers(found)


def merge_layers(layers: Iterable[EngineLayer]) -> list[EngineLayer]:
    """Return each layer that has a kind once, as it was told with a type if ever it was."""
    found: dict[tuple[str, ...], EngineLayer] = {}
    for layer in layers:
        key = (layer.name, *(tensor.name for tensor in layer.outputs))
        if layer.kind and (key not in found or found[key].dtype is None):
            found[key] = layer
    return list(found.values())


def dtype_counts(layers: Iterable[EngineLayer]) -> dict[str, int]:
    """Return how many layers give each element type first."""
    return dict(Counter(layer.dtype for layer in layers if layer.dtype is not None))


def untold_types(layers: Iterable[EngineLayer], plugins: int) -> str | None:
    """Say in a sentence which types TensorRT did not tell; None where it told every plugin's.

    Args:
        layers: The engine's layers.
        plugins: How many of its plugin layers have no type.
    """
    if not plugins:
        return None
    told = any(_types(layer) for layer in layers)
    whose = f"{plugins} plugin layers" if told else f"any layer, {plugins} plugin layers among them"
    return (
        f"TensorRT does not tell the type of {whose}: "
        "gspn2-deploy validate --engine runs the engine and checks the plugin layers' types"
    )


def check_plugin_layers(
    layers: Iterable[EngineLayer], wanted: Mapping[str, str]
) -> tuple[str, ...]:
    """Check that every plugin layer is in the engine, and all that it gives in the file's type.

    Args:
        layers: The engine's layers.
        wanted: The element type by the name of each plugin layer.

    Returns:
        The names of those whose type TensorRT does not tell.

    Raises:
        EngineLibraryError: One is missing, or runs in another type.
    """
    plugins = [layer for layer in layers if layer.node in wanted]
    missing = sorted(wanted.keys() - {layer.node for layer in plugins})
    wrong = [layer for layer in plugins if not _given(layer) <= {None, wanted[layer.node]}]
    if not missing and not wrong:
        return tuple(layer.node for layer in plugins if None in _given(layer))
    types = ", ".join(sorted(set(wanted.values())))
    raise EngineLibraryError(
        "plugin layers are missing from the engine"
        if missing
        else "plugin layers do not run in the type that the file gives them",
        got=", ".join(missing or [f"{layer.node}: {_spoken(layer)}" for layer in wrong]),
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
    wanted = PRECISION_TYPES.get(precision or "")
    if wanted == "float32":
        return [layer for layer in layers if _REDUCED & _types(layer)]
    if wanted is None:
        return []
    return [
        layer
        for layer in layers
        if _WEIGHTED.search(layer.kind) and _FLOATS & _types(layer) == _WIDE
    ]


def check_precision(layers: Iterable[EngineLayer], precision: str | None) -> None:
    """Check an engine's layers against a file's precision.

    Raises:
        EngineLibraryError: Layers run in another; see :func:`misplaced_layers`.
    """
    misplaced = misplaced_layers(layers, precision)
    if misplaced:
        more = len(misplaced) - _SHOWN
        raise EngineLibraryError(
            f"layers of the engine do not run in {precision}, as the file says",
            got="; ".join(map(_describe, misplaced[:_SHOWN]))
            + (f"; and {more} more" if more > 0 else ""),
            hint="build again; if it persists, allow it by --precision-constraints prefer "
            "(TensorRT before 10), or report it with the ONNX file",
        )


def _given(layer: EngineLayer) -> set[str | None]:
    """The types of what a layer gives; None among them where one is untold."""
    return {tensor.dtype for tensor in layer.outputs} or {None}


def _spoken(layer: EngineLayer) -> str:
    return " and ".join(sorted(dtype or "untold" for dtype in _given(layer)))


def _types(layer: EngineLayer) -> set[str]:
    return {tensor.dtype for tensor in (*layer.inputs, *layer.outputs) if tensor.dtype is not None}


def _describe(layer: EngineLayer) -> str:
    sides = (
        ", ".join(tensor.dtype or "?" for tensor in tensors)
        for tensors in (layer.inputs, layer.outputs)
    )
    return f"{layer.name} ({layer.kind}): {' -> '.join(sides)}"
