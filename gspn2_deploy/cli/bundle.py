"""``gspn2-deploy bundle``: a plan with everything that it needs on another machine."""

from __future__ import annotations

from pathlib import Path

import click

from gspn2_deploy import progress
from gspn2_deploy.cli.common import emit, json_option

_FILE = click.Path(dir_okay=False, path_type=Path)
_MIB = 1 << 20


@click.command()
@click.argument("plan", type=_FILE)
@click.option(
    "--plugin",
    metavar="LIB",
    type=_FILE,
    help="libgspn2_tensorrt.so for the plan's TensorRT. Plans for TensorRT for RTX need none.",
)
@click.option(
    "--library",
    "libraries",
    metavar="LIB",
    type=_FILE,
    multiple=True,
    help="A library that the plugin needs, repeatable. libgspn2_kernels.so is found by itself.",
)
@click.option(
    "--golden",
    metavar="FILE",
    type=_FILE,
    required=True,
    help="Recorded inputs and outputs, written by export --golden.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR_OR_TAR",
    type=click.Path(path_type=Path),
    required=True,
    help="A new folder, or a file that ends in .tar.",
)
@json_option
def command(
    plan: Path,
    plugin: Path | None,
    libraries: tuple[Path, ...],
    golden: Path,
    output: Path,
    as_json: bool,
) -> None:
    """Pack PLAN with all that it needs elsewhere.

    That is its manifest, the plugin, golden samples and checksums. An application opens the bundle
    with libgspn2_runtime; `gspn2-deploy verify` proves it on the machine that is to run it.
    Written whole or not at all.
    """
    from gspn2_deploy.bundle import write_bundle

    with progress.step(f"Bundling {plan.name}"):
        bundle = write_bundle(plan, output, golden=golden, plugin=plugin, libraries=libraries)
    size = sum(entry.bytes for entry in bundle.files.values())
    lines = [f"bundle      {output} ({size / _MIB:.1f} MiB)"]
    lines += [f"file        {name} ({entry.bytes} bytes)" for name, entry in bundle.files.items()]
    lines.append(f"check it    gspn2-deploy verify {output}")
    emit({"bundle": str(output), **bundle.to_dict()}, "\n".join(lines), as_json=as_json)
