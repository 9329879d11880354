"""Give a TensorRT builder configuration the options of a build, or say that a version lacks one.

What a version has is asked of its module, not of its number: the numbers here are for messages.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from gspn2_deploy.build.options import BuildOptions, flag_of
from gspn2_deploy.errors import UsageError

# TensorRT before 10 takes kernels from cuBLAS and cuDNN unless told otherwise. It then opens both
# at every start, passes their handles to plugins that ask for them (this one does not), and a
# machine where they are missing or of another version fails at run time. Convolutions and matrix
# products have kernels of TensorRT's own, which are what it has left from 10 on.
_OWN_SOURCES = ("edge-mask-convolutions", "jit-convolutions")


def apply_options(
    trt: ModuleType, config: Any, options: BuildOptions, *, strongly_typed: bool, plugin: Path
) -> None:
    """Set what is asked for.

    Args:
        trt: TensorRT's module.
        config: A builder configuration.
        options: The options.
        strongly_typed: Whether the network keeps the file's types by itself.
        plugin: The plugin library that is to be embedded where that is asked for.

    Raises:
        UsageError: This version has no such option.
    """
    _set_optimization_level(trt, config, options.optimization_level)
    config.avg_timing_iterations = options.timing_iterations
    _set_compatibility(trt, config, options)
    _set_weights(trt, config, options)
    _set_tactic_sources(trt, config, options.tactic_sources, strongly_typed)
    if options.embed_plugin:
        _require(trt, hasattr(config, "plugins_to_serialize"), "embed_plugin", "8.6")
        config.plugins_to_serialize = [str(plugin)]
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)  # it is on unless it is turned off
    if options.precision_constraints != "obey" and strongly_typed:
        raise UsageError(
            f"TensorRT {trt.__version__} keeps the types of the file and has no other choice",
            got=f"{flag_of('precision_constraints')} {options.precision_constraints}",
            hint="leave it out; export in the precision that is wanted",
        )


def _set_optimization_level(trt: ModuleType, config: Any, level: int | None) -> None:
    if level is None:
        return
    _require(trt, hasattr(config, "builder_optimization_level"), "optimization_level", "8.6")
    config.builder_optimization_level = level


def _set_compatibility(trt: ModuleType, config: Any, options: BuildOptions) -> None:
    if options.version_compatible:
        has_flag = hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE")
        _require(trt, has_flag, "version_compatible", "8.6")
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.exclude_lean_runtime:
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    if options.hardware_compatibility != "none":
        levels = getattr(trt, "HardwareCompatibilityLevel", None)
        name = options.hardware_compatibility.replace("-", "_").upper()
        since = "8.6" if name == "AMPERE_PLUS" else "10.12"
        has_level = hasattr(levels, name)
        value = options.hardware_compatibility
        _require(trt, has_level, "hardware_compatibility", since, value)
        config.hardware_compatibility_level = getattr(levels, name)


def _set_weights(trt: ModuleType, config: Any, options: BuildOptions) -> None:
    flags = trt.BuilderFlag
    can_strip = hasattr(flags, "STRIP_PLAN")
    if options.weights == "stripped":
        _require(trt, can_strip, "weights", "10.0", options.weights)
        config.set_flag(flags.STRIP_PLAN)
        config.set_flag(flags.REFIT_IDENTICAL)
    elif options.weights == "refittable":
        if options.version_compatible and not can_strip:  # it logs that, and builds without one
            raise UsageError(
                f"TensorRT {trt.__version__} makes no version-compatible plan refittable",
                got="--weights refittable --version-compatible",
                expected="one of the two, or TensorRT 10.0 or later",
            )
        config.set_flag(flags.REFIT)


def _set_tactic_sources(
    trt: ModuleType, config: Any, asked: tuple[str, ...] | None, strongly_typed: bool
) -> None:
    if asked is None and strongly_typed:
        return
    names = _OWN_SOURCES if asked is None else asked
    mask = 0
    for name in names:
        member = getattr(trt.TacticSource, name.replace("-", "_").upper(), None)
        if member is None:
            known = trt.TacticSource.__members__
            raise UsageError(
                f"TensorRT {trt.__version__} has no such tactic source",
                got=f"{flag_of('tactic_sources')} {name}",
                expected=", ".join(item.lower().replace("_", "-") for item in known),
            )
        mask |= 1 << int(member)
    if not config.set_tactic_sources(mask):
        raise UsageError("TensorRT refuses these tactic sources", got=", ".join(names) or "none")


def _require(
    trt: ModuleType, present: bool, option: str, since: str, value: str | None = None
) -> None:
    if present:
        return
    asked = flag_of(option) + (f" {value}" if value else "")
    raise UsageError(
        f"TensorRT {trt.__version__} has no {asked}",
        got=asked,
        expected=f"TensorRT {since} or later",
        hint="leave it out, or install a later TensorRT",
    )
