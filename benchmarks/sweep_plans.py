"""Measure every plan that a call's kernels allow, beside the one that the heuristics take.

    cmake -S plugins -B build -DGSPN2_KERNELS_TUNING=ON && cmake --build build
    export GSPN2_KERNELS_LIBRARY=$PWD/build/libgspn2_kernels.so
    python benchmarks/sweep_plans.py --out plans.json

Each plan's result is held against that of the heuristics' plan. Times as in bench_kernels.py.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from bench_kernels import describe
from kernel_library import (
    DTYPES,
    LibraryCall,
    Size,
    line_scan_bytes,
    line_scan_call,
    prop2d_bytes,
    prop2d_call,
)
from timing import copy_bandwidth, sets_needed, time_graph

from gspn2_deploy.ops import cuda
from gspn2_deploy.spec import DIRECTIONS, Normalize

SCANS: tuple[Size, ...] = (
    (16, 8, 1024, 1024),
    (8, 64, 256, 256),
    (1, 128, 512, 512),
    (1, 8, 1024, 1024),
    (32, 196, 32, 32),
    (1, 768, 64, 64),
)
MAPS: tuple[Size, ...] = (
    (1, 32, 64, 64),
    (1, 2, 64, 64),
    (64, 2, 56, 56),
    (64, 8, 56, 56),
    (1, 2, 28, 28),
    (64, 2, 28, 28),
    (64, 8, 28, 28),
    (64, 2, 14, 14),
    (16, 64, 14, 14),
    (64, 2, 7, 7),
    (1, 64, 32, 32),
    (1, 2, 112, 112),
    (1, 8, 128, 128),
    (1, 2, 128, 192),
    (1, 2, 256, 256),
)
MAX_CALLS = 16
REPLAYS = 7
TOLERANCE = 3e-2  # of 16-bit dtypes; a wrong plan is off by far more


class Sweep:
    """Times calls under plans from the environment."""

    def __init__(self, seconds: float) -> None:
        self.rows: list[dict[str, Any]] = []
        self._library = cuda.load_library()
        self._until = time.monotonic() + seconds
        try:
            self._library.gspn2_tuned_plans.restype = ctypes.c_int
        except AttributeError:
            sys.exit("the kernel library was built without -DGSPN2_KERNELS_TUNING=ON")

    def run(
        self,
        label: dict[str, Any],
        variable: str,
        plans: Iterable[Sequence[int]],
        make: Callable[[], LibraryCall],
        count: int,
    ) -> None:
        """One case: the heuristics' plan, then each of `plans` as far as it can be taken."""
        os.environ[variable] = ""
        calls = [make() for _ in range(min(MAX_CALLS, sets_needed(count)))]
        default, expected = self._measure(calls, None)
        found: list[tuple[float, str]] = []
        for plan in plans:
            if time.monotonic() > self._until:
                break
            os.environ[variable] = ",".join(map(str, plan))
            before = self._library.gspn2_tuned_plans()
            calls[0]()
            if self._library.gspn2_tuned_plans() == before:
                continue
            milliseconds, _ = self._measure(calls, expected)
            found.append((milliseconds, os.environ[variable]))
        os.environ[variable] = ""
        found.sort()
        self.rows.append({**label, "bytes": count, "default_ms": default, "plans": found})
        best = "  ".join(f"{plan} {milliseconds:.4f}" for milliseconds, plan in found[:5])
        print(*label.values(), f"default {default:.4f} ms; best: {best}", flush=True)

    def _measure(
        self, calls: Sequence[LibraryCall], expected: torch.Tensor | None
    ) -> tuple[float, torch.Tensor]:
        calls[0]()
        result = calls[0].output.float().clone()
        if expected is not None:
            torch.testing.assert_close(result, expected, rtol=TOLERANCE, atol=TOLERANCE)
        return time_graph(calls, replays=REPLAYS).median, result


def sweep_strips(sweep: Sweep) -> None:
    """Positions of a lane, parts, stages, warps that load, whether pieces are wide."""
    for size, name, normalize, code in itertools.product(
        SCANS, ("fp32", "fp16"), (Normalize.NONE, Normalize.SIGMOID), (0, 2)
    ):
        horizontal = code < 2
        plans = itertools.product(
            (1, 2) if horizontal else (1, 2, 4),
            (1, 2, 3, 4, 5, 6, 8),
            (2, 3, 4),
            (1, 2, 4),
            (0, 1) if horizontal else (0,),
        )
        label = {
            "size": size,
            "dtype": name,
            "normalize": normalize.value,
            "direction": DIRECTIONS[code].value,
        }

        def make(
            size: Size = size, name: str = name, code: int = code, mode: Normalize = normalize
        ) -> LibraryCall:
            return line_scan_call(size, size[1], DTYPES[name], code, mode)

        count = line_scan_bytes(size, size[1], DTYPES[name])
        sweep.run(label, "GSPN2_STRIP_PLAN", plans, make, count)


def sweep_onchip(sweep: Sweep) -> None:
    """A block, a cluster or one with a ring, its channels, threads that load, blocks of a ring."""
    for size, name in itertools.product(MAPS, ("fp32", "fp16")):
        most = max(size[2:])
        workers = [0] + [w for w in (128, 160, 192, 256) if w >= 2 * most]
        plans: list[tuple[int, ...]] = [*itertools.product((0,), (1, 2), workers)]
        plans += itertools.product((1,), (1, 2), (0, 128, 256, 384, 512))
        plans += itertools.product((2,), (1,), (0,), (1, 2, 3, 4))

        def make(size: Size = size, name: str = name) -> LibraryCall:
            return prop2d_call(size, 1, DTYPES[name], Normalize.SIGMOID)

        label = {"size": size, "dtype": name}
        count = prop2d_bytes(size, 1, DTYPES[name])
        sweep.run(label, "GSPN2_ONCHIP_PLAN", plans, make, count)


def main() -> None:
    """Sweep what was asked for and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("plans.json"))
    parser.add_argument("--only", choices=("strips", "onchip"))
    parser.add_argument("--seconds", type=float, default=120.0, help="no new plan after so many")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device")
    sweep = Sweep(options.seconds)
    copy = copy_bandwidth()
    if options.only != "strips":
        sweep_onchip(sweep)
    if options.only != "onchip":
        sweep_strips(sweep)
    document = {"meta": describe(copy), "rows": sweep.rows}
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
