"""Bisection of a request: the marked files, and what each executor of them is held against."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gspn2_deploy.errors import Gspn2Error, OnnxFileError, OutputError, PlatformError, UsageError
from gspn2_deploy.runners.base import Array, Arrays, Runner
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner
from gspn2_deploy.validate.bisect import (
    Bisection,
    Chain,
    Check,
    ExactOp,
    Explain,
    bisect,
    check_alone,
    stopped,
)
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
from gspn2_deploy.validate.body import explain
from gspn2_deploy.validate.executors import ALONE, MARKED, Executor
from gspn2_deploy.validate.report import ValidationReport
from gspn2_deploy.validate.samples import Sample
from gspn2_deploy.validate.tolerances import Tolerance

_EXACT = "exact-"


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
        executors: What to look into: one, or two. Where the reference is not live, one is held
            against the other.
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
    with _folder(folder) as place:
        look = _Look(
            onnx=onnx,
            marked=write_marked(onnx, blocks, place / f"{MARKED}.onnx"),
            folder=place,
            blocks=blocks,
            outputs=outputs,
            report=report,
            samples=samples,
            tolerance=tolerance,
            providers=providers,
            tell=on_step or (lambda _: None),
        )
        if reference is not None:
            return tuple(look.against_pytorch(executor, reference) for executor in executors)
        if len(executors) < 2:
            return ()  # there is nothing to hold it against
        candidate, against = _order(report, executors[0], executors[1])
        return (look.against_executor(candidate, against),)


@dataclass(frozen=True)
class _Look:
    """What is looked into, and where; see :func:`run_bisections`."""

    onnx: Path
    marked: Path
    folder: Path
    blocks: Sequence[Block]
    outputs: Sequence[str]
    report: ValidationReport
    samples: Sequence[Sample]
    tolerance: Tolerance
    providers: Sequence[str]
    tell: Callable[[str], None]

    def against_pytorch(self, executor: Executor, reference: Runner) -> Bisection:
        """Hold an executor against the live model."""
        sample, was_right = _choose(self.report, self.samples, executor, None)
        self.tell(f"bisecting {executor.name}: PyTorch")
        chain, attributes = _torch_chain(reference, self.blocks, sample)
        names = executor.name, reference.name, sample.name
        return self._bisect(executor, sample, was_right, chain, names, attributes)

    def against_executor(self, executor: Executor, against: Executor) -> Bisection:
        """Hold an executor against another one."""
        sample, was_right = _choose(self.report, self.samples, executor, against)
        self.tell(f"bisecting {executor.name}: {against.name}")
        chain = self._chain(against, sample)
        names = executor.name, against.name, sample.name
        return self._bisect(executor, sample, was_right, chain, names, {})

    def _bisect(
        self,
        executor: Executor,
        sample: Sample,
        was_right: bool,
        reference: Chain,
        names: tuple[str, str, str],
        attributes: Mapping[str, Mapping[str, Any]],
    ) -> Bisection:
        exact, exact_name = _exact_op(self.onnx, self.folder, attributes, self.providers, executor)
        name = executor.name
        self.tell(f"bisecting {name}: its own chain")
        try:
            candidate = self._chain(executor, sample)
        except PlatformError as error:
            if not executor.runs_body:
                raise
            self.tell(f"bisecting {name}: the propagations one by one")
            return stopped(
                self.blocks,
                {
                    block.name: self._one_alone(executor, block, reference, exact)
                    for block in self.blocks
                },
                _in_short(error),
                names=(*names, exact_name),
                op_suspect=executor.op_suspect,
                layers_suspect=executor.layers_suspect,
                explain=self._explain(attributes),
            )
        self.tell(f"bisecting {name}: the propagations alone")
        return bisect(
            self.blocks,
            reference,
            candidate,
            self.tolerance,
            exact,
            alone=self._run_alone(executor, self.blocks, reference.blocks),
            names=(*names, exact_name),
            was_right=was_right,
            op_suspect=executor.op_suspect,
            layers_suspect=executor.layers_suspect,
            unmarked=executor.unmarked,
            explain=self._explain(attributes) if executor.runs_body else None,
        )

    def _explain(self, attributes: Mapping[str, Mapping[str, Any]]) -> Explain:
        return lambda block: explain(self.onnx, block, attributes.get(block.name))

    def _chain(self, executor: Executor, sample: Sample) -> Chain:
        with executor.open(self.marked, self.folder, True) as runner:
            found = runner.infer(_fed(runner, sample.inputs))
        chain = values_of(self.blocks, dict(sample.inputs), found)
        return Chain(chain, {name: found[name] for name in self.outputs})

    def _run_alone(
        self, executor: Executor, blocks: Sequence[Block], values: Mapping[str, BlockValues]
    ) -> dict[str, Array]:
        path = write_alone(self.onnx, blocks, values, self.folder / f"{ALONE}.onnx")
        with executor.open(path, self.folder, False) as runner:
            outputs = runner.infer(_fed(runner, alone_inputs(blocks, values)))
        return {block.name: outputs[alone_output(block)] for block in blocks}

    def _one_alone(
        self, executor: Executor, block: Block, reference: Chain, exact: ExactOp | None
    ) -> Check:
        values = reference.blocks[block.name]
        try:
            found = self._run_alone(executor, [block], reference.blocks)[block.name]
        except (PlatformError, OnnxFileError) as error:
            return Check(None, (f"does not run: {_in_short(error)}",))
        return check_alone(exact, block, values, found)


def _in_short(error: Gspn2Error) -> str:
    """What the library said, without the error's frame, whose paths may be gone by then."""
    return " ".join(str(error.got or error.problem).split())


def _order(
    report: ValidationReport, first: Executor, second: Executor
) -> tuple[Executor, Executor]:
    """Which of two is held against which: (candidate, reference).

    The first is the reference, unless recorded outputs say that it is the one that is wrong.
    """
    passed = {case.sample for case in report.cases if case.candidate == second.name and case.passed}
    if _failed(report, first) & passed and not _failed(report, second):
        return first, second
    return second, first


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}", got=error, hint="choose another --bisect-folder"
        ) from error
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
        if case.candidate == executor.name
        and not case.passed
        and (case.error is None or executor.runs_body)
    }


def _fed(runner: Runner, inputs: Arrays) -> Arrays:
    """The inputs in the types that a runner takes: wider ones where a file was widened."""
    types = {spec.name: spec.dtype for spec in runner.input_specs}
    return {
        name: value.astype("float32") if types.get(name) == "float32" else value
        for name, value in inputs.items()
    }


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


def _exact_op(
    onnx: Path,
    folder: Path,
    attributes: Mapping[str, Mapping[str, Any]],
    providers: Sequence[str],
    candidate: Executor,
) -> tuple[ExactOp | None, str]:
    """What computes a propagation: PyTorch in float64, or its body in float32 without PyTorch.

    None where it is the body that is looked into.
    """
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

    if candidate.runs_body:
        return None, ""

    def in_onnxruntime(block: Block, inputs: Arrays) -> Array:
        wide = {name: value.astype("float32") for name, value in inputs.items()}
        values = {block.name: BlockValues(wide, wide["x"])}
        target = folder / f"{_EXACT}{block.name}.onnx"
        path = write_alone(onnx, [block], values, target, dtype="float32")
        with OnnxRuntimeRunner(path, providers=providers) as runner:
            return runner.infer(alone_inputs([block], values))[alone_output(block)]

    return in_onnxruntime, "the op's body in float32, by onnxruntime"
