"""Measure the propagation kernels beside what else one could run, in one run.

Beside them stand the copy bandwidth, a scan of one launch per step, eager and compiled PyTorch, and
flash attention.

    cmake -S plugins -B build -DGSPN2_KERNELS_BUILD_BENCHMARKS=ON && cmake --build build
    GSPN2_KERNELS_LIBRARY=build/libgspn2_kernels.so python benchmarks/bench_kernels.py --out k.json

Times are medians over replays of a CUDA graph that runs the call on rotating buffers, so that
inputs come from memory, not from the cache. `plot_kernels.py` draws the file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from kernel_library import (
    DTYPES,
    Baseline,
    Size,
    line_scan_bytes,
    line_scan_call,
    prop2d_bytes,
    prop2d_call,
)
from timing import Timing, copy_bandwidth, sets_needed, time_graph, time_stream

from gspn2_deploy.ops import reference
from gspn2_deploy.spec import DIRECTIONS, Direction, Normalize

# GSPN's published kernel on an H200 in ms, one direction, per-channel weights: (fp32, fp16).
# Source: measured for this project with whj363636/GSPN's CUDA extension.
LINE_SCANS: dict[Size, tuple[float, float]] = {
    (16, 8, 1024, 1024): (31.4, 31.4),
    (256, 1, 1024, 1024): (67.2, 66.4),
    (32, 196, 32, 32): (1.04, 0.757),
    (1, 768, 64, 64): (0.365, 0.355),
    (1, 32, 64, 64): (0.311, 0.316),
    (8, 64, 256, 256): (7.58, 6.95),
    (1, 128, 512, 512): (6.07, 5.80),
    (1, 8, 1024, 1024): (5.02, 5.02),
    (64, 2, 56, 56): (0.247, 0.239),
}
PROP2D_LARGE: tuple[Size, ...] = (
    (16, 8, 1024, 1024),
    (1, 8, 1024, 1024),
    (8, 64, 256, 256),
    (1, 128, 512, 512),
    (32, 32, 128, 128),
)
PROP2D_SMALL: tuple[Size, ...] = (
    (1, 32, 64, 64),
    (1, 2, 64, 64),
    (64, 2, 56, 56),
    (64, 2, 28, 28),
    (64, 2, 14, 14),
    (64, 2, 7, 7),
    (1, 64, 32, 32),
    (16, 64, 14, 14),
)
ATTENTION_SIDES = (64, 128, 256, 512, 1024)
ATTENTION_CHANNELS = 64  # one head of 64: the layout that is best for flash attention
COMPILE_SIZE: Size = (1, 32, 64, 64)
COMPILE_SECONDS = 30


class Report:
    """Collects rows and prints each as it comes."""

    def __init__(self, copy: float) -> None:
        self.rows: list[dict[str, Any]] = []
        self._copy = copy

    def add(self, kind: str, timing: Timing, size: Size | None = None, **fields: Any) -> None:
        """One measured case; `bytes` among the fields adds the share of the copy bandwidth."""
        row: dict[str, Any] = {"kind": kind, "size": size, **fields, **timing.record()}
        if "bytes" in row:
            rate = row["bytes"] / (timing.median * 1e-3)
            row["gb_s"] = round(rate * 1e-9, 1)
            row["of_copy"] = round(rate / self._copy, 4)
        self.rows.append(row)
        shape = "x".join(map(str, size)) if size else ""
        named = " ".join(str(v) for k, v in fields.items() if k != "bytes")
        share = f"{100 * row['of_copy']:6.1f} % of copy" if "of_copy" in row else ""
        print(f"{kind:18} {shape:18} {named:34} {timing.median:10.4f} ms {share}", flush=True)


def bench_line_scans(report: Report) -> None:
    """Every published shape: four directions, three dtypes, weights per channel and as they are."""
    for size, published in LINE_SCANS.items():
        for name, dtype in DTYPES.items():
            count = line_scan_bytes(size, size[1], dtype)
            for code, direction in enumerate(DIRECTIONS):
                calls = [
                    line_scan_call(size, size[1], dtype, code, Normalize.NONE)
                    for _ in range(sets_needed(count))
                ]
                gspn1 = {"fp32": published[0], "fp16": published[1]}.get(name)
                report.add(
                    "line_scan",
                    time_graph(calls),
                    size,
                    dtype=name,
                    direction=direction.value,
                    bytes=count,
                    **({"gspn1_ms": gspn1} if gspn1 else {}),
                )
                del calls


def bench_line_scan_modes(report: Report) -> None:
    """What normalisation, shared weights and segments cost on the paper's first shape."""
    size = (16, 8, 1024, 1024)
    modes = (
        ("sigmoid", size[1], Normalize.SIGMOID, 0),
        ("softmax", size[1], Normalize.SOFTMAX, 0),
        ("shared_sigmoid", 1, Normalize.SIGMOID, 0),
        ("shared_sigmoid_chunk_64", 1, Normalize.SIGMOID, 64),
    )
    for label, g, normalize, chunk in modes:
        for name in ("fp32", "fp16"):
            count = line_scan_bytes(size, g, DTYPES[name])
            for code in (0, 2):
                calls = [
                    line_scan_call(size, g, DTYPES[name], code, normalize, chunk) for _ in range(2)
                ]
                fields = {"dtype": name, "direction": DIRECTIONS[code].value, "mode": label}
                report.add("line_scan_mode", time_graph(calls), size, **fields, bytes=count)
                del calls


