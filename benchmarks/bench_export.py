"""Measure the exporter and what it writes, on this machine's CPU.

    python benchmarks/bench_export.py            everything, into docs/export.json
    python benchmarks/bench_export.py --only help

Each export runs in a process of its own: its wall time, processor time and peak resident memory
are the operating system's figures for that process (``os.wait4``), interpreter start and imports
included. Latencies are medians after warm-up, PyTorch and onnxruntime one after the other, with the
same number of threads. The table in docs/measurements.md is written from docs/export.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs" / "export.json"
PAGE = ROOT / "docs" / "measurements.md"
BEGIN, END = "<!-- export.json: begin -->", "<!-- export.json: end -->"

EXPORTED = ("nano", "tiny", "small", "base")
SPREAD = (
    *((model, precision) for model in ("nano", "tiny") for precision in ("fp32", "fp16", "bf16")),
    ("small", "fp32"),
    ("base", "fp32"),
)
LATENCY = (("nano", 224), ("tiny", 224))  # model, image edge in pixels; batch 1
HELP_RUNS = 7
WARM_RUNS, TIMED_RUNS, LEAST_SECONDS = 5, 30, 3.0
STEADY = 2.0  # percentiles 10 and 90 further apart than this say that other work interfered
KIB = 1024


def main() -> None:
    """Run the measurements and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("export", "latency", "spread", "help"), action="append")
    parser.add_argument("--models", nargs="+", default=EXPORTED, help="models to export")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}), help="latency"
    )
    options = parser.parse_args()
    parts: dict[str, Callable[[], Any]] = {
        "export": lambda: [bench_export(name) for name in options.models],
        "latency": lambda: [
            bench_latency(*case, threads) for case in LATENCY for threads in options.threads
        ],
        "spread": lambda: [bench_spread(*case) for case in SPREAD],
        "help": bench_help,
    }
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    for name in options.only or parts:
        at = machine()
        rows = parts[name]()
        at["load_average_at_end"] = os.getloadavg()[0]
        result[name] = {"machine": at, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_page(result)


def machine() -> dict[str, Any]:
    """Where and when: everything that a figure depends on."""
    import onnxruntime
    import torch

    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average_at_start": os.getloadavg()[0],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def bench_export(model: str) -> dict[str, Any]:
    """Export one model with `gspn2-deploy export`, golden samples and checks included."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"{model}.onnx"
        command = [sys.executable, "-m", "gspn2_deploy", "export", "--model", model]
        began = time.perf_counter()
        with (Path(folder) / "log").open("wb") as log:
            child = subprocess.Popen([*command, "--output", str(target)], stdout=log, stderr=log)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if child.returncode:
            sys.exit((Path(folder) / "log").read_text())
        row = {
            "model": model,
            "seconds": seconds,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_resident_bytes": usage.ru_maxrss * KIB,
            "onnx_bytes": sum(path.stat().st_size for path in Path(folder).glob("*.onnx*")),
        }
    print(row)
    return row


def bench_latency(model: str, edge: int, threads: int) -> dict[str, Any]:
    """Latency of one image in PyTorch and in onnxruntime, one after the other."""
    import numpy as np
    import torch

    from gspn2_deploy.models import create_model
    from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner
    from gspn2_deploy.runners.torch_runner import TorchRunner

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{model}.onnx"
        export = [sys.executable, "-m", "gspn2_deploy", "--quiet", "export", "--model", model]
        size = ["--image-size", str(edge), "--output", str(path)]
        subprocess.run([*export, *size], check=True, stdout=subprocess.DEVNULL)
        ort = OnnxRuntimeRunner(path, threads=threads)
        with ort:
            specs, names = ort.input_specs, ort.output_names
        shape = (1, 3, edge, edge)
        image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        live = TorchRunner(create_model(model), specs, names)
        times = {runner.name: alone(runner, {specs[0].name: image}) for runner in (live, ort)}
    row: dict[str, Any] = {"model": model, "shape": shape, "threads": threads}
    for name, seconds in times.items():
        row[name] = {
            "median_ms": statistics.median(seconds) * 1e3,
            "p10_ms": quantile(seconds, 0.1) * 1e3,
            "p90_ms": quantile(seconds, 0.9) * 1e3,
            "runs": len(seconds),
        }
    print(row)
    return row


def alone(runner: Any, inputs: dict[str, Any]) -> list[float]:
    """Seconds per warm run. One runner at a time: a thread pool spins on after its run."""
    times: list[float] = []
    with runner:
        for _ in range(WARM_RUNS):
            runner.infer(inputs)
        while len(times) < TIMED_RUNS or sum(times) < LEAST_SECONDS:
            start = time.perf_counter()
            runner.infer(inputs)
            times.append(time.perf_counter() - start)
    return times


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of the sorted values lie at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def bench_spread(model: str, precision: str) -> dict[str, Any]:
    """How far onnxruntime, and PyTorch in less precision, lie from PyTorch; random weights."""
    import torch

    from gspn2_deploy.models import create_model, save_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path, weights = Path(folder) / f"{model}.onnx", Path(folder) / f"{model}.safetensors"
        torch.manual_seed(0)
        save_checkpoint(create_model(model), weights)
        tool = [sys.executable, "-m", "gspn2_deploy", "--quiet"]
        source = ["--checkpoint", str(weights)]
        export = ["export", *source, "--precision", precision, "--output", str(path)]
        subprocess.run([*tool, *export], check=True, stdout=subprocess.DEVNULL)
        calibrate = [] if precision == "fp32" else ["--calibrate"]
        command = [*tool, "validate", str(path), *source, *calibrate, "--samples", "1", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    found = json.loads(done.stdout)
    errors = [output["errors"] for case in found["cases"] for output in case["outputs"]]
    calibration = found["calibration"]
    row = {
        "model": model,
        "precision": precision,
        "passed": found["passed"],
        "onnxruntime_max_by_rms": max(item["max_scaled"] for item in errors),
        "onnxruntime_one_minus_cosine": max(1 - item["cosine"] for item in errors),
        "pytorch_spread_by_rms": calibration and calibration["spread"],
        "pytorch_spread_one_minus_cosine": calibration and 1 - calibration["cosine"],
    }
    print(row)
    return row


def bench_help() -> list[dict[str, Any]]:
    """Time `--help` of the root and of every command, warm file cache."""
    from gspn2_deploy.cli.app import COMMANDS

    rows = []
    for command in ("", *COMMANDS):
        arguments = [sys.executable, "-m", "gspn2_deploy", *command.split(), "--help"]
        seconds = []
        for _ in range(HELP_RUNS):
            began = time.perf_counter()
            subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        rows.append({"command": command, "median_s": statistics.median(seconds)})
        print(rows[-1])
    return rows


def write_page(result: dict[str, Any]) -> None:
    """Put the tables between the marks in docs/measurements.md."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else f"{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    parts = [section(result) for section in (export_table, latency_table, spread_table, help_table)]
    body = "\n".join(part for part in parts if part)
    PAGE.write_text(f"{head}{BEGIN}\n{body}{END}{tail}", encoding="utf-8")


def export_table(result: dict[str, Any]) -> str:
    """Markdown of the export figures."""
    if "export" not in result:
        return ""
    lines = [
        "### Export time and memory\n",
        conditions(result["export"]["machine"]),
        "| model | export, wall | processor time | peak memory | file |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['model']} | {row['seconds']:.1f} s | {row['cpu_seconds']:.1f} s "
        f"| {row['peak_resident_bytes'] / 1e9:.2f} GB | {row['onnx_bytes'] / 1e6:.1f} MB |"
        for row in result["export"]["rows"]
    ]
    return "\n".join(lines) + "\n"


def latency_table(result: dict[str, Any]) -> str:
    """Markdown of the latency figures."""
    if "latency" not in result:
        return ""
    lines = [
        "### Latency on the CPU, fp32, one image: median (10th to 90th percentile)\n",
        conditions(result["latency"]["machine"]),
        "| model | input | threads | PyTorch eager | onnxruntime | onnxruntime is |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["latency"]["rows"]:
        cells = [
            f"{row[name]['median_ms']:.1f} ms "
            f"({row[name]['p10_ms']:.1f} to {row[name]['p90_ms']:.1f})"
            for name in ("pytorch", "onnxruntime")
        ]
        steady = all(
            row[name]["p90_ms"] < STEADY * row[name]["p10_ms"]
            for name in ("pytorch", "onnxruntime")
        )
        factor = row["pytorch"]["median_ms"] / row["onnxruntime"]["median_ms"]
        verdict = f"{factor:.1f}x as fast" if steady else "not comparable: disturbed by other work"
        shape = "x".join(str(extent) for extent in row["shape"])
        lines.append(
            f"| {row['model']} | {shape} | {row['threads']} | {cells[0]} | {cells[1]} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def spread_table(result: dict[str, Any]) -> str:
    """Markdown of the figures that the tolerances rest on."""
    if "spread" not in result:
        return ""
    lines = [
        "### How far the executors lie apart\n",
        "Largest error over all logits, by their root mean square; random weights, random images. "
        "onnxruntime is compared with PyTorch in the file's precision; PyTorch's own spread is its "
        "float32 against that precision.\n",
        conditions(result["spread"]["machine"], timed=False),
        "| model | precision | onnxruntime | 1 - cosine | PyTorch's own spread | 1 - cosine |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["spread"]["rows"]:
        cells = [
            "" if row[key] is None else f"{row[key]:.1e}"
            for key in (
                "onnxruntime_max_by_rms",
                "onnxruntime_one_minus_cosine",
                "pytorch_spread_by_rms",
                "pytorch_spread_one_minus_cosine",
            )
        ]
        lines.append(f"| {row['model']} | {row['precision']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def help_table(result: dict[str, Any]) -> str:
    """Markdown of the --help figures."""
    if "help" not in result:
        return ""
    lines = [
        "### Time to answer `--help`\n",
        conditions(result["help"]["machine"]),
        "| command | median |",
        "| --- | --- |",
    ]
    lines += [
        f"| `{' '.join(['gspn2-deploy', *row['command'].split(), '--help'])}` "
        f"| {row['median_s']:.2f} s |"
        for row in result["help"]["rows"]
    ]
    return "\n".join(lines) + "\n"


def conditions(at: dict[str, Any], *, timed: bool = True) -> str:
    """One line: where and when; with the load that timings ran beside."""
    load = ""
    if timed:
        before, after = at["load_average_at_start"], at["load_average_at_end"]
        load = f"load average {before:.1f} before and {after:.1f} after, "
    return (
        f"{at['cores']} cores of {at['cpu']}, {load}torch {at['torch']}, "
        f"onnxruntime {at['onnxruntime']}, Python {at['python']}, {at['date']}.\n"
    )


if __name__ == "__main__":
    main()
