"""Draw the JSON of bench_kernels.py, and print its tables as Markdown.

python benchmarks/plot_kernels.py docs/kernels-h200.json docs/kernels-h200.png
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

Row = dict[str, Any]
DTYPES = ("fp32", "fp16", "bf16")
COLOURS = {"fp32": "#33658a", "fp16": "#f6ae2d", "bf16": "#f26419"}
LARGE_BYTES = 100e6
TARGET_LINE_SCAN, TARGET_PROP2D = 0.93, 0.85


def shape_of(row: Row) -> str:
    """The (N, C, H, W) of a row as text."""
    return "x".join(map(str, row["size"]))


def pick(rows: Iterable[Row], kind: str, **fields: Any) -> list[Row]:
    """The rows of a kind whose fields have these values."""
    wanted = {"kind": kind, **fields}
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def shares(axis: Any, rows: list[Row], title: str, target: float) -> None:
    """Bars of the share of the copy bandwidth, the worst direction of each shape and dtype."""
    shapes = list(dict.fromkeys(shape_of(row) for row in rows))
    for offset, dtype in enumerate(DTYPES):
        worst: dict[str, float] = defaultdict(lambda: float("inf"))
        for row in rows:
            if row["dtype"] == dtype:
                worst[shape_of(row)] = min(worst[shape_of(row)], 100 * row["of_copy"])
        places = [index + 0.27 * (offset - 1) for index in range(len(shapes))]
        values = [worst.get(shape, 0.0) for shape in shapes]
        axis.bar(places, values, width=0.25, color=COLOURS[dtype], label=dtype)
    axis.axhline(100 * target, color="black", linewidth=0.8, linestyle="--")
    axis.set_xticks(range(len(shapes)), shapes, rotation=25, ha="right", fontsize=8)
    axis.set_ylabel("% of copy bandwidth")
    axis.set_ylim(0, 110)
    axis.set_title(title, fontsize=10)
    axis.legend(fontsize=8, loc="upper center", ncol=3)


def speedups(axis: Any, rows: list[Row]) -> None:
    """Bars of the speedup over the published kernel and over one launch per step, fp32."""
    scans = pick(rows, "line_scan", dtype="fp32", direction="left_to_right")
    shapes = [shape_of(row) for row in scans]
    published = [row["gspn1_ms"] / row["ms"] for row in scans]
    steps = {
        shape_of(row): row["ms"]
        for row in pick(rows, "per_step", dtype="fp32", direction="left_to_right")
    }
    places = range(len(shapes))
    axis.bar([p - 0.2 for p in places], published, width=0.38, color="#33658a", label="GSPN-1")
    if steps:
        ours = [steps[shape] / row["ms"] for shape, row in zip(shapes, scans, strict=True)]
        axis.bar(
            [p + 0.2 for p in places],
            ours,
            width=0.38,
            color="#86bbd8",
            label="our scan, a launch per step",
        )
    axis.set_yscale("log")
    axis.set_xticks(places, shapes, rotation=25, ha="right", fontsize=8)
    axis.set_ylabel("times faster")
    axis.set_title("left to right, fp32, per-channel weights: speedup over", fontsize=10)
    axis.legend(fontsize=8)


def resolutions(axis: Any, rows: list[Row]) -> None:
    """Time against the side of a square map: attention and propagation."""
    for kind, label in (
        ("attention", "flash attention, 1 head of 64"),
        ("prop2d_vs_attention", "prop2d, 64 channels"),
        ("prop2d_vs_attention_c8", "prop2d, 8 proxy channels"),
    ):
        series = pick(rows, kind)
        axis.plot(
            [row["size"][2] for row in series], [row["ms"] for row in series], "o-", label=label
        )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("side of the map in pixels (tokens = side²)")
    axis.set_ylabel("ms")
    axis.set_title("batch 1, bf16", fontsize=10)
    axis.legend(fontsize=8)


def generic(axis: Any, rows: list[Row]) -> None:
    """Bars of the generic kernels' share of the copy bandwidth, per direction or fused."""
    labels = [f"{shape_of(row)} {row.get('direction', 'prop2d')}".replace("_", " ") for row in rows]
    names = list(dict.fromkeys(labels))
    for offset, dtype in enumerate(DTYPES[:2]):
        chosen = {
            label: 100 * row["of_copy"]
            for label, row in zip(labels, rows, strict=True)
            if row["dtype"] == dtype
        }
        places = [index + 0.4 * (offset - 0.5) for index in range(len(names))]
        values = [chosen.get(name, 0.0) for name in names]
        axis.bar(places, values, width=0.38, color=COLOURS[dtype], label=dtype)
    axis.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=7)
    axis.set_ylabel("% of copy bandwidth")
    axis.set_ylim(0, 110)
    axis.set_title("generic kernels, pointers off by one element", fontsize=10)
    axis.legend(fontsize=8)


