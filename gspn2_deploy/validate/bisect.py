"""The first propagation block that goes wrong, and whether the op or what surrounds it is to blame.

Every propagation of a file is marked: what goes into it and what comes out becomes an output. On
one sample, each block is then looked at in two ways:

- **its own chain**: what the candidate itself fed the block. The op is computed again, exactly,
  from those inputs: where the candidate's output differs, the op is wrong whatever came before;
  where it does not and the inputs are off, the layers in between are.
- **the reference's inputs**: the block alone, fed with what the reference fed it. Where it is right
  alone and wrong in its place, it is its place that hurts it: formats, strides, memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gspn2_deploy.runners.base import Array, Arrays
from gspn2_deploy.validate.blame import Blame, Suspect
from gspn2_deploy.validate.blocks import Block, BlockValues
from gspn2_deploy.validate.compare import compare_output
from gspn2_deploy.validate.tolerances import OP_TOLERANCES, Tolerance

# Computes one propagation from its inputs, to at least float32: (block, inputs) -> output.
ExactOp = Callable[[Block, Arrays], Array]
# Says why a block's op is wrong, in a clause: (block) -> text.
Explain = Callable[[Block], str]


@dataclass(frozen=True)
class Chain:
    """One run of a marked file.

    Args:
        blocks: What went into and came out of every propagation, by its name.
        outputs: The model's outputs.
    """

    blocks: Mapping[str, BlockValues]
    outputs: Arrays


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        ratio: The largest error by what is allowed: up to 1 passes; None where nothing could be
            compared.
        reasons: Why it fails; empty where it passes.
    """

    ratio: float | None
    reasons: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


_NOTHING = Check(None)  # was compared


@dataclass(frozen=True)
class BlockResult:
    """What was found of one propagation.

    Args:
        name: Its node.
        op_type: Its op.
        inputs: Its inputs in the candidate's own chain, against the reference's.
        op: Its output in the candidate, against the op computed exactly from the candidate's own
            inputs.
        output: Its output in the candidate's own chain, against the reference's.
        alone: Its output fed with the reference's inputs outside the model, against the op
            computed exactly from those, or the reference's output where nothing computes it
            exactly; None where that was not run.
    """

    name: str
    op_type: str
    inputs: Check
    op: Check
    output: Check
    alone: Check | None = None

    @property
    def passed(self) -> bool:
        """Whether the block is right."""
        checks = (self.inputs, self.op, self.output, self.alone)
        return all(check.passed for check in checks if check is not None)


@dataclass(frozen=True)
class Bisection:
    """Where a candidate leaves the reference.

    Args:
        candidate: Its name.
        reference: The reference's name.
        sample: What both ran.
        exact: What computed the op exactly; empty where nothing did.
        blocks: Every propagation, in order.
        outputs: The model's outputs.
        reproduced: Whether the candidate, with the blocks marked, is off as it was without.
            None where it was right without.
        blame: What follows; None where all is right.
    """

    candidate: str
    reference: str
    sample: str
    exact: str
    blocks: tuple[BlockResult, ...]
    outputs: Check
    reproduced: bool | None
    blame: Blame | None

    @property
    def first_bad(self) -> str | None:
        """The first block that is not right."""
        return next((block.name for block in self.blocks if not block.passed), None)

    @property
    def failures(self) -> tuple[str, ...]:
        """Blocks whose op is wrong: a failure whatever becomes of it in the outputs."""
        return tuple(
            f"{self.candidate}: {block.name}: {reason}"
            for block in self.blocks
            for check in (block.op, block.alone)
            if check is not None
            for reason in check.reasons
        )

    @property
    def summary(self) -> str:
        """One sentence."""
        if self.blame is None:
            count = len(self.blocks)
            right = "the one block is" if count == 1 else f"all {count} blocks are"
            return f"{self.candidate}: {right} right on {self.sample}"
        return f"{self.candidate}: {self.blame.because}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **{key: value for key, value in asdict(self).items() if key != "blame"},
            "first_bad": self.first_bad,
            "suspect": None if self.blame is None else self.blame.suspect.value,
            "because": None if self.blame is None else self.blame.because,
        }