def bench_generic(report: Report) -> None:
    """The kernels that take any alignment and any device, on pointers that no other takes."""
    for size in ((16, 8, 1024, 1024), (8, 64, 256, 256)):
        for name in ("fp32", "fp16"):
            dtype = DTYPES[name]
            count = line_scan_bytes(size, size[1], dtype)
            for code, direction in enumerate(DIRECTIONS):
                calls = [
                    line_scan_call(size, size[1], dtype, code, Normalize.NONE, offset=1)
                    for _ in range(2)
                ]
                fields = {"dtype": name, "direction": direction.value}
                report.add("line_scan_generic", time_graph(calls), size, **fields, bytes=count)
                del calls
            count = prop2d_bytes(size, 1, dtype)
            calls = [prop2d_call(size, 1, dtype, Normalize.SIGMOID, offset=1) for _ in range(2)]
            report.add("prop2d_generic", time_graph(calls), size, dtype=name, bytes=count)
            del calls


def bench_prop2d(report: Report, baseline: Baseline) -> None:
    """Four directions, weights shared by the channels, sigmoid normalisation inside."""
    for kind, sizes in (("prop2d", PROP2D_LARGE), ("prop2d_small", PROP2D_SMALL)):
        for size in sizes:
            for name, dtype in DTYPES.items():
                count = prop2d_bytes(size, 1, dtype)
                calls = [
                    prop2d_call(size, 1, dtype, Normalize.SIGMOID)
                    for _ in range(sets_needed(count))
                ]
                report.add(kind, time_graph(calls), size, dtype=name, bytes=count)
                if kind == "prop2d_small":
                    report.add("prop2d_small_warm", time_graph(calls[:1] * 16), size, dtype=name)
                del calls
    report.add("empty_kernel", time_graph([baseline.empty_call()] * 32))
    for side in (7, 14, 28, 32, 56, 64):
        timing = time_graph([baseline.chain_call(side, side)] * 32)
        report.add("serial_chain", timing, (1, 1, side, side))


