"""``gspn2-deploy models``: the registered models."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from gspn2_deploy import progress
from gspn2_deploy.cli.common import emit, json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the models that --model knows.

    With their parameters, multiply-accumulates (MACs) per image, and default image size in pixels.
    """
    with progress.step("Counting"):
        rows = _describe()
    lines = [f"{'name':<8} {'parameters':>12} {'MACs':>9} {'size':>9}  depths, widths, C_proxy"]
    for row in rows:
        config = row["config"]
        lines.append(
            f"{row['name']:<8} {row['parameters'] / 1e6:>10.2f} M {row['macs'] / 1e9:>7.3f} G "
            f"{'x'.join(map(str, row['image_size'])):>9}  {config['depths']}, {config['widths']}, "
            f"{config['c_proxy']}"
        )
    emit({"models": rows}, "\n".join(lines), as_json=as_json)


def _describe() -> list[dict[str, Any]]:
    import torch

    from gspn2_deploy.models import Gspn2, count_macs, count_parameters, create_model, list_models

    rows = []
    for name in list_models():
        with torch.device("meta"):  # shapes alone: no memory, no arithmetic
            model = create_model(name)
        assert isinstance(model, Gspn2)
        shape = (1, model.config.in_channels, *model.default_size)
        rows.append(
            {
                "name": name,
                "parameters": count_parameters(model),
                "macs": count_macs(model, *shape),
                "image_size": list(model.default_size),
                "config": asdict(model.config),
            }
        )
    return sorted(rows, key=lambda row: row["parameters"])
