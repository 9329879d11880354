"""``gspn2-deploy export``: from a PyTorch model to a checked ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gspn2_deploy.cli.common import (
    SIZE,
    ModelSource,
    emit,
    json_option,
    keep_apart,
    model_options,
)

if TYPE_CHECKING:
    from gspn2_deploy.export import ExportReport

_FILE = click.Path(dir_okay=False, path_type=Path)
_MIB = 1 << 20


@click.command()
@model_options
@click.option(
    "-o",
    "--output",
    type=_FILE,
    required=True,
    help="The ONNX file to write. Replaced only by one that passed its checks.",
)
@click.option(
    "--image-size", type=SIZE, help="Image size of the example. [default: the model's own]"
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Items per batch, where the batch is not dynamic.",
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    help="Channels of the example image. [default: the model's config.in_channels, or 3]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="What the file computes in. Propagations keep their state in fp32 in each.",
)
@click.option(
    "--keep-fp32",
    metavar="NAME",
    multiple=True,
    help="Keep a block in fp32, by module name or glob, repeatable: --keep-fp32 'stages.3.*'.",
)
@click.option(
    "--io-dtype",
    type=click.Choice(["fp32", "precision"]),
    default="fp32",
    show_default=True,
    help="Inputs and outputs in fp32, or in what --precision says.",
)
@click.option(
    "--dynamic-batch/--no-dynamic-batch",
    default=True,
    show_default=True,
    help="Leave the batch free.",
)
@click.option(
    "--dynamic-size/--no-dynamic-size",
    default=False,
    show_default=True,
    help="Leave the image's height and width free.",
)
@click.option("--golden", type=_FILE, help="Record inputs and PyTorch's outputs here (.npz).")
@click.option(
    "--golden-samples",
    type=click.IntRange(min=1),
    help="How many random inputs are recorded. [default: 4]",
)
@click.option(
    "--golden-inputs",
    type=_FILE,
    help="Record the outputs for your own inputs instead: an .npz with an array per input, or "
    "one .npy; items along axis 0, preprocessed.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the example and of the random golden inputs.",
)
@json_option
def command(
    source: ModelSource,
    output: Path,
    image_size: tuple[int, int] | None,
    batch: int,
    channels: int | None,
    precision: str,
    keep_fp32: tuple[str, ...],
    io_dtype: str,
    dynamic_batch: bool,
    dynamic_size: bool,
    golden: Path | None,
    golden_samples: int | None,
    golden_inputs: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Write an ONNX file with one custom op per propagation.

    Each op brings a body of standard ops, so that the file runs in plain onnxruntime. Before it is
    put in place the file is checked and, where onnxruntime is installed, run and compared with
    PyTorch.
    """
    recorded = {"--golden-inputs": golden_inputs, "--golden-samples": golden_samples}
    given = [option for option, value in recorded.items() if value is not None]
    if given and golden is None:
        raise click.UsageError(f"{given[0]} needs --golden, the file to write.")
    if len(given) > 1:
        raise click.UsageError("--golden-samples counts random inputs: not with --golden-inputs.")
    keep_apart(
        (("--output", output), ("--golden", golden)),
        (("--checkpoint", source.checkpoint), ("--golden-inputs", golden_inputs)),
    )
    model = source.load()
    from gspn2_deploy.export import ExportOptions, GoldenSource, PrecisionPlan, export_onnx

    plan = PrecisionPlan(precision, keep_fp32, io_dtype)
    options = ExportOptions(
        image_size=image_size,
        batch=batch,
        channels=channels,
        precision=plan,
        dynamic_batch=dynamic_batch,
        dynamic_size=dynamic_size,
        golden=golden,
        golden_source=GoldenSource(golden_samples or GoldenSource.count, seed, golden_inputs),
        seed=seed,
    )
    report = export_onnx(model, output, options)
    emit(report.to_dict(), _text(report), as_json=as_json)


def _text(report: ExportReport) -> str:
    summary, checked = report.summary, report.verification
    ops = ", ".join(f"{count} {name}" for name, count in summary.op_counts.items())
    size = summary.path.stat().st_size + sum(summary.external_data.values())
    lines = [
        f"Wrote {summary.path} ({size / _MIB:.1f} MiB)",
        *(f"  weights   {name}, beside it" for name in summary.external_data),
        f"  model     {report.model}, {report.precision}, opset {summary.opset}, {ops}",
        *(f"  input     {tensor}" for tensor in summary.inputs),
        *(f"  output    {tensor}" for tensor in summary.outputs),
        "  checked   structure, types and shapes",
    ]
    if checked.skipped:
        lines.append(f"  not run   {checked.skipped}")
    else:
        lines.append(
            f"  compared  with PyTorch in onnxruntime: largest error {checked.max_abs:.1e}, "
            f"{checked.worst_ratio:.1%} of what is allowed"
        )
    if report.golden is not None:
        lines.append(f"  golden    {report.golden}")
    return "\n".join(lines)
