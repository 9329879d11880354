"""What a benchmark found: rows, JSON, a table for people, and what may be compared with what."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gspn2_deploy.bench.layers import LayerReport
from gspn2_deploy.bench.machine import GPU, Device
from gspn2_deploy.bench.memory import Memory
from gspn2_deploy.bench.timing import Effort, Measured, Summary
from gspn2_deploy.errors import InputError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

KIND = "gspn2-deploy benchmark"
SCHEMA = 1
_TABLE_WIDTH = 120  # columns
_MOST_LAYERS = 15
_TIMES, _PHASES = ("median", "p90", "p99", "min"), ("compute", "copies")
_MIB = 1 << 20

Shapes = Mapping[str, tuple[int, ...]]


class BenchmarkFileError(InputError):
    """A file is missing, or not the report of a benchmark that this version reads."""


@dataclass(frozen=True)
class Row:
    """One executor on one set of inputs.

    Args:
        subject: The executor.
        device: What it ran on.
        model: The model's name and precision, as the ONNX file or the plan says.
        items: The batch: what a run is multiplied by to count images.
        shapes: Input shapes by name.
        measured: The times; None where it failed.
        prepare_seconds: How long it took to get ready for these shapes: compilation, capture.
        memory: Its peak, where that is known.
        agrees: Whether it gives what the first subject gives, within the tolerance of the
            precision; None for the first itself.
        state: Clocks, temperature and power of the GPU before and after.
        description: How it ran.
        error: Why it failed.
        earlier: The file that the row was read from; None where it was measured now.
    """

    subject: str
    device: Device
    model: str
    items: int
    shapes: Shapes
    measured: Measured | None
    prepare_seconds: float | None = None
    memory: Memory | None = None
    agrees: bool | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    earlier: str | None = None

    @property
    def items_per_second(self) -> float | None:
        """Images per second, back to back."""
        return self.measured.runs_per_second * self.items if self.measured else None

    @property
    def steady(self) -> bool:
        """Whether its runs are alike."""
        return self.measured is None or self.measured.total.steady

    def as_dict(self) -> dict[str, Any]:
        """For JSON; times in milliseconds."""
        measured = self.measured
        return {
            "subject": self.subject,
            "device": self.device.as_dict(),
            "model": self.model,
            "items": self.items,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "error": self.error,
            "latency_ms": _summary(measured.total if measured else None),
            "copy_in_ms": _summary(measured.copy_in if measured else None),
            "compute_ms": _summary(measured.compute if measured else None),
            "copy_out_ms": _summary(measured.copy_out if measured else None),
            "runs_per_second": measured.runs_per_second if measured else None,
            "items_per_second": self.items_per_second,
            "steady": self.steady,
            "prepare_seconds": self.prepare_seconds,
            "memory": None if self.memory is None else asdict(self.memory),
            "agrees_with_first": self.agrees,
            "state": dict(self.state),
            "description": dict(self.description),
            "earlier": self.earlier,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], earlier: str) -> Row:
        """Rebuild a row of an earlier benchmark."""
        total = _summary_of(values["latency_ms"])
        measured = None
        if total is not None:
            measured = Measured(
                total,
                _summary_of(values["copy_in_ms"]),
                _summary_of(values["compute_ms"]),
                _summary_of(values["copy_out_ms"]),
                float(values["runs_per_second"]),
            )
        memory = values["memory"]
        return cls(
            subject=values["subject"],
            device=Device.from_dict(values["device"]),
            model=values["model"],
            items=int(values["items"]),
            shapes={name: tuple(shape) for name, shape in values["shapes"].items()},
            measured=measured,
            prepare_seconds=values["prepare_seconds"],
            memory=None if memory is None else Memory(**memory),
            agrees=values["agrees_with_first"],
            state=values["state"],
            description=values["description"],
            error=values["error"],
            earlier=values["earlier"] or earlier,
        )


@dataclass(frozen=True)
class LayerTable:
    """An engine's layers on one set of inputs."""

    subject: str
    shapes: Shapes
    report: LayerReport


