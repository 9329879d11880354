"""``gspn2-deploy models``: the registered models."""

from __future__ import annotations

import click

from gspn2_deploy.cli.common import emit, json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the models that ``--model`` knows, with parameters and default image size."""
    from gspn2_deploy.models import describe_models

    rows = describe_models()
    lines = [f"{'name':<8} {'parameters':>12} {'MACs':>8} {'size':>9}  description"]
    lines += [
        f"{row['name']:<8} {row['parameters'] / 1e6:>10.2f} M {row['macs'] / 1e9:>6.2f} G "
        f"{'x'.join(str(edge) for edge in row['size']):>9}  {row['description']}"
        for row in rows
    ]
    emit({"models": rows}, "\n".join(lines), as_json=as_json)
