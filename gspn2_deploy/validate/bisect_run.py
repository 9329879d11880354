"""Bisection of a request: the marked files, what runs them, and what each is held against."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gspn2_deploy.errors import OutputError, UsageError
from gspn2_deploy.manifest import Manifest, Profile, manifest_path
from gspn2_deploy.runners.base import Array, Arrays, Runner
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner
from gspn2_deploy.validate.bisect import Bisection, Chain, ExactOp, bisect
from gspn2_deploy.validate.blame import Suspect
from gspn2_deploy.validate.blocks import (
    Block,
    BlockValues,
    alone_inputs,
    alone_output,
    read_blocks,
    values_of,
    write_alone,
    write_marked,
)
from gspn2_deploy.validate.report import ValidationReport
from gspn2_deploy.validate.samples import Sample
from gspn2_deploy.validate.tolerances import Tolerance

MARKED, ALONE = "marked", "alone"  # stems of the files
_EXACT = "exact-"


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
    """

    name: str
    open: Callable[[Path, Path, bool], Runner]
    op_suspect: Suspect
    layers_suspect: Suspect
    unmarked: str
    fits: Callable[[Sample], bool] = lambda _: True


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
    return Executor("onnxruntime", open_, Suspect.BODY, layers, unmarked)


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
    # here and now, and its layers by name.
    options = replace(
        asked,
        version_compatible=False,
        exclude_lean_runtime=False,
        embed_plugin=False,
        weights="fixed",
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


def run_bisections(
    onnx: Path,
    outputs: Sequence[str],
    report: ValidationReport,
    samples: Sequence[Sample],
    tolerance: Tolerance,
    executors: Sequence[Executor],
    *,
    reference: Runner | None,
    providers: Sequence[str],
    folder: Path | None = None,
    on_step: Callable[[str], None] | None = None,
) -> tuple[Bisection, ...]:
    """Look into every executor.

    Args:
        onnx: The file.
        outputs: The names of its outputs.
        report: What the comparison found: a sample that failed is taken.
        samples: All of them.
        tolerance: Of what flows between the blocks.
        executors: What to look into. Where the reference is not live, the first one is the
            reference of the others.
        reference: The live PyTorch model, entered; None where there is none.
        providers: onnxruntime's execution providers, for the op where PyTorch is not installed.
        folder: Where marked files and engines are kept; None to drop them.
        on_step: Told what is done.

    Returns:
        One bisection for each executor that was held against something.

    Raises:
        UsageError: PyTorch does not run the propagations that the file holds.
        BuildError: An engine of a marked file could not be built.
    """
    blocks = read_blocks(onnx)
    tell = on_step or (lambda _: None)
    with _folder(folder) as place:
        marked = write_marked(onnx, blocks, place / f"{MARKED}.onnx")
        results = []
        for executor in executors:
            against_executor = None if reference is not None else executors[0]
            sample, was_right = _choose(report, samples, executor, against_executor)
            attributes: dict[str, Mapping[str, Any]] = {}
            if reference is not None:
                tell(f"bisecting {executor.name}: PyTorch")
                against, attributes = _torch_chain(reference, blocks, sample)
                against_name = reference.name
            elif executor is executors[0]:
                continue  # there is nothing to hold it against but the other candidates
            else:
                against_name = executors[0].name
                tell(f"bisecting {executor.name}: {against_name}")
                against = _marked_chain(executors[0], marked, place, blocks, sample, outputs)
            tell(f"bisecting {executor.name}: its own chain")
            candidate = _marked_chain(executor, marked, place, blocks, sample, outputs)
            tell(f"bisecting {executor.name}: the propagations alone")
            alone = _run_alone(executor, onnx, place, blocks, against.blocks)
            exact, exact_name = _exact_op(onnx, place, attributes, providers)
            results.append(
                bisect(
                    blocks,
                    against,
                    candidate,
                    tolerance,
                    exact,
                    alone=alone,
                    names=(executor.name, against_name, sample.name, exact_name),
                    was_right=was_right,
                    op_suspect=executor.op_suspect,
                    layers_suspect=executor.layers_suspect,
                    unmarked=executor.unmarked,
                )
            )
        return tuple(results)


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}", got=error) from error
    yield folder