@dataclass(frozen=True)
class BenchReport:
    """Everything that a benchmark found.

    Args:
        rows: In the order in which they were asked for; earlier ones first.
        effort: How much was run.
        machine: The software, the load, the time.
        layers: Where they were asked for.
        warnings: What weakens the figures.
        of_file: What was said of the ONNX file before anything ran. The table does not repeat it.
    """

    rows: tuple[Row, ...]
    effort: Effort
    machine: Mapping[str, Any]
    layers: tuple[LayerTable, ...] = ()
    warnings: tuple[str, ...] = ()
    of_file: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows without figures."""
        return tuple(row for row in self.rows if row.error is not None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "machine": dict(self.machine),
            "effort": asdict(self.effort),
            "warnings": [*self.of_file, *self.warnings],
            "rows": [row.as_dict() for row in self.rows],
            "layers": [
                {
                    "subject": table.subject,
                    "shapes": {name: list(shape) for name, shape in table.shapes.items()},
                    **table.report.as_dict(),
                }
                for table in self.layers
            ],
        }


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read the rows of an earlier benchmark.

    Raises:
        BenchmarkFileError: The file is missing, damaged, or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkFileError(
            f"{path} cannot be read", got=error, expected="what bench --report wrote"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise BenchmarkFileError(f"{path} is not the report of a benchmark", expected=KIND)
    if content.get("schema") != SCHEMA:
        raise BenchmarkFileError(
            f"{path} has an unknown schema", got=content.get("schema"), expected=SCHEMA
        )
    try:
        return tuple(Row.from_dict(item, str(path)) for item in content["rows"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BenchmarkFileError(
            f"{path} is damaged", got=f"{type(error).__name__}: {error}"
        ) from error


def check_comparable(rows: Sequence[Row], *, allow_different_devices: bool) -> tuple[str, ...]:
    """Refuse to put side by side what cannot be compared.

    Args:
        rows: All rows.
        allow_different_devices: Whether rows of several devices may stand in one table.

    Returns:
        Warnings.

    Raises:
        UsageError: The rows are of several devices, and that was not asked for; or of several
            models.
    """
    models = dict.fromkeys(row.model for row in rows)
    if len(models) > 1:
        raise UsageError(
            "the rows are of several models or precisions, which are not compared",
            got="; ".join(models),
            expected="files and plans of one export",
        )
    devices: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        names = devices.setdefault(row.device.identity, [])
        if row.subject not in names:
            names.append(row.subject)
    if len(devices) < 2:
        return ()
    listed = [f"{_device_of(rows, key)}: {', '.join(names)}" for key, names in devices.items()]
    if not allow_different_devices:
        raise UsageError(
            "the rows are of several devices, whose times are not compared",
            got="\n".join(listed),
            expected="one device",
            hint="choose one with --device, leave executors out (--no-eager, --no-onnxruntime), "
            "or add --allow-different-devices: then no ratios are given between them",
        )
    return (f"rows of several devices are not compared with each other: {'; '.join(listed)}",)


def _device_of(rows: Sequence[Row], identity: tuple[Any, ...]) -> Device:
    return next(row.device for row in rows if row.device.identity == identity)


def ratio(row: Row, rows: Sequence[Row]) -> float | None:
    """How many times as fast a row is as the first one on its device with its shapes.

    By what the model takes on the device where that is measured, by the latency elsewhere.
    """
    first = next(
        (
            other
            for other in rows
            if other.shapes == row.shapes
            and other.device.identity == row.device.identity
            and other.measured is not None
        ),
        None,
    )
    if first is None or first is row or row.measured is None or first.measured is None:
        return None
    mine, theirs = row.measured, first.measured
    if mine.compute is not None and theirs.compute is not None:
        return theirs.compute.median / mine.compute.median
    return theirs.total.median / mine.total.median


def render(report: BenchReport) -> str:
    """Lay a report out for a terminal.

    Returns:
        Text with ANSI colours, which ``click.echo`` takes out where nobody sees them.
    """
    from rich.console import Console
    from rich.markup import escape

    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=True, width=_TABLE_WIDTH, highlight=False)
    for device in dict.fromkeys(str(row.device) for row in report.rows):
        console.print(f"[bold]{escape(device)}")
    versions = ("gspn2_deploy", "python", "torch", "onnxruntime", "tensorrt")
    software = report.machine.get("software", {})
    listed = [f"{name} {software[name]}" for name in versions if software.get(name)]
    model = report.rows[0].model if report.rows else ""
    console.print(f"[dim]{escape(model)}; {escape(', '.join(listed))}", "")
    console.print(_table(report), "")
    for table in report.layers:
        console.print(_layer_table(table), f"[dim]{escape(table.report.bound)}", "")
    console.print(
        "[dim]latency: host memory to host memory. compute: the model on the device, the copies "
        "apart. images/s: back to back, without copies."
    )
    for row in report.failed:
        console.print(f"[red]✗[/] {escape(row.subject)}: {escape(str(row.error))}")
    for warning in report.warnings:
        console.print(f"[yellow]![/] {escape(warning)}")
    return buffer.getvalue().rstrip("\n")


def _table(report: BenchReport) -> Table:
    from rich.markup import escape

    table = _empty("Milliseconds", "executor", "input")
    several = len({row.device.identity for row in report.rows}) > 1
    if several:
        table.add_column("device", no_wrap=True)
    phased = any(row.measured and row.measured.compute for row in report.rows)
    headings = [*_TIMES, *(_PHASES if phased else ()), "images/s", "MiB", "faster"]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        cells = [escape(row.subject), _sizes(row.shapes)]
        cells += ["GPU" if row.device.kind == GPU else "CPU"] if several else []
        colour = "red" if row.error else "yellow" if not row.steady or row.agrees is False else None
        figures = _figures(row, report.rows)
        shown = [figures.get(heading, "") for heading in headings]
        table.add_row(*cells, *shown, style=colour)
    return table


def _figures(row: Row, rows: Sequence[Row]) -> dict[str, str]:
    """The cells of a row by their column's heading."""
    measured = row.measured
    if measured is None:
        return {_TIMES[0]: "failed"}
    total = measured.total
    copies = [part.median for part in (measured.copy_in, measured.copy_out) if part is not None]
    times = ratio(row, rows)
    return {
        **dict(zip(_TIMES, map(_ms, (total.median, total.p90, total.p99, total.min)), strict=True)),
        "compute": _ms(measured.compute.median) if measured.compute else "-",
        "copies": _ms(sum(copies)) if copies else "-",
        "images/s": f"{row.items_per_second:.1f}",
        "MiB": "-" if row.memory is None else f"{row.memory.bytes / _MIB:.0f}",
        "faster": "" if times is None else f"{times:.2f}x",
    }


