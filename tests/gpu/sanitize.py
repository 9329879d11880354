"""Run compute-sanitizer's four tools over a reduced set of kernel calls.

    cmake -S plugins -B build -DGSPN2_KERNELS_BUILD_TESTS=ON && cmake --build build
    python tests/gpu/sanitize.py build/gspn2_sanitize_kernels [tool ...]

Each tool sees the calls twice: with aligned pointers, which fast paths may take, and with
misaligned ones, which few of them take; racecheck, which follows every access to shared memory,
sees those of small maps alone. Exits with 0 when nothing was found, 1 when
something was or a run did not end in time, 3 where there is no compute-sanitizer.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

TOOLS = {
    "memcheck": ["--leak-check", "full"],
    "initcheck": [],
    "synccheck": [],
    "racecheck": ["--racecheck-report", "all"],
}
POINTERS = ("misaligned", "aligned")
SMALL = ("racecheck",)  # tools that take minutes to a large map
FOUND = 99
LIMIT = 120  # seconds for one run


def run(command: list[str]) -> tuple[str, list[str]]:
    """The verdict on one run, and its output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return f"no end within {LIMIT} s", []
    lines = (done.stdout + done.stderr).strip().splitlines()
    return "clean" if done.returncode == 0 else f"exit {done.returncode}", lines


def main(program: str, tools: list[str]) -> int:
    """Run the program plain, then under each tool; print one line per run."""
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        print("compute-sanitizer is not on the PATH: install the CUDA toolkit", file=sys.stderr)  # noqa: T201
        return 3
    prefixes: dict[str, list[str]] = {"plain": []}
    for tool in tools or list(TOOLS):
        options = ["--tool", tool, *TOOLS[tool], "--error-exitcode", str(FOUND)]
        prefixes[tool] = [sanitizer, *options]
    failed = False
    for name, prefix in prefixes.items():
        for pointers in POINTERS:
            start = time.monotonic()
            extents = ["small"] if name in SMALL else []
            verdict, lines = run([*prefix, program, pointers, *extents])
            seconds = time.monotonic() - start
            last = lines[-1] if lines else ""
            print(f"{name:10} {pointers:11} {verdict:8} {seconds:6.1f} s  {last}", flush=True)  # noqa: T201
            if verdict != "clean":
                failed = True
                print("\n".join(lines[:40]), flush=True)  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
