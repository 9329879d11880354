"""What a format other than linear could save at most: reformats into and out of the plugin layers.

    format_cost.py BENCH_JSON      what gspn2-deploy bench --layers --json printed

TensorRT names the layers that it puts in to change a format after the layer whose tensor they
change. Prints JSON: for each table of layers the milliseconds of the plugin layers, of the
reformats at them, of all other reformats, and of everything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROPAGATION = "propagation"
REFORMAT = "Reformat"
GROUPS = ("plugins", "reformats at plugins", "other reformats", "other")


def sort_layers(table: Mapping[str, Any]) -> dict[str, float]:
    """Return milliseconds by group."""
    plugins = [layer["name"] for layer in table["layers"] if layer["group"] == PROPAGATION]
    sums = dict.fromkeys(GROUPS, 0.0)
    for layer in table["layers"]:
        name = layer["name"]
        if name in plugins:
            group = "plugins"
        elif REFORMAT in name:
            beside = any(plugin in name for plugin in plugins)
            group = "reformats at plugins" if beside else "other reformats"
        else:
            group = "other"
        sums[group] += layer["milliseconds"]
    return {group: round(milliseconds, 5) for group, milliseconds in sums.items()}


def main() -> None:
    """Read what the command line names."""
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tables = [
        {"subject": table["subject"], "shapes": table["shapes"], "ms": sort_layers(table)}
        for table in report["layers"]
    ]
    sys.stdout.write(json.dumps(tables, indent=2) + "\n")
    sys.exit(0 if tables else 1)


if __name__ == "__main__":
    main()
