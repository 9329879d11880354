"""``gspn2-deploy verify``: prove a bundle on the machine that is to run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gspn2_deploy import progress
from gspn2_deploy.cli.common import emit, json_option
from gspn2_deploy.errors import PlatformError, ValidationFailedError

if TYPE_CHECKING:
    from gspn2_deploy.verify import Verification


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--run/--no-run",
    default=True,
    help="Without running, only the files are checked: no GPU and no TensorRT is needed.",
)
@json_option
def command(bundle: Path, run: bool, as_json: bool) -> None:
    """Prove BUNDLE, a folder or .tar that `gspn2-deploy bundle` wrote.

    Checks every file's checksum, the plan against its manifest, the plan's versions and GPU against
    this machine, and runs the golden samples through the engine. Running loads code of the bundle:
    the plan and the plugin. Exits with 1 when the bundle is wrong, with 2 when it cannot be read as
    one, and with 3 when this machine is another than the bundle's, or cannot prove all of it.
    """
    from gspn2_deploy.bundle import opened_bundle
    from gspn2_deploy.verify import Status, verify_bundle

    with progress.step(f"Verifying {bundle.name}"), opened_bundle(bundle) as folder:
        result = verify_bundle(folder, run=run)
    emit({"bundle": str(bundle), **result.as_dict()}, _as_text(bundle, result), as_json=as_json)
    if failed := result.having(Status.FAILED):
        raise ValidationFailedError(
            f"{bundle} is not sound: {', '.join(step.name for step in failed)}"
        )
    if short := result.having(Status.FOREIGN, Status.UNPROVEN):
        raise PlatformError(
            f"not proven on this machine: {', '.join(step.name for step in short)}",
            hint="verify it on the machine that is to run it; --no-run checks the files only",
        )


def _as_text(bundle: Path, result: Verification) -> str:
    lines = [f"bundle    {bundle}"]
    for step in result.steps:
        first, *others = step.details or ("",)
        lines.append(f"{step.name:<9} {step.status.value:<9} {first}".rstrip())
        lines += [f"{'':<19} {line}" for line in others]
    if not result.ran:
        lines.append("run       not asked for (--no-run): the files were checked, nothing else")
    return "\n".join(lines)
