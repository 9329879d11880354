"""The options of ``gspn2-deploy build`` that only some engine libraries have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from gspn2_deploy.build.options import (
    HARDWARE_COMPATIBILITIES,
    NO_TACTIC_SOURCES,
    OPTIMIZATION_LEVELS,
    PRECISION_CONSTRAINTS,
    TACTIC_SOURCES,
    TIMING_ITERATIONS,
    TIMING_RANGE,
    WEIGHTS,
    BuildOptions,
)
from gspn2_deploy.errors import UsageError

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--optimization-level",
        type=click.IntRange(OPTIMIZATION_LEVELS[0], OPTIMIZATION_LEVELS[-1]),
        help="How long to search for faster kernels. Default: the engine library's, 3. "
        "TensorRT 8.6 and later.",
    ),
    click.option(
        "--timing-iterations",
        type=click.IntRange(TIMING_RANGE[0], TIMING_RANGE[-1]),
        default=TIMING_ITERATIONS,
        show_default=True,
        metavar="N",
        help="How many runs of a kernel to average where kernels are timed. TensorRT.",
    ),
    click.option(
        "--timing-cache",
        "timing_cache_path",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Where measured times are kept for the next build; means over another number of runs "
        "are refused. Default: a file in the user's cache folder (GSPN2_CACHE_DIR) named by "
        "TensorRT, GPU, driver, plugin and that number. TensorRT.",
    ),
    click.option(
        "--keep-timing-cache/--no-timing-cache",
        "timing_cache",
        default=True,
        help="Whether to use and keep such a file at all. Default: to keep it.",
    ),
    click.option(
        "--version-compatible",
        is_flag=True,
        help="Let later versions of the same major version run the plan, somewhat slower. "
        "TensorRT 8.6 and later.",
    ),
    click.option(
        "--exclude-lean-runtime",
        is_flag=True,
        help="Leave out of a version-compatible plan the runtime that runs it: smaller, and the "
        "application brings libnvinfer_lean.",
    ),
    click.option(
        "--hardware-compatibility",
        type=click.Choice(HARDWARE_COMPATIBILITIES),
        default=HARDWARE_COMPATIBILITIES[0],
        show_default=True,
        help="Other GPUs that are to run the plan: Ampere and newer (TensorRT 8.6 and later), or "
        "those of the same compute capability (10.12 and later).",
    ),
    click.option(
        "--embed-plugin",
        is_flag=True,
        help="Carry the plugin library in the plan. Who loads it runs that library: TensorRT asks "
        "for engine_host_code_allowed. TensorRT 8.6 and later.",
    ),
    click.option(
        "--weights",
        type=click.Choice(WEIGHTS),
        default=WEIGHTS[0],
        show_default=True,
        help="Whether a plan's weights can be replaced (refittable), or are left out to be filled "
        "in from the ONNX file (stripped; TensorRT 10 and later).",
    ),
    click.option(
        "--tactic-source",
        "tactic_sources",
        type=click.Choice((*TACTIC_SOURCES, NO_TACTIC_SOURCES)),
        multiple=True,
        help="Where TensorRT takes kernels from, repeatable. Default before TensorRT 10: its own "
        "two, so that no plan needs cuBLAS or cuDNN where it runs; from 10 on, the library's.",
    ),
    click.option(
        "--tf32",
        is_flag=True,
        help="Let float32 convolutions and matrix products round their inputs to 10 bits: faster, "
        "and further from PyTorch in float32. TensorRT.",
    ),
    click.option(
        "--precision-constraints",
        type=click.Choice(PRECISION_CONSTRAINTS),
        default=PRECISION_CONSTRAINTS[0],
        show_default=True,
        help="Whether TensorRT before 10 must compute every layer in the file's precision, or may "
        "take another where it has no kernel for it.",
    ),
    click.option(
        "--fuse/--no-fuse",
        default=None,
        help="Whether the plugin computes norms over channels and, in half precision, depthwise "
        "convolutions too, rather than TensorRT, and takes what a propagation needs from one "
        "convolution, uncut; before TensorRT 10 GELUs in float16 become sigmoids, to within 5e-5. "
        "Default: with TensorRT before 10. TensorRT.",
    ),
)


def library_options(function: _Function) -> _Function:
    """Add these options; the command gets them as ``options``."""
    names = [field.name for field in fields(BuildOptions)]

    @functools.wraps(function)
    def collect(*args: Any, **kwargs: Any) -> Any:
        values = {name: kwargs.pop(name) for name in names}
        values["tactic_sources"] = _tactic_sources(values["tactic_sources"])
        return function(*args, options=BuildOptions(**values), **kwargs)

    decorated: Any = collect
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    result: _Function = decorated
    return result


def _tactic_sources(given: tuple[str, ...]) -> tuple[str, ...] | None:
    if not given:
        return None
    if NO_TACTIC_SOURCES not in given:
        return tuple(dict.fromkeys(given))
    if set(given) != {NO_TACTIC_SOURCES}:
        raise UsageError(
            "no tactic source, and some", got=", ".join(given), hint="leave one of the two out"
        )
    return ()