def _choose(
    report: ValidationReport,
    samples: Sequence[Sample],
    executor: Executor,
    against: Executor | None,
) -> tuple[Sample, bool]:
    """A sample on which the executor failed and what it is held against did not; else any it runs.

    Where both fail, recorded outputs disagree with the file: that says nothing of the executor.
    """
    failed = _failed(report, executor)
    if against is not None:
        failed -= _failed(report, against)
    for sample in samples:
        if sample.name in failed:
            return sample, False
    for sample in samples:
        if executor.fits(sample):
            return sample, True
    raise UsageError(f"{executor.name} can run none of the samples, so there is nothing to bisect")


def _failed(report: ValidationReport, executor: Executor) -> set[str]:
    return {
        case.sample
        for case in report.cases
        if case.candidate == executor.name and not case.passed and case.error is None
    }


def _marked_chain(
    executor: Executor,
    marked: Path,
    folder: Path,
    blocks: Sequence[Block],
    sample: Sample,
    outputs: Sequence[str],
) -> Chain:
    with executor.open(marked, folder, True) as runner:
        found = runner.infer(_fed(runner, sample.inputs))
    chain = values_of(blocks, dict(sample.inputs), found)
    return Chain(chain, {name: found[name] for name in outputs})


def _fed(runner: Runner, inputs: Arrays) -> Arrays:
    """The inputs in the types that a runner takes: wider ones where a file was widened."""
    types = {spec.name: spec.dtype for spec in runner.input_specs}
    return {
        name: value.astype("float32") if types.get(name) == "float32" else value
        for name, value in inputs.items()
    }


def _widened(path: Path, folder: Path) -> Path:
    """A 16-bit file in float32, its weights exactly as they are."""
    import onnx

    from gspn2_deploy.runners.widen import widen

    model = onnx.load(path)
    widen(model, (onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT16))
    target = folder / f"{path.stem}-widened.onnx"
    onnx.save(model, target)
    return target


def _torch_chain(
    runner: Runner, blocks: Sequence[Block], sample: Sample
) -> tuple[Chain, dict[str, Mapping[str, Any]]]:
    from gspn2_deploy.validate.torch_blocks import record_calls

    outputs, calls = record_calls(runner, sample.inputs)
    ran = [_signature(call.op_type, call.values.inputs) for call in calls]
    held = [_signature(block.op_type, block.inputs) for block in blocks]
    if ran != held:
        raise UsageError(
            "PyTorch does not run the propagations that the file holds, in their order",
            got="; ".join(ran) or "none",
            expected="; ".join(held),
            hint="give the model that the file was exported from",
        )
    paired = list(zip(blocks, calls, strict=True))
    values = {block.name: call.values for block, call in paired}
    return Chain(values, outputs), {block.name: call.attributes for block, call in paired}


def _signature(op_type: str, inputs: Mapping[str, Any]) -> str:
    return f"{op_type}({', '.join(sorted(inputs))})"


def _run_alone(
    executor: Executor,
    onnx: Path,
    folder: Path,
    blocks: Sequence[Block],
    values: Mapping[str, BlockValues],
) -> dict[str, Array]:
    path = write_alone(onnx, blocks, values, folder / f"{ALONE}.onnx")
    with executor.open(path, folder, False) as runner:
        outputs = runner.infer(_fed(runner, alone_inputs(blocks, values)))
    return {block.name: outputs[alone_output(block)] for block in blocks}


def _exact_op(
    onnx: Path,
    folder: Path,
    attributes: Mapping[str, Mapping[str, Any]],
    providers: Sequence[str],
) -> tuple[ExactOp, str]:
    """What computes a propagation: PyTorch in float64, or its body in float32 without PyTorch."""
    try:
        from gspn2_deploy.validate.torch_blocks import exact_output
    except ImportError:
        pass
    else:

        def in_torch(block: Block, inputs: Arrays) -> Array:
            # As the live model calls it, where there is one: the file's attributes may be wrong.
            told = attributes.get(block.name, block.attributes)
            return exact_output(block.op_type, inputs, told)

        return in_torch, "PyTorch in float64"

    def in_onnxruntime(block: Block, inputs: Arrays) -> Array:
        wide = {name: value.astype("float32") for name, value in inputs.items()}
        values = {block.name: BlockValues(wide, wide["x"])}
        target = folder / f"{_EXACT}{block.name}.onnx"
        path = write_alone(onnx, [block], values, target, dtype="float32")
        with OnnxRuntimeRunner(path, providers=providers) as runner:
            return runner.infer(alone_inputs([block], values))[alone_output(block)]

    return in_onnxruntime, "the op's body in float32, by onnxruntime"
