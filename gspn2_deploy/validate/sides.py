"""PyTorch, live or recorded: what an exported file is held against."""

from __future__ import annotations

from dataclasses import dataclass

from gspn2_deploy.errors import GoldenFileError
from gspn2_deploy.export import metadata as keys
from gspn2_deploy.golden import GoldenSamples
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.base import Arrays, Runner
from gspn2_deploy.runners.golden_runner import GoldenRunner, Recording
from gspn2_deploy.validate.request import OnnxFacts, Request


@dataclass(frozen=True)
class Side:
    """PyTorch as the file computes, and in float32 throughout.

    Args:
        reduced: In the file's precision.
        full: In float32.
        recorded: The inputs of recordings.
    """

    reduced: Runner
    full: Runner
    recorded: tuple[Arrays, ...] = ()


def live_side(request: Request, facts: OnnxFacts) -> Side | None:
    """The live model; None where there is none."""
    if request.model is None:
        return None
    from gspn2_deploy.export.precision import plan_from_metadata, prepare_model
    from gspn2_deploy.runners.torch_runner import TorchRunner

    summary = facts.summary
    outputs = [tensor.name for tensor in summary.outputs]
    exact = tuple(
        TensorInfo(item.name, "float32", item.shape) if _reduced(item.dtype) else item
        for item in summary.inputs
    )
    prepared = prepare_model(request.model, plan_from_metadata(summary.metadata))
    return Side(
        TorchRunner(prepared, summary.inputs, outputs, device=request.device),
        TorchRunner(
            request.model, exact, outputs, device=request.device, name="pytorch in float32"
        ),
    )


def golden_side(request: Request, facts: OnnxFacts) -> Side | None:
    """The recordings; None where there are none.

    Raises:
        GoldenFileError: They were not recorded for this file.
    """
    if request.golden is None:
        return None
    golden = GoldenSamples.load(request.golden)
    metadata = facts.summary.metadata
    for what, got, expected in (
        ("weights or configuration", golden.source_sha256, metadata[keys.SOURCE_SHA256]),
        ("precision", golden.precision, metadata[keys.PRECISION]),
    ):
        if got != expected:
            raise GoldenFileError(
                f"{request.golden} was not recorded for {request.onnx.name}: another {what}",
                got=got,
                expected=expected,
                hint="use the golden file of the same export, or export again with --golden",
            )
    source = str(request.golden)
    return Side(
        GoldenRunner([Recording(s.inputs, s.outputs) for s in golden.samples], source=source),
        GoldenRunner(
            [Recording(s.inputs, s.reference) for s in golden.samples],
            source=source,
            name="golden in float32",
        ),
        tuple(sample.inputs for sample in golden.samples),
    )


def source_mismatches(request: Request, facts: OnnxFacts) -> tuple[str, ...]:
    """Why the live model cannot be the one that the file was exported from."""
    if request.model is None:
        return ()
    metadata = facts.summary.metadata
    config = keys.config_json(getattr(request.model, "config", None))
    found = keys.source_sha256(request.model, config)
    expected = metadata[keys.SOURCE_SHA256]
    if found == expected:
        return ()
    what = "its configuration differs" if config != metadata.get(keys.CONFIG) else "other weights"
    return (
        f"the PyTorch model is not the one that {request.onnx.name} was exported from: {what} "
        f"(SHA-256 {found[:12]}, the file says {expected[:12]}); give the same --model and "
        "--checkpoint as to export: without a checkpoint the weights are drawn anew each time",
    )


def _reduced(dtype: str) -> bool:
    return dtype in ("float16", "bfloat16")
