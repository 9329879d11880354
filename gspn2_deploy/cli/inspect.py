"""``gspn2-deploy inspect``: what an ONNX file or a plan holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gspn2_deploy import progress
from gspn2_deploy.cli.common import emit, json_option
from gspn2_deploy.errors import UsageError

if TYPE_CHECKING:
    from gspn2_deploy.export.check import OnnxSummary
    from gspn2_deploy.manifest import Manifest, TensorInfo

_MIB = 1 << 20


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Show what FILE holds: an ONNX file, or a plan with its manifest.

    Both are checked first: an ONNX file by ONNX's own checker, its weights by the hashes in its
    metadata, a plan by the hashes in its manifest.
    """
    if file.is_dir():
        raise UsageError(
            f"{file} is a folder",
            expected="an ONNX file, or a plan",
            hint="gspn2-deploy verify checks a bundle; name the file for a plan in a folder",
        )
    if file.suffix == ".onnx":
        with progress.step(f"Checking {file.name}"):
            from gspn2_deploy.export.check import check_onnx

            source = check_onnx(file)
        emit(_onnx_dict(source), _onnx_text(source), as_json=as_json)
        return
    from gspn2_deploy.manifest import Manifest, manifest_path

    # Either of the two names both.
    plan = file.with_suffix("") if file.suffix == ".json" else file
    manifest = Manifest.load(manifest_path(plan))
    with progress.step(f"Checking {plan.name}"):
        manifest.verify(plan)
    emit({"plan": str(plan), **manifest.to_dict()}, _plan_text(plan, manifest), as_json=as_json)


def _onnx_dict(source: OnnxSummary) -> dict[str, Any]:
    from gspn2_deploy.build.engine import onnx_digests

    digest, external = onnx_digests(source)
    return {
        **source.to_dict(),
        "onnx_sha256": digest,
        "external_data_sha256": external,
    }


def _onnx_text(source: OnnxSummary) -> str:
    from gspn2_deploy.export.metadata import PRECISION

    size = source.path.stat().st_size + sum(source.external_data.values())
    lines = [f"ONNX file     {source.path} ({size / _MIB:.1f} MiB, opset {source.opset})"]
    lines += [f"data file     {name}" for name in source.external_data]
    lines += _tensor_lines(source.inputs, source.outputs)
    lines += _model_lines(source.metadata.get(PRECISION), source.op_counts)
    lines += _metadata_lines(source.metadata)
    return "\n".join(lines)


def _plan_text(plan: Path, manifest: Manifest) -> str:
    lines = [
        f"plan          {plan} ({manifest.plan_bytes / _MIB:.1f} MiB, hash verified)",
        f"built from    {manifest.onnx_file}",
        f"built with    {manifest.backend} {manifest.backend_version}, "
        f"gspn2-deploy {manifest.package_version}, {manifest.created}",
        f"runs on       compute capability {', '.join(manifest.compute_capabilities)}",
    ]
    lines += _tensor_lines(manifest.inputs, manifest.outputs)
    for index, profile in enumerate(manifest.profiles):
        lines += [f"profile {index}     {name}={shapes}" for name, shapes in profile.items()]
    lines += _model_lines(manifest.precision, manifest.propagations)
    counts = ", ".join(f"{count} {dtype}" for dtype, count in manifest.layer_dtypes.items())
    lines.append(f"layers        {counts}")
    if manifest.activation_bytes is not None:
        lines.append(f"GPU memory    {manifest.activation_bytes / _MIB:.1f} MiB of activations")
    lines += [f"unproven      {sentence}" for sentence in manifest.unproven]
    lines += _metadata_lines(manifest.metadata)
    return "\n".join(lines)


def _tensor_lines(inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]) -> list[str]:
    lines = [f"input         {tensor}" for tensor in inputs]
    return lines + [f"output        {tensor}" for tensor in outputs]


def _model_lines(precision: str | None, propagations: Any) -> list[str]:
    counts = ", ".join(f"{count} {op_type}" for op_type, count in propagations.items())
    return [
        f"precision     {precision or 'not stated'}",
        f"propagations  {counts or 'none'}",
    ]


def _metadata_lines(metadata: Any) -> list[str]:
    width = 100
    return [
        f"metadata      {key}: {value if len(value) <= width else value[:width] + ' …'}"
        for key, value in metadata.items()
    ]