def _layer_table(item: LayerTable) -> Table:
    from rich.markup import escape

    report = item.report
    title = f"{item.subject} on {_sizes(item.shapes)}: {report.milliseconds:.3f} ms in all layers"
    table = _empty(title, "layer", "group", "type")
    for heading in ("ms", "share", "of copy"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.columns[0].overflow, table.columns[0].max_width = "ellipsis", 48
    for layer in report.layers[:_MOST_LAYERS]:
        table.add_row(
            escape(layer.name),
            layer.group,
            layer.dtype or "",
            f"{layer.milliseconds:.4f}",
            f"{layer.share:.1%}",
            "" if layer.of_copy is None else f"{layer.of_copy:.0%}",
        )
    rest = report.layers[_MOST_LAYERS:]
    if rest:
        time = sum(layer.milliseconds for layer in rest)
        share = sum(layer.share for layer in rest)
        table.add_row(f"and {len(rest)} more", "", "", f"{time:.4f}", f"{share:.1%}", "")
    table.add_section()
    for group, milliseconds in report.groups.items():
        share = milliseconds / report.milliseconds if report.milliseconds else 0.0
        table.add_row("", group, "", f"{milliseconds:.4f}", f"{share:.1%}", "")
    return table


def _empty(title: str, *headings: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.show_edge, table.padding = False, (0, 1, 0, 0)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _sizes(shapes: Shapes) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes.values())


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _summary(summary: Summary | None) -> dict[str, Any] | None:
    return None if summary is None else asdict(summary)


def _summary_of(values: Mapping[str, Any] | None) -> Summary | None:
    return None if values is None else Summary(**values)