def bisect(
    blocks: Sequence[Block],
    reference: Chain,
    candidate: Chain,
    tolerance: Tolerance,
    exact: ExactOp | None,
    *,
    alone: Mapping[str, Array] | None = None,
    names: tuple[str, str, str, str],
    was_right: bool,
    op_suspect: Suspect,
    layers_suspect: Suspect,
    unmarked: str,
    explain: Explain | None = None,
) -> Bisection:
    """Compare two runs of a marked file block by block.

    Args:
        blocks: The file's propagations.
        reference: What is right.
        candidate: What is held against it.
        tolerance: Of the model's precision: for what flows between the blocks.
        exact: Computes the op; None where nothing can but the candidate itself.
        alone: What the candidate's op gave for the reference's inputs, by block.
        names: The candidate's, the reference's, the sample's, and that of ``exact``.
        was_right: Whether the candidate was right on this sample without the marks.
        op_suspect: Who is to blame where the op is wrong.
        layers_suspect: Who is to blame where the layers around are.
        unmarked: What follows where it is right with the marks and was wrong without.
        explain: Says why the op is wrong in the candidate; None where nobody knows.
    """
    results = []
    for block in blocks:
        expected, found = reference.blocks[block.name], candidate.blocks[block.name]
        results.append(
            BlockResult(
                block.name,
                block.op_type,
                inputs=_compare_all(expected.inputs, found.inputs, tolerance),
                op=_NOTHING if exact is None else check_op(exact, block, found),
                output=_compare("y", expected.output, found.output, tolerance),
                alone=(
                    None
                    if alone is None
                    else check_alone(exact, block, expected, alone[block.name])
                ),
            )
        )
    outputs = _compare_all(reference.outputs, candidate.outputs, tolerance)
    name, against, sample, exact_name = names
    suspects = op_suspect, layers_suspect
    blame = _blame(results, outputs, (name, against), suspects, None if was_right else unmarked)
    if blame is not None and blame.block is not None and explain is not None:
        block = next(item for item in blocks if item.name == blame.block)
        blame = replace(blame, because=f"{blame.because}; {explain(block)}")
    return Bisection(
        candidate=name,
        reference=against,
        sample=sample,
        exact=exact_name,
        blocks=tuple(results),
        outputs=outputs,
        reproduced=None if was_right else not outputs.passed,
        blame=blame,
    )


def stopped(
    blocks: Sequence[Block],
    alone: Mapping[str, Check],
    error: str,
    *,
    names: tuple[str, str, str, str],
    op_suspect: Suspect,
    layers_suspect: Suspect,
    explain: Explain,
) -> Bisection:
    """Say who is wrong where the candidate cannot run the file.

    Args:
        blocks: The file's propagations.
        alone: How each fared outside the model, with the reference's inputs.
        error: Why the file did not run.
        names: The candidate's, the reference's, the sample's, and that of what computed the op.
        op_suspect: Who is to blame where a propagation does not run alone either.
        layers_suspect: Who is to blame where all do.
        explain: Says why an op is wrong.
    """
    name, against, sample, exact_name = names
    results = tuple(
        BlockResult(
            block.name, block.op_type, _NOTHING, _NOTHING, _NOTHING, alone=alone[block.name]
        )
        for block in blocks
    )
    bad = next((block for block in blocks if not alone[block.name].passed), None)
    if bad is None:
        because = f"every propagation runs alone, and {name} does not run the file: {error}"
        blame = Blame(layers_suspect, because)
    else:
        because = (
            f"{name} does not run the file, and {bad.name} is wrong alone on the reference's "
            f"inputs too ({alone[bad.name].reasons[0]}); {explain(bad)}"
        )
        blame = Blame(op_suspect, because, bad.name)
    outputs = Check(None, (error,))
    return Bisection(
        name, against, sample, exact_name, results, outputs, reproduced=True, blame=blame
    )