def panels(rows: list[Row]) -> list[Callable[[Any], None]]:
    """One drawing function for each section that the file holds."""
    large = [row for row in pick(rows, "line_scan") if row["bytes"] > LARGE_BYTES]
    fused = pick(rows, "prop2d")
    fallback = pick(rows, "line_scan_generic") + pick(rows, "prop2d_generic")
    chosen: list[Callable[[Any], None]] = []
    if large:
        title = "line scan, per-channel weights, over 100 MB: worst of four directions"
        chosen.append(lambda axis: shares(axis, large, title, TARGET_LINE_SCAN))
        chosen.append(lambda axis: speedups(axis, rows))
    if fused:
        merged = "four directions fused, shared weights, sigmoid inside"
        chosen.append(lambda axis: shares(axis, fused, merged, TARGET_PROP2D))
    if pick(rows, "attention"):
        chosen.append(lambda axis: resolutions(axis, rows))
    if fallback:
        chosen.append(lambda axis: generic(axis, fallback))
    return chosen


def draw(document: dict[str, Any], target: Path) -> None:
    """A panel for each section, and one line that names the machine."""
    meta = document["meta"]
    chosen = panels(document["rows"])
    if not chosen:
        sys.exit("the file holds no section that can be drawn")
    columns = min(2, len(chosen))
    lines = -(-len(chosen) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(6.5 * columns, 4.75 * lines), squeeze=False
    )
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    for panel, axis in zip(chosen, axes.flat, strict=False):
        panel(axis)
    figure.suptitle(
        f"{meta['gpu']}, driver {meta['driver']}, CUDA {meta['cuda']}, {meta['date']}\n"
        f"copy {meta['copy_gb_s']:,.0f} GB/s; medians, cold inputs",
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def tables(document: dict[str, Any]) -> str:
    """The tables of docs/kernels.md."""
    meta, rows = document["meta"], document["rows"]
    lines = [
        f"{meta['gpu']}, driver {meta['driver']}, CUDA {meta['cuda']}, PyTorch {meta['torch']}, "
        f"{meta['date']}. Copy bandwidth in the same run: {meta['copy_gb_s']:,.0f} GB/s."
    ]
    if pick(rows, "line_scan"):
        columns = "| one direction, per-channel weights | dtype | ms, each direction "
        lines += ["", columns + "| % of copy | GSPN-1 |", "| --- | --- | --- | --- | --- |"]
    scans: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in pick(rows, "line_scan"):
        scans[shape_of(row), row["dtype"]].append(row)
    for (shape, dtype), group in scans.items():
        times = " / ".join(f"{row['ms']:.4f}" for row in group)
        low, high = (100 * f(row["of_copy"] for row in group) for f in (min, max))
        slow = max(row["ms"] for row in group)
        past = group[0].get("gspn1_ms")
        versus = f"{past:g} ms, {past / slow:.0f}x" if past else ""
        lines.append(f"| {shape} | {dtype} | {times} | {low:.1f}-{high:.1f} | {versus} |")
    columns = "| case | N x C x H x W | dtype | ms | min-max | % of copy |"
    lines += ["", columns, "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        if row["kind"] == "line_scan":
            continue
        extra = [row.get(key) for key in ("mode", "direction")]
        name = " ".join([row["kind"], *(str(part) for part in extra if part)]).replace("_", " ")
        share = f"{100 * row['of_copy']:.1f}" if "of_copy" in row else ""
        size = shape_of(row) if row["size"] else ""
        lines.append(
            f"| {name} | {size} | {row.get('dtype', '')} | {row['ms']:.4f} | "
            f"{row['ms_min']:.4f}-{row['ms_max']:.4f} | {share} |"
        )
    return "\n".join(lines)


def main(source: str, target: str) -> None:
    """Draw and print."""
    document = json.loads(Path(source).read_text())
    draw(document, Path(target))
    print(tables(document))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
