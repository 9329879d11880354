"""What a validation found: dataclasses, JSON, and a table for people."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gspn2_deploy.validate.compare import OutputComparison, as_json
from gspn2_deploy.validate.tolerances import Tolerance

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gspn2_deploy.validate.bisect import Bisection, Check
    from gspn2_deploy.validate.blame import Blame
    from gspn2_deploy.validate.engine_proof import EngineProof

SCHEMA = 1
KIND = "gspn2-deploy validation report"
_TABLE_WIDTH = 100  # columns; also what a report file is laid out for
_MOST_REASONS = 6


@dataclass(frozen=True)
class Case:
    """One runner against the reference on one sample.

    Args:
        sample: The sample's name.
        shapes: Input shapes by name.
        candidate: The runner's name.
        outputs: One comparison per output.
        error: What the runner raised instead of giving outputs.
    """

    sample: str
    shapes: Mapping[str, tuple[int, ...]]
    candidate: str
    outputs: tuple[OutputComparison, ...] = ()
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether there was something to compare and all of it holds."""
        return (
            self.error is None
            and bool(self.outputs)
            and all(output.passed for output in self.outputs)
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every reason to fail."""
        if self.error is not None:
            return (self.error,)
        return tuple(
            f"{output.name}: {reason}" for output in self.outputs for reason in output.failures
        )


@dataclass(frozen=True)
class Score:
    """Top-1 figures of one runner.

    Args:
        items: Images that were classified.
        agreeing: Of these, images where the reference gives the same class.
        correct: Of these, images with the right class; None without labels.
        labelled: Images with a label.
    """

    items: int
    agreeing: int
    correct: int | None = None
    labelled: int = 0

    @property
    def agreement(self) -> float:
        """Share of images with the reference's class, 0 to 1."""
        return self.agreeing / self.items

    @property
    def accuracy(self) -> float | None:
        """Share of labelled images with the right class, 0 to 1."""
        return None if self.correct is None else self.correct / self.labelled


@dataclass(frozen=True)
class Image:
    """One image of the user's data: its class by runner, and its label where known."""

    item: int
    classes: Mapping[str, int]
    label: int | None = None

    @property
    def agree(self) -> bool:
        """Whether every runner gives the same class."""
        return len(set(self.classes.values())) == 1


@dataclass(frozen=True)
class ValidationReport:
    """Everything a validation found.

    Args:
        reference: The name of the runner that is taken as right.
        runners: What each runner says of itself.
        tolerance: What was applied.
        cases: One per sample and candidate.
        scores: Top-1 figures by runner, where outputs are (N, classes).
        images: The user's images one by one, where there are any.
        failures: Reasons to fail besides those of the cases.
        warnings: What weakens the proof.
        blames: Whom the failures point at, the likeliest first; empty where nothing failed.
        engine: What the engine ran, where there is one.
        bisections: Where a candidate leaves the reference, where that was asked for.
        context: The file, its metadata, the machine: whatever the caller knows.
    """

    reference: str
    runners: tuple[Mapping[str, Any], ...]
    tolerance: Tolerance
    cases: tuple[Case, ...]
    scores: Mapping[str, Score] = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    blames: tuple[Blame, ...] = ()
    engine: EngineProof | None = None
    bisections: tuple[Bisection, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether something was compared and nothing speaks against it."""
        return bool(self.cases) and not self.failures and all(case.passed for case in self.cases)

    @property
    def suspects(self) -> tuple[str, ...]:
        """Who is probably wrong, the likeliest first."""
        return tuple(dict.fromkeys(item.suspect.value for item in self.blames))

    @property
    def findings(self) -> tuple[str, ...]:
        """What the failures point at, in sentences."""
        return tuple(dict.fromkeys(item.because for item in self.blames))

    @property
    def verdict(self) -> str:
        """One sentence; where something failed it names who is wrong."""
        candidates = ", ".join(dict.fromkeys(case.candidate for case in self.cases))
        failed = [case for case in self.cases if not case.passed]
        suspect = f"; suspect: {self.blames[0]}" if self.blames else ""
        if self.passed:
            return f"PASS: {candidates} equals {self.reference} in {len(self.cases)} comparisons"
        if failed:
            names = ", ".join(dict.fromkeys(case.candidate for case in failed))
            return (
                f"FAIL: {names} differs from {self.reference} in {len(failed)} of "
                f"{len(self.cases)} comparisons{suspect}"
            )
        return f"FAIL: {self.failures[0] if self.failures else 'nothing was compared'}{suspect}"

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON-ready values."""
        body: dict[str, Any] = {
            "kind": KIND,
            "schema": SCHEMA,
            "passed": self.passed,
            "verdict": self.verdict,
            "suspects": self.suspects,
            "findings": self.findings,
            "failures": self.failures,
            "warnings": self.warnings,
            **self.context,
            "reference": self.reference,
            "runners": self.runners,
            "tolerance": self.tolerance.as_dict(),
            "top1": {name: _score(score) for name, score in self.scores.items()},
            "cases": [
                {
                    "sample": case.sample,
                    "candidate": case.candidate,
                    "passed": case.passed,
                    "shapes": case.shapes,
                    "error": case.error,
                    "outputs": [_output(output) for output in case.outputs],
                }
                for case in self.cases
            ],
            "images": [{**asdict(image), "agree": image.agree} for image in self.images],
            "engine_proof": None if self.engine is None else self.engine.as_dict(),
            "bisections": [bisection.as_dict() for bisection in self.bisections],
        }
        result: dict[str, Any] = as_json(body)
        return result


def _output(output: OutputComparison) -> dict[str, Any]:
    body = asdict(output)
    del body["tolerance"]  # stands once at the top
    body["passed"] = output.passed
    if output.top1 is not None:
        body["top1"]["agreement"] = output.top1.agreement
    return body


def _score(score: Score) -> dict[str, Any]:
    return {**asdict(score), "agreement": score.agreement, "accuracy": score.accuracy}


def render(report: ValidationReport, *, limit: int = 12) -> str:
    """Lay a report out for a terminal.

    Args:
        report: What was found.
        limit: Rows of comparisons at most; the worst come first, the rest is counted.

    Returns:
        Text with ANSI colours, which ``click.echo`` takes out where nobody sees them.
    """
    from rich.console import Console
    from rich.markup import escape

    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=True, width=_TABLE_WIDTH, highlight=False)
    if report.cases:
        console.print(_comparisons(report, limit), "")
    if report.scores:
        console.print(_scores(report), "")
    if report.engine is not None:
        _print_plugins(console, report.engine)
    for bisection in report.bisections:
        console.print(_blocks(bisection), f"[dim]{escape(bisection.summary)}", "")
    tolerance = report.tolerance
    console.print(
        f"[dim]tolerance: {tolerance.atol:.3g} of the {tolerance.scale} + "
        f"{tolerance.rtol:.3g} of the element, 1 - cosine {1 - tolerance.cosine:.1e} "
        f"({escape(tolerance.source)})"
    )
    reasons = [
        f"{case.candidate}, {case.sample}: {reason}"
        for case in report.cases
        for reason in case.reasons
    ]
    for reason in (*report.failures, *reasons[:_MOST_REASONS]):
        console.print(f"[red]✗[/] {escape(reason)}")
    if len(reasons) > _MOST_REASONS:
        console.print(f"[red]✗[/] and {len(reasons) - _MOST_REASONS} more (--json shows all)")
    for finding in report.findings:
        console.print(f"[yellow]→[/] {escape(finding)}")
    for warning in report.warnings:
        console.print(f"[yellow]![/] {escape(warning)}")
    console.print(f"[bold {'green' if report.passed else 'red'}]{escape(report.verdict)}")
    return buffer.getvalue().rstrip("\n")


def _comparisons(report: ValidationReport, limit: int) -> Table:
    from rich.markup import escape

    table = _table(f"Compared with {report.reference}", "runner", "sample", "output")
    for heading in ("max abs", "mean abs", "p99 abs", "max rel", "1-cosine", " top-1", "used"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    rows = [(case, output) for case in report.cases for output in case.outputs or (None,)]
    rows.sort(key=lambda row: (row[0].passed, -_ratio(row[1])))  # what is worst comes first
    for case, output in rows[:limit]:
        colour = "green" if case.passed else "red"
        where = (escape(case.candidate), escape(case.sample), escape(output.name if output else ""))
        table.add_row(*where, *_cells(output), style=None if case.passed else colour)
    if len(rows) > limit:
        table.caption = f"and {len(rows) - limit} more (--json shows all)"
    return table


def _print_plugins(console: Console, proof: EngineProof) -> None:
    from rich.markup import escape

    table = _table("In the engine", "propagation", "op", "type")
    table.add_column("ms", justify="right")
    for plugin in proof.propagations:  # the summary counts the others: dozens
        ran = plugin.milliseconds
        table.add_row(
            escape(plugin.name),
            plugin.op_type,
            plugin.dtype or "not told",
            "did not run" if ran is None else f"{ran:.4f}",
        )
    console.print(table, f"[dim]{escape(proof.summary)}", "")


def _blocks(bisection: Bisection) -> Table:
    from rich.markup import escape

    title = (
        f"{bisection.candidate} and {bisection.reference} on {bisection.sample}: error by allowed"
    )
    table = _table(title, "propagation")
    for heading in ("inputs", "op on its inputs", "output", "op alone"):
        table.add_column(heading, justify="right")
    for block in bisection.blocks:
        checks = (block.inputs, block.op, block.output, block.alone)
        table.add_row(
            escape(block.name), *map(_share, checks), style=None if block.passed else "red"
        )
    outputs = bisection.outputs
    table.add_row("(outputs)", "", "", _share(outputs), "", style=None if outputs.passed else "red")
    return table


def _share(check: Check | None) -> str:
    if check is None or (check.ratio is None and check.passed):
        return "-"
    if check.ratio is None:
        return "wrong"
    return f"{check.ratio:.0%}" if check.ratio < 10 else f"{check.ratio:.0f}x"


def _ratio(output: OutputComparison | None) -> float:
    return output.errors.worst_ratio if output and output.errors else float("inf")


def _cells(output: OutputComparison | None) -> tuple[str, ...]:
    errors = output.errors if output else None
    if output is None or errors is None:
        return ("-",) * 7
    return (
        f"{errors.max_abs:.1e}",
        f"{errors.mean_abs:.1e}",
        f"{errors.quantiles['p99']:.1e}",
        f"{errors.max_relative:.1e}",
        "-" if errors.cosine is None else f"{max(0.0, 1 - errors.cosine):.1e}",
        "-" if output.top1 is None else f"{output.top1.agreement:.1%}",
        f"{errors.worst_ratio:.0%}" if errors.worst_ratio < 10 else f"{errors.worst_ratio:.0f}x",
    )


def _table(title: str, *headings: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.show_edge, table.padding = False, (0, 1, 0, 0)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _scores(report: ValidationReport) -> Table:
    table = _table("Top-1", "runner")
    for heading in ("images", "same class as reference", "correct", "accuracy"):
        table.add_column(heading, justify="right")
    for name, score in report.scores.items():
        labelled = score.correct is not None
        table.add_row(
            name,
            str(score.items),
            f"{score.agreeing} ({score.agreement:.2%})",
            f"{score.correct} of {score.labelled}" if labelled else "-",
            f"{score.accuracy:.2%}" if score.accuracy is not None else "-",
        )
    return table
