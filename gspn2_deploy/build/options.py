"""How a plan is built: the options that only some engine libraries, and some versions, have.

Every one of them leaves a plan that computes the same; what they change is where it runs, how
large and how fast it is, and how long it takes to build. A backend refuses those that it does not
have, with the reason, and never ignores one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gspn2_deploy.errors import UsageError

# What a plan may run on beside the GPU that it was built on.
HARDWARE_COMPATIBILITIES = ("none", "ampere-plus", "same-compute-capability")
# Whether a plan's weights can be replaced, and whether it holds any.
WEIGHTS = ("fixed", "refittable", "stripped")
# How strictly TensorRT before 10 takes the file's types.
PRECISION_CONSTRAINTS = ("obey", "prefer")
# Where kernels come from, by TensorRT's names of them. Not every version has every one.
TACTIC_SOURCES = ("cublas", "cublas-lt", "cudnn", "edge-mask-convolutions", "jit-convolutions")
NO_TACTIC_SOURCES = "none"
OPTIMIZATION_LEVELS = range(6)
# trtexec's default; TensorRT's own is 1. Runs cost little beside loading the kernels.
TIMING_ITERATIONS = 8
TIMING_RANGE = range(1, 1001)
_LIBRARY_TIMING_ITERATIONS = 1  # of plans whose manifest does not tell


@dataclass(frozen=True)
class BuildOptions:
    """What the builder is asked for beside shapes and workspace. The defaults ask for nothing.

    Args:
        optimization_level: How long to search for faster kernels, 0 to 5; None for the library's
            default (3).
        timing_iterations: How many runs of a kernel are averaged where the builder times it, of
            :data:`TIMING_RANGE`.
        timing_cache: Whether measured times are kept for the next build.
        timing_cache_path: Where; None for a file of the user's cache folder, named by all that
            the times depend on. A file of means over other than ``timing_iterations`` is refused.
        version_compatible: Whether later versions of the same major version can run the plan too.
        exclude_lean_runtime: Whether such a plan leaves out the runtime that it needs for that.
        hardware_compatibility: One of :data:`HARDWARE_COMPATIBILITIES`.
        embed_plugin: Whether the plan carries the plugin library.
        weights: One of :data:`WEIGHTS`.
        tactic_sources: Of :data:`TACTIC_SOURCES`; empty for none of them, None for the default.
        tf32: Whether float32 convolutions and matrix products may round their inputs to 10 bits.
        precision_constraints: One of :data:`PRECISION_CONSTRAINTS`.
        fuse: Whether the plugin computes norms over channels and depthwise convolutions, and takes
            what a propagation needs as one convolution gives it; None for where that was measured
            to be faster: TensorRT before 10. A refit finds the weights no more, so that it is off
            where weights are not fixed.

    Raises:
        UsageError: A value is unknown, or two contradict each other.
    """

    optimization_level: int | None = None
    timing_iterations: int = TIMING_ITERATIONS
    timing_cache: bool = True
    timing_cache_path: Path | None = None
    version_compatible: bool = False
    exclude_lean_runtime: bool = False
    hardware_compatibility: str = "none"
    embed_plugin: bool = False
    weights: str = "fixed"
    tactic_sources: tuple[str, ...] | None = None
    tf32: bool = False
    precision_constraints: str = "obey"
    fuse: bool | None = None

    def __post_init__(self) -> None:
        """Check each value, then those that exclude each other."""
        _check_choice(
            "hardware compatibility", self.hardware_compatibility, HARDWARE_COMPATIBILITIES
        )
        _check_choice("kind of weights", self.weights, WEIGHTS)
        _check_choice("precision constraint", self.precision_constraints, PRECISION_CONSTRAINTS)
        for source in self.tactic_sources or ():
            _check_choice("tactic source", source, TACTIC_SOURCES)
        if self.optimization_level is not None and self.optimization_level not in (
            OPTIMIZATION_LEVELS
        ):
            raise UsageError(
                "no such optimization level",
                got=self.optimization_level,
                expected=f"{OPTIMIZATION_LEVELS[0]} to {OPTIMIZATION_LEVELS[-1]}",
            )
        if self.timing_iterations not in TIMING_RANGE:
            raise UsageError(
                "a kernel cannot be timed so often",
                got=self.timing_iterations,
                expected=f"{TIMING_RANGE[0]} to {TIMING_RANGE[-1]}",
            )
        if self.timing_cache_path is not None and not self.timing_cache:
            raise UsageError(
                "a timing cache is named and turned off",
                got=f"--timing-cache {self.timing_cache_path} --no-timing-cache",
                hint="leave one of the two out",
            )
        if self.exclude_lean_runtime and not self.version_compatible:
            raise UsageError(
                "only a version-compatible plan has a lean runtime to leave out",
                got="--exclude-lean-runtime",
                hint="add --version-compatible, or leave it out",
            )
        if self.fuse and self.weights != WEIGHTS[0]:
            raise UsageError(
                "a refit would not find the weights that the plugin's layers take over",
                got=f"--fuse --weights {self.weights}",
                hint="leave --fuse out, or the weights fixed",
            )

    def asked(self) -> dict[str, Any]:
        """Return what differs from the defaults, by option."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all of them as JSON-ready values."""
        values = asdict(self)
        path, sources = self.timing_cache_path, self.tactic_sources
        values["timing_cache_path"] = None if path is None else str(path)
        values["tactic_sources"] = None if sources is None else list(sources)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BuildOptions:
        """Rebuild what :meth:`to_dict` returned; of an earlier version's it leaves out the rest."""
        known = {field.name for field in fields(cls)}
        path, sources = values["timing_cache_path"], values["tactic_sources"]
        return cls(
            **{
                "timing_iterations": _LIBRARY_TIMING_ITERATIONS,
                **{name: value for name, value in values.items() if name in known},
                "timing_cache_path": None if path is None else Path(path),
                "tactic_sources": None if sources is None else tuple(sources),
            }
        )


def flag_of(option: str) -> str:
    """Return an option's name on the command line."""
    spellings = {"timing_cache": "--no-timing-cache", "timing_cache_path": "--timing-cache"}
    spellings |= {"tactic_sources": "--tactic-source"}
    return spellings.get(option, "--" + option.replace("_", "-"))


def refuse_options(options: BuildOptions, reasons: Mapping[str, str], library: str) -> None:
    """Refuse the options that a library does not have.

    Args:
        options: What is asked for.
        reasons: Why not, by option; options that are not in it are left to the backend.
        library: The library's name.

    Raises:
        UsageError: One of them is asked for.
    """
    for option in options.asked():
        if option in reasons:
            raise UsageError(
                f"{library} has no {flag_of(option)}: {reasons[option]}",
                got=flag_of(option),
                hint="leave it out, or build with --backend tensorrt",
            )


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"no such {what}", got=value, expected=", ".join(known))
