"""``gspn2-deploy build``: an engine from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gspn2_deploy.build.backend import BACKEND_NAMES
from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.cli.build_options import library_options
from gspn2_deploy.cli.common import emit, json_option

if TYPE_CHECKING:
    from gspn2_deploy.build import BuildResult

_MIB = 1 << 20


@click.command()
@click.argument("onnx_file", type=click.Path(path_type=Path))
@click.option(
    "--backend",
    type=click.Choice(BACKEND_NAMES),
    default=BACKEND_NAMES[0],
    show_default=True,
    help="The engine library.",
)
@click.option(
    "--compute-capability",
    "compute_capabilities",
    metavar="X.Y",
    multiple=True,
    help="A GPU architecture to build for, repeatable: 7.5, 8.0, 8.6, 8.9, 12.0 or 12.1. "
    "One plan serves all. Default: 8.0 and everything newer.",
)
@click.option(
    "--profile",
    "profiles",
    metavar="NAME=MIN:OPT:MAX",
    multiple=True,
    help="The shapes that a dynamic input may take, several inputs separated by commas: "
    "images=1x3x224x224:8x3x224x224:64x3x224x224. Repeatable: the engine is tuned for each, and "
    "the first that covers a call is used. Default: batches 1:8:64.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The plan; its manifest is written beside it as FILE.json. Default: the ONNX file's "
    "name with .plan.",
)
@click.option(
    "--workspace",
    metavar="MIB",
    type=click.IntRange(min=1),
    help="The most scratch memory that a layer may use. Default: the engine library's.",
)
@library_options
@json_option
def command(
    onnx_file: Path,
    backend: str,
    compute_capabilities: tuple[str, ...],
    profiles: tuple[str, ...],
    output: Path | None,
    workspace: int | None,
    options: BuildOptions,
    as_json: bool,
) -> None:
    """Build an engine from ONNX_FILE.

    TensorRT for RTX needs no GPU: it compiles for named architectures. TensorRT builds on the GPU
    that is to run the plan, with every propagation as a layer of the GSPN-2 plugin. Writes the plan
    and a manifest that says what it was built from and for, both or neither. An option that the
    engine library does not have is an error.
    """
    from gspn2_deploy.build import build_engine, parse_profile

    result = build_engine(
        onnx_file,
        output,
        backend=backend,
        compute_capabilities=compute_capabilities,
        profiles=[parse_profile(text) for text in profiles],
        workspace_mib=workspace,
        options=options,
    )
    emit(_as_dict(result), _as_text(result), as_json=as_json)


def _as_dict(result: BuildResult) -> dict[str, Any]:
    return {
        "plan": str(result.plan_path),
        "manifest": str(result.manifest_path),
        **result.manifest.to_dict(),
    }


def _as_text(result: BuildResult) -> str:
    manifest = result.manifest
    lines = [
        f"plan        {result.plan_path} ({manifest.plan_bytes / _MIB:.1f} MiB)",
        f"manifest    {result.manifest_path}",
        f"built with  {manifest.backend} {manifest.backend_version} in "
        f"{manifest.build_seconds:.1f} s",
        f"runs on     compute capability {', '.join(manifest.compute_capabilities)}"
        + (f" ({manifest.gpu})" if manifest.gpu else ""),
    ]
    if manifest.engine_dtypes:
        counts = ", ".join(f"{count} {dtype}" for dtype, count in manifest.engine_dtypes.items())
        lines.append(f"layers      {counts}")
    if manifest.timing_cache is not None:
        lines.append(f"times       kept in {manifest.timing_cache}")
    for profile in manifest.profiles:
        lines += [f"profile     {name}={shapes}" for name, shapes in profile.items()]
    if manifest.activation_bytes is not None:
        lines.append(
            f"GPU memory  {manifest.activation_bytes / _MIB:.1f} MiB of activations at most"
        )
    lines += [f"unproven    {sentence}" for sentence in manifest.unproven]
    return "\n".join(lines)
