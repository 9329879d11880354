"""``gspn2-deploy bench``: how long the model takes in each executor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gspn2_deploy.cli.common import (
    SIZE,
    ModelSource,
    emit,
    json_option,
    keep_apart,
    model_options,
)
from gspn2_deploy.errors import PlatformError

_FILE = click.Path(dir_okay=False, path_type=Path)
_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


@click.command()
@click.argument("onnx_file", type=_FILE, required=False)
@model_options
@click.option(
    "--engine",
    "engines",
    metavar="PLAN",
    type=_FILE,
    multiple=True,
    help="A TensorRT plan, repeatable. Its manifest says what it takes: no ONNX file is needed.",
)
@click.option(
    "--compile",
    "compile_modes",
    type=click.Choice(_MODES),
    multiple=True,
    help="Run PyTorch through torch.compile too, in this mode, repeatable.",
)
@click.option("--eager/--no-eager", default=True, help="Run PyTorch as it is. [default: yes]")
@click.option(
    "--onnxruntime/--no-onnxruntime",
    default=None,
    help="Run ONNX_FILE in onnxruntime. [default: where it has the device's provider]",
)
@click.option(
    "--graph/--no-graph",
    default=True,
    help="Run engines as replayed CUDA graphs too. [default: yes]",
)
@click.option(
    "--device",
    help="Where PyTorch and onnxruntime run: cpu, cuda or cuda:N. [default: cuda with --engine, "
    "cpu elsewhere]",
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    help="onnxruntime execution provider, repeatable. [default: that of --device]",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="Batch size, repeatable. [default: 1, or the file's]",
)
@click.option(
    "--image-size",
    "sizes",
    type=SIZE,
    multiple=True,
    help="Image size, repeatable. [default: the file's]",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Runs of each, at least.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="How long each runs, at least.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Runs of each that are not counted.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of PyTorch and onnxruntime on the CPU; 0 for their own default.",
)
@click.option(
    "--tf32",
    is_flag=True,
    help="Let PyTorch round float32 products to TF32 on a GPU, as build --tf32 lets an engine.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the inputs."
)
@click.option(
    "--layers",
    is_flag=True,
    help="Profile engines layer by layer: what takes the time, and the propagation's share.",
)
@click.option(
    "--add",
    "earlier",
    metavar="FILE",
    type=_FILE,
    multiple=True,
    help="Put the rows of an earlier --report in front, repeatable: from another process or "
    "Python, on the same device.",
)
@click.option(
    "--allow-different-devices",
    is_flag=True,
    help="Let rows of several devices stand in one table. They are still not compared.",
)
@click.option("--report", type=_FILE, help="Write the whole result here, as JSON.")
@json_option
def command(
    onnx_file: Path | None,
    source: ModelSource,
    report: Path | None,
    as_json: bool,
    iterations: int,
    seconds: float,
    warmup: int,
    **options: Any,
) -> None:
    """Measure latency and throughput, side by side.

    PyTorch (--model, --checkpoint), onnxruntime on ONNX_FILE and TensorRT engines (--engine) get
    the same inputs, one after the other. Latency goes from host memory to host memory; on a GPU the
    copies and the model are reported apart. Times of different devices are not compared.
    """
    engines = [("--engine", path) for path in options["engines"]]
    keep_apart(
        [("--report", report)],  # it may well be that of --add, which is read before
        [("ONNX_FILE", onnx_file), ("--checkpoint", source.checkpoint), *engines],
    )
    from gspn2_deploy import progress
    from gspn2_deploy.bench.report import render
    from gspn2_deploy.bench.run import BenchRequest, run_benchmark
    from gspn2_deploy.bench.timing import Effort
    from gspn2_deploy.files import write_json

    request = BenchRequest(
        onnx=onnx_file,
        model=source.load() if source.given else None,
        effort=Effort(warmup, iterations, seconds),
        **options,
    )
    with progress.step("Measuring") as step:
        result = run_benchmark(request, on_step=lambda name: step.update(detail=name))
    emit(result.as_dict(), render(result), as_json=as_json)
    if report is not None:
        write_json(report, result.as_dict())
    if failed := result.failed:
        names = ", ".join(dict.fromkeys(row.subject for row in failed))
        raise PlatformError(f"no figures for {names}", got=failed[0].error)
