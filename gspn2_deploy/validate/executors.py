"""What a bisection looks into: onnxruntime, and engines that are built like the given one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gspn2_deploy.manifest import Manifest, Profile, manifest_path
from gspn2_deploy.runners.base import Runner
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner
from gspn2_deploy.validate.blame import Suspect
from gspn2_deploy.validate.samples import Sample

MARKED, ALONE = "marked", "alone"  # stems of a bisection's files
_WIDENED = "-widened"
STEMS = tuple(stem + end for stem in (MARKED, ALONE) for end in ("", _WIDENED))


@dataclass(frozen=True)
class Executor:
    """Something that runs ONNX files, to be looked into.

    Args:
        name: The candidate's name in the report.
        open: Makes a runner, not entered, of a file: (file, folder for what it needs, whether
            its shapes are those of the model's inputs).
        op_suspect: Who is to blame where the op is wrong.
        layers_suspect: Who is to blame where the layers around are.
        unmarked: What follows where it is right with the marks and wrong without.
        fits: Whether it can run a sample.
        runs_body: Whether it runs the op's function body.
    """

    name: str
    open: Callable[[Path, Path, bool], Runner]
    op_suspect: Suspect
    layers_suspect: Suspect
    unmarked: str
    fits: Callable[[Sample], bool] = lambda _: True
    runs_body: bool = False


def onnxruntime_executor(providers: Sequence[str], precision: str, *, engine: bool) -> Executor:
    """Have onnxruntime looked into.

    Args:
        providers: Its execution providers.
        precision: The file's, by the row of the table of tolerances.
        engine: Whether an engine is there to say that the file is right.
    """

    def open_(path: Path, folder: Path, _: bool) -> Runner:
        # onnxruntime leaves roundings out between 16-bit ops, so that a block would be fed
        # something else than what its marked input shows.
        path = path if precision == "fp32" else _widened(path, folder)
        return OnnxRuntimeRunner(path, providers=providers)

    layers = Suspect.ONNXRUNTIME if engine else Suspect.EXPORT
    unmarked = (
        "how it rewrites the graph is wrong"
        if precision == "fp32"
        else f"with every tensor widened to float32 it is right too: {precision} is too little "
        "for this model, or onnxruntime's 16-bit arithmetic is wrong"
    )
    return Executor("onnxruntime", open_, Suspect.BODY, layers, unmarked, runs_body=True)


def engine_executor(plan: Path, name: str, covers: Callable[[Sample], bool]) -> Executor:
    """Have an engine looked into: engines of the marked files are built like it.

    Args:
        plan: The plan.
        name: Its runner's name.
        covers: Whether one of its profiles covers a sample.
    """
    manifest = Manifest.load(manifest_path(plan))

    def open_(path: Path, folder: Path, dynamic: bool) -> Runner:
        from gspn2_deploy.runners.tensorrt_runner import TensorRTRunner

        target = folder / f"{path.stem}.plan"
        build_like(manifest, path, target, manifest.profiles if dynamic else ())
        return TensorRTRunner(target)

    unmarked = "how TensorRT fuses or places the layers is wrong"
    return Executor(name, open_, Suspect.PLUGIN, Suspect.TENSORRT, unmarked, covers)


def build_like(manifest: Manifest, onnx: Path, plan: Path, profiles: Sequence[Profile]) -> None:
    """Build an engine with the options of another.

    Args:
        manifest: The other's.
        onnx: What to build.
        plan: Where it goes.
        profiles: The shapes to build for.
    """
    from gspn2_deploy.build import BuildOptions, build_engine

    asked = BuildOptions.from_dict(manifest.options) if manifest.options else BuildOptions()
    # What decides on where a plan runs, not on what it computes, is left out: it is looked into
    # here and now, and its layers by name. So is a file of timings that the user named: to look
    # into a plan does not write it.
    options = replace(
        asked,
        version_compatible=False,
        exclude_lean_runtime=False,
        embed_plugin=False,
        timing_cache_path=None,
        weights="fixed",
        fuse=asked.fuse if asked.weights == "fixed" else False,  # as it was built
    )
    mib = manifest.workspace_bytes and manifest.workspace_bytes >> 20
    build_engine(
        onnx,
        plan,
        backend=manifest.backend,
        profiles=profiles,
        workspace_mib=mib,
        options=options,
    )


def _widened(path: Path, folder: Path) -> Path:
    """A 16-bit file in float32, its weights exactly as they are."""
    import onnx

    from gspn2_deploy.runners.widen import widen

    model = onnx.load(path)
    widen(model, (onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT16))
    target = folder / f"{path.stem}{_WIDENED}.onnx"
    onnx.save(model, target)
    return target