def _blame(
    results: Sequence[BlockResult],
    outputs: Check,
    names: tuple[str, str],
    suspects: tuple[Suspect, Suspect],
    unmarked: str | None,
) -> Blame | None:
    op_suspect, layers_suspect = suspects
    name, against = names
    position = next((i for i, block in enumerate(results) if not block.passed), None)
    if position is None:
        if not outputs.passed:
            return Blame(
                layers_suspect,
                f"every block is right and the outputs are not: the layers behind "
                f"{results[-1].name} are wrong in {name}",
            )
        if unmarked is not None:
            return Blame(
                layers_suspect,
                f"with the blocks' inputs and outputs marked {name} is right, without it is "
                f"not: {unmarked}",
            )
        return None
    block = results[position]
    after = f"between {results[position - 1].name} and" if position else "before"
    if not block.op.passed:
        if block.alone is not None and block.alone.passed:
            return Blame(
                op_suspect,
                f"{block.name} is wrong on the very inputs that it was fed, and right alone on "
                "the reference's: its place in the model hurts it (formats, strides or memory "
                "that it is handed)",
                block.name,
            )
        return Blame(
            op_suspect,
            f"{block.name} does not compute {block.op_type}: its output is wrong on the very "
            "inputs that it was fed" + ("" if block.alone is None else ", and alone too"),
            block.name,
        )
    if not block.inputs.passed:
        rightly = "" if block.op is _NOTHING else "computes rightly what it is fed, and "
        return Blame(
            layers_suspect,
            f"{block.name} {rightly}is fed wrong values: the layers {after} {block.name} are wrong "
            f"in {name}",
        )
    if block.alone is not None and not block.alone.passed:
        how = (
            f"gives something else than in {against}, which fed it the same"
            if block.op is _NOTHING
            else "is right in the model and wrong alone on the reference's inputs"
        )
        return Blame(op_suspect, f"{block.name} {how}", block.name)
    return Blame(
        layers_suspect,
        f"{block.name} computes rightly what it is fed and amplifies differences that are within "
        "the tolerance before it: compare with --calibrate, or keep it in fp32",
    )


def _compare_all(reference: Arrays, actual: Arrays, tolerance: Tolerance) -> Check:
    checks = {
        name: _compare(name, value, actual[name], tolerance)
        for name, value in reference.items()
        if name in actual
    }
    missing = tuple(f"{name}: missing" for name in reference if name not in actual)
    ratios = [check.ratio for check in checks.values() if check.ratio is not None]
    reasons = tuple(reason for check in checks.values() for reason in check.reasons)
    return Check(max(ratios, default=None), (*reasons, *missing))


def _compare(name: str, reference: Array, actual: Array, tolerance: Tolerance) -> Check:
    # The types may differ, as where onnxruntime runs a bfloat16 file widened.
    wide = reference.astype(np.float64), actual.astype(np.float64)
    if not wide[0].any() and not wide[1].any():
        return Check(0.0)  # a gate that is shut is no reason to fail
    result = compare_output(name, *wide, tolerance)
    ratio = result.errors.worst_ratio if result.errors else None
    return Check(ratio, tuple(f"{name}: {reason}" for reason in result.failures))


def check_op(exact: ExactOp, block: Block, values: BlockValues) -> Check:
    """Hold what a propagation gave against the op computed exactly from what it took."""
    found = values.output
    return _compare("y", exact(block, values.inputs), found, OP_TOLERANCES[found.dtype.name])


def check_alone(exact: ExactOp | None, block: Block, expected: BlockValues, found: Array) -> Check:
    """Hold what a propagation gave alone against the op, or the reference where ``exact`` is None.

    Args:
        exact: Computes the op.
        block: The propagation.
        expected: What it took and gave in the reference; it took the same alone.
        found: What it gave alone.
    """
    if exact is not None:
        return check_op(exact, block, BlockValues(expected.inputs, found))
    # The reference rounds to its own type, which may be the narrower one.
    return _compare("y", expected.output, found, OP_TOLERANCES[expected.output.dtype.name])
