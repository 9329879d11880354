"""``export_onnx``: the whole way from a trained module to a proven ONNX file."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
from torch import Tensor, nn

from gspn2_deploy import progress
from gspn2_deploy.errors import ExportError
from gspn2_deploy.files import sha256_of, staged_output
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.models.wrappers import unwrap

from . import metadata as meta
from .assemble import attach_functions, clean, remove_stale_data, save
from .capture import DynamicAxes, capture, count_operators, translate
from .check import OnnxSummary, check_onnx
from .example import check_finite, dynamic_axes, make_example, run_example
from .golden import GoldenSource, record
from .precision import PrecisionPlan, prepare_model, resolve_blocks
from .verify import Verification, image_size, verify_file

# 18 is what torch's exporter writes natively and what every TensorRT since 8.6 parses; Gelu stays
# a chain of Erf, which all of them fuse. bfloat16 needs 22: the first version whose Conv has it.
OPSET = 18
OPSET_BFLOAT16 = 22
# Protobuf's limit is 2 GiB for the whole file; the graph and the functions need a little of it.
_EXTERNAL_DATA_BYTES = 2**31 - 2**27


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Args:
        image_size: (height, width) in pixels of the example; None for the model's default.
        batch: Items of the example. At least 2 is traced where the batch is dynamic.
        channels: Channels of the example image; None for the model's ``config.in_channels``, or 3.
        precision: What to bake in.
        dynamic_batch: Whether to leave axis 0 of every input free.
        dynamic_size: Whether to leave height and width of four-axis inputs free.
        example: Inputs by name, for models that take other than one image; None for a seeded
            random image (batch, channels, height, width).
        output_names: Names of the outputs; None for the model's own ``output_names``, those of a
            returned mapping, or ``output``.
        model_name: What to call the model; None for its configuration's name.
        opset: The default domain's version; None for the exporter's choice.
        golden: Where to write a golden sample file, None for none.
        golden_source: What the golden inputs are.
        seed: Of the example.
        external_data_bytes: Weights of more bytes than this go to a file of their own.
    """

    image_size: tuple[int, int] | None = None
    batch: int = 1
    channels: int | None = None
    precision: PrecisionPlan = field(default_factory=PrecisionPlan)
    dynamic_batch: bool = True
    dynamic_size: bool = False
    example: Mapping[str, Tensor] | None = None
    output_names: tuple[str, ...] | None = None
    model_name: str | None = None
    opset: int | None = None
    golden: Path | None = None
    golden_source: GoldenSource = field(default_factory=GoldenSource)
    seed: int = 0
    external_data_bytes: int = _EXTERNAL_DATA_BYTES


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Args:
        summary: What is in the file.
        sha256: Of the file.
        verification: How it compares with PyTorch.
        golden: The golden sample file, None without one.
        seconds: By phase.
    """

    summary: OnnxSummary
    sha256: str
    verification: Verification
    golden: Path | None
    seconds: Mapping[str, float]

    @property
    def model(self) -> str:
        """The model's name."""
        return self.summary.metadata[meta.MODEL]

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16``, ``bf16`` or ``mixed``."""
        return self.summary.metadata[meta.PRECISION]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model,
            "precision": self.precision,
            "onnx": str(self.summary.path),
            "sha256": self.sha256,
            **{key: value for key, value in self.summary.to_dict().items() if key != "path"},
            "verification": self.verification.to_dict(),
            "golden": str(self.golden) if self.golden else None,
            "seconds": dict(self.seconds),
        }


def export_onnx(
    model: nn.Module, output: Path, options: ExportOptions | None = None
) -> ExportReport:
    """Export a model to ONNX, check the file, and only then put it in place.

    The file holds one custom op per propagation, and with each op's type a model-local function of
    standard ops. It is compared with PyTorch in onnxruntime before it replaces what was there.

    Args:
        model: A module that propagates with ``gspn2_deploy.ops``; it is not changed. What
            ``torch.compile`` or ``DataParallel`` wrapped around it is left out.
        output: The ONNX file to write.
        options: How; None for float32 with a dynamic batch.

    Returns:
        What was written, and how it compares.

    Raises:
        ExportError: The model has no propagation, cannot be traced or translated, or the options
            do not fit it.
        ShapeError: The model refuses the image size.
        OnnxFileError: The written file failed its check; the old one is untouched.
        ValidationFailedError: The file computes something else, or the model itself returns NaN
            or Inf; the old file is untouched.
        OutputError: The output place is not writable or full.
    """
    options = options or ExportOptions()
    model = unwrap(model)
    clock = _Clock()
    with progress.step(f"Exporting {output.name}") as step:
        with ExitStack() as stack:
            # First: a place that cannot be written to shows at once, not after the tracing.
            folders = _stage(stack, output, options.golden)
            step.update(detail="preparing the model")
            prepared = prepare_model(model, options.precision)
            example = make_example(model, options)
            names = options.output_names or getattr(model, "output_names", None)
            outputs = run_example(prepared, example, names)
            check_finite(outputs, options.precision)
            clock.lap("prepare")

            free = dynamic_axes(example, options)
            graph = _graph(model, prepared, example, tuple(outputs), free, options, step, clock)

            step.update(detail="writing")
            staged = folders[output] / output.name
            save(graph, staged, options.external_data_bytes)
            clock.lap("write")
            step.update(detail="checking")
            summary = check_onnx(staged)
            _check_interface(summary, example, free)
            verification = verify_file(staged, prepared, example, outputs, summary)
            digest = sha256_of(staged)
            clock.lap("check")
            if options.golden is not None:
                step.update(detail="recording golden samples")
                samples = record(model, prepared, summary, digest, example, options.golden_source)
                samples.write(folders[options.golden] / options.golden.name)
                clock.lap("golden")
        remove_stale_data(output, summary.external_data)
    return ExportReport(
        summary=dataclasses.replace(summary, path=output),
        sha256=digest,
        verification=verification,
        golden=options.golden,
        seconds=clock.laps,
    )


def _graph(
    model: nn.Module,
    prepared: nn.Module,
    example: Mapping[str, Tensor],
    output_names: tuple[str, ...],
    dynamic: DynamicAxes,
    options: ExportOptions,
    step: progress.Step,
    clock: _Clock,
) -> ir.Model:
    """Trace and translate the prepared model, and attach the bodies and the metadata.

    Raises:
        ExportError: The model has no propagation, or cannot be traced or translated.
    """
    step.update(detail="tracing")
    program = capture(prepared, example, dynamic)
    counts = count_operators(program)
    if not counts:
        raise ExportError(
            "the model has no propagation",
            got=f"{type(model).__name__} without gspn2::prop2d or gspn2::line_scan",
            expected="a module that calls gspn2_deploy.ops.prop2d or line_scan",
            hint="export other models with torch.onnx.export itself",
        )
    clock.lap("trace")

    step.update(detail="translating")
    opset = options.opset or _opset(options.precision)
    graph = translate(
        program,
        dynamic=dynamic,
        input_names=list(example),
        output_names=output_names,
        opset=opset,
    )
    clean(graph)
    attach_functions(graph, opset)
    graph.metadata_props.update(_metadata(model, example, counts, dynamic, options))
    clock.lap("translate")
    return graph


def _stage(stack: ExitStack, output: Path, golden: Path | None) -> dict[Path, Path]:
    """Open staging folders, one where both files share a folder; return them by target."""
    if golden is None or golden.parent == output.parent:
        targets = [output] if golden is None else [golden, output]
        return dict.fromkeys(targets, stack.enter_context(staged_output(*targets)))
    return {path: stack.enter_context(staged_output(path)) for path in (output, golden)}


class _Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.laps[phase] = now - self._since
        self._since = now


def _opset(plan: PrecisionPlan) -> int:
    return OPSET_BFLOAT16 if plan.base == "bf16" else OPSET


def _metadata(
    model: nn.Module,
    example: Mapping[str, Tensor],
    counts: Mapping[str, int],
    dynamic: DynamicAxes,
    options: ExportOptions,
) -> dict[str, str]:
    plan = options.precision
    found = meta.describe_model(model, options.model_name)
    found |= {
        meta.PRECISION: plan.label,
        meta.BASE_PRECISION: plan.base,
        meta.KEEP_FP32: json.dumps(resolve_blocks(model, plan.keep_fp32)),
        meta.IO_DTYPE: plan.io_dtype,
        meta.DYNAMIC_AXES: json.dumps(dynamic),
        meta.OP_COUNTS: json.dumps(counts),
    }
    size = image_size(example)
    if size is not None:
        found[meta.INPUT_SIZE] = json.dumps(size)
    return found


def _check_interface(
    summary: OnnxSummary, example: Mapping[str, Tensor], dynamic: DynamicAxes
) -> None:
    """Names, types and free axes must be those that were asked for."""
    expected = tuple(
        TensorInfo(
            name,
            str(value.dtype).removeprefix("torch."),
            tuple(dynamic[name].get(axis, extent) for axis, extent in enumerate(value.shape)),
        )
        for name, value in example.items()
    )
    if summary.inputs != expected:
        raise ExportError(
            "the exported file's inputs are not those that were asked for",
            got="; ".join(str(item) for item in summary.inputs),
            expected="; ".join(str(item) for item in expected),
            hint="the model fixes an axis: export without it being dynamic",
        )
