"""``gspn2-deploy validate``: prove that a file and its engine compute what PyTorch computes."""

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
from gspn2_deploy.errors import UsageError, ValidationFailedError


class ShareType(click.ParamType):  # type: ignore[type-arg]
    """A share of the images: ``all``, or a fraction over 0 up to 1."""

    name = "all|FRACTION"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse into a fraction."""
        try:
            share = 1.0 if str(value) == "all" else float(value)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            self.fail(f"got {value!r}, expected 'all' or a fraction such as 0.99", param, ctx)
        return share


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("onnx_file", type=_FILE)
@model_options
@click.option(
    "--engine",
    metavar="PLAN",
    type=_FILE,
    help="A TensorRT plan that was built from ONNX_FILE: run too, on this machine's GPU.",
)
@click.option("--golden", type=_FILE, help="Recorded inputs and outputs, written by export.")
@click.option(
    "--data",
    type=_FILE,
    help="Your own preprocessed inputs: an .npz with an array per input, and optionally `labels`.",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="Batch size of the random inputs, repeatable. [default: 1 and 3, or the file's; with "
    "--engine its profiles']",
)
@click.option(
    "--image-size",
    "sizes",
    type=SIZE,
    multiple=True,
    help="Image size of the random inputs, repeatable. [default: the file's, and a second; with "
    "--engine its profiles']",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Random inputs per batch and size.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Of the random inputs. Golden samples are drawn with 0.",
)
@click.option(
    "--tolerance",
    "tolerances",
    metavar="PRECISION=ATOL[:RTOL[:COSINE]]",
    multiple=True,
    help="Replace the table's tolerance of fp32, fp16, bf16 or mixed, as in fp16=2e-2.",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Derive the tolerance from how far PyTorch lies from itself in float32.",
)
@click.option(
    "--require-top1",
    type=ShareType(),
    help="Share of images with the same class: 'all' or a fraction. Of --data where given.",
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    default=("CPUExecutionProvider",),
    show_default=True,
    help="onnxruntime execution provider, repeatable in order of preference.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where PyTorch runs: cpu, cuda or cuda:N.",
)
@click.option(
    "--bisect",
    is_flag=True,
    help="Look at what goes into and comes out of every propagation, and name the first bad one. "
    "Builds two more engines with --engine.",
)
@click.option(
    "--bisect-folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the marked ONNX files and engines of --bisect here.",
)
@click.option("--report", type=_FILE, help="Write the whole result here, as JSON.")
@json_option
def command(
    onnx_file: Path,
    source: ModelSource,
    report: Path | None,
    as_json: bool,
    tolerances: tuple[str, ...],
    **options: Any,
) -> None:
    """Prove that ONNX_FILE computes what PyTorch computes.

    Runs the file in onnxruntime on the standard body of the custom op, and compares every output
    with the live PyTorch model (--model, --checkpoint), with recorded outputs (--golden), or both.
    With --engine the plan runs on the same inputs, and the report proves that every propagation
    ran in the plugin, and in which type. Where something differs the verdict names who is wrong.
    Exits with 1 when anything differs beyond the tolerance, is not finite, or was not compared.
    """
    if not source.given and options["golden"] is None:
        raise UsageError(
            "there is nothing to compare the file with",
            expected="a model (--model or --checkpoint), recorded outputs (--golden), or both",
        )
    files = [(f"--{name}", options[name]) for name in ("golden", "data", "engine")]
    inputs = [("ONNX_FILE", onnx_file), ("--checkpoint", source.checkpoint), *files]
    keep_apart([("--report", report)], inputs)
    from gspn2_deploy import progress
    from gspn2_deploy.files import write_json
    from gspn2_deploy.validate.onnx_file import Request, validate_file
    from gspn2_deploy.validate.report import render
    from gspn2_deploy.validate.tolerances import parse_override

    request = Request(
        onnx=onnx_file,
        model=source.load() if source.given else None,
        tolerances=dict(parse_override(text) for text in tolerances),
        **options,
    )
    with progress.step(f"Validating {onnx_file.name}") as step:
        result = validate_file(request, on_sample=lambda name: step.update(detail=name))
    emit(result.as_dict(), render(result), as_json=as_json)
    if report is not None:
        write_json(report, result.as_dict())
    if not result.passed:
        raise ValidationFailedError(result.verdict)