def bench_per_step(report: Report, baseline: Baseline) -> None:
    """One launch per step on the current stream, as the predecessor ran."""
    for size in LINE_SCANS:
        for name in ("fp32", "fp16"):
            for direction, horizontal in (("left_to_right", True), ("top_to_bottom", False)):
                call = baseline.per_step_call(size, DTYPES[name], horizontal)
                report.add(
                    "per_step",
                    time_stream(call, replays=5),
                    size,
                    dtype=name,
                    direction=direction,
                    bytes=line_scan_bytes(size, size[1], DTYPES[name]),
                )


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the body after `seconds`."""

    def stop(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def bench_torch(report: Report) -> None:
    """The CPU implementation's loop on the GPU, eager and compiled: one direction, a small map."""
    n, c, h, w = COMPILE_SIZE
    x, lam = torch.randn(2, *COMPILE_SIZE, device="cuda")
    affinity = torch.randn(n, 3, c, h, w, device="cuda") * 0.3

    def run() -> torch.Tensor:
        return reference.line_scan(
            x, lam, affinity, Direction.TOP_TO_BOTTOM, Normalize.NONE, chunk=0
        )

    fields = {"dtype": "fp32", "direction": Direction.TOP_TO_BOTTOM.value}
    report.add("torch_eager", time_stream(run), COMPILE_SIZE, **fields)
    compiled: Callable[[], torch.Tensor] = torch.compile(run)
    start = time.monotonic()
    try:
        with time_limit(COMPILE_SECONDS):
            compiled()
    except TimeoutError:
        print(f"torch.compile gave nothing within {COMPILE_SECONDS} s", flush=True)
        return
    fields["compile_seconds"] = f"{time.monotonic() - start:.1f}"
    report.add("torch_compile", time_stream(compiled), COMPILE_SIZE, **fields)


def bench_attention(report: Report) -> None:
    """Flash attention over every pixel against the propagation of as many channels, bf16."""
    dtype, c = torch.bfloat16, ATTENTION_CHANNELS
    for side in ATTENTION_SIDES:
        size = (1, c, side, side)
        query, key, value = torch.randn(3, 1, 1, side * side, c, device="cuda", dtype=dtype)

        def attend(q: torch.Tensor = query, k: torch.Tensor = key, v: torch.Tensor = value) -> Any:
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
                return torch.nn.functional.scaled_dot_product_attention(q, k, v)

        timing = time_stream(attend, replays=3 if side > 256 else 15)
        report.add("attention", timing, size, dtype="bf16", heads=1)
        for label, channels in (("prop2d_vs_attention", c), ("prop2d_vs_attention_c8", c // 8)):
            proxy = (1, channels, side, side)
            count = prop2d_bytes(proxy, 1, dtype)
            calls = [
                prop2d_call(proxy, 1, dtype, Normalize.SIGMOID) for _ in range(sets_needed(count))
            ]
            report.add(label, time_graph(calls), proxy, dtype="bf16", bytes=count)
            del calls


def describe(copy: float) -> dict[str, Any]:
    """The machine: GPU, driver, versions, date, copy bandwidth."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "driver": driver.strip().splitlines()[0] if driver.strip() else "unknown",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "copy_gb_s": round(copy * 1e-9, 1),
    }


def main() -> None:
    """Run the sections that were asked for and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("kernels.json"))
    parser.add_argument("--only", nargs="*", default=[], help="sections to run; all by default")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device")
    torch.manual_seed(int(time.time()))
    baseline = Baseline()
    copy = copy_bandwidth()
    print(f"{torch.cuda.get_device_name()}: copy {copy * 1e-9:.0f} GB/s", flush=True)
    report = Report(copy)
    sections: dict[str, Callable[[], None]] = {
        "line_scans": lambda: bench_line_scans(report),
        "prop2d": lambda: bench_prop2d(report, baseline),
        "modes": lambda: bench_line_scan_modes(report),
        "generic": lambda: bench_generic(report),
        "per_step": lambda: bench_per_step(report, baseline),
        "attention": lambda: bench_attention(report),
        "torch": lambda: bench_torch(report),
    }
    unknown = set(options.only) - set(sections)
    if unknown:
        sys.exit(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(sections)}")
    for name, section in sections.items():
        if not options.only or name in options.only:
            section()
            torch.cuda.empty_cache()
            document = {"meta": describe(copy), "rows": report.rows}
            options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"copy again: {copy_bandwidth() * 1e-9:.0f} GB/s; wrote {options.out}")


if __name__ == "__main__":
    main()
