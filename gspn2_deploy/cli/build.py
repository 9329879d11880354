"""``gspn2-deploy build``: an engine from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gspn2_deploy.build.backend import BACKEND_NAMES
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
    help="The shapes that a dynamic input may take, repeatable, several inputs separated by "
    "commas: images=1x3x224x224:8x3x224x224:64x3x224x224. Default: batches 1:8:64.",
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
@json_option
def command(
    onnx_file: Path,
    backend: str,
    compute_capabilities: tuple[str, ...],
    profiles: tuple[str, ...],
    output: Path | None,
    workspace: int | None,
    as_json: bool,
) -> None:
    """Build an engine from ONNX_FILE.

    TensorRT for RTX needs no GPU: it compiles for named architectures. Writes the plan and a
    manifest that says what it was built from and for, both or neither.
    """
    from gspn2_deploy.build import build_engine, parse_profile

    result = build_engine(
        onnx_file,
        output,
        backend=backend,
        compute_capabilities=compute_capabilities,
        profiles=[parse_profile(text) for text in profiles],
        workspace_mib=workspace,
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
        f"runs on     compute capability {', '.join(manifest.compute_capabilities)}",
    ]
    for profile in manifest.profiles:
        lines += [f"profile     {name}={shapes}" for name, shapes in profile.items()]
    if manifest.activation_bytes is not None:
        lines.append(
            f"GPU memory  {manifest.activation_bytes / _MIB:.1f} MiB of activations at most"
        )
    lines += [f"unproven    {sentence}" for sentence in manifest.unproven]
    return "\n".join(lines)
