"""Run compute-sanitizer's four tools over a reduced set of kernel calls.

    cmake -S plugins -B build -DGSPN2_KERNELS_BUILD_TESTS=ON && cmake --build build
    python tests/gpu/sanitize.py build/gspn2_sanitize_kernels [tool ...]

Each tool sees the calls twice: with aligned pointers, which fast paths may take, and with
misaligned ones, which few of them take; racecheck, which follows every access to shared memory,
sees those of small maps alone, and of these as many as fit into its time: they come in an order
that has every kind of call early. synccheck sees no cluster of more than eight blocks: it takes
the threads behind the eighth for some that do not wait (CUDA 13.0). Each line says how many of how
many calls ran. Exits with 0 when nothing was found, 1 when something was, a run did not end in time
or no call ran, 3 where there is no compute-sanitizer.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time

TOOLS = {
    "memcheck": ["--leak-check", "full"],
    "initcheck": [],
    "synccheck": ["--num-cuda-barriers", "4096"],
    "racecheck": ["--racecheck-report", "all"],
}
POINTERS = ("misaligned", "aligned")
SECONDS = 90  # that racecheck's calls may take
# What a tool sees that takes minutes to a large map, or does not know large clusters.
CALLS = {"racecheck": ["small", "--seconds", str(SECONDS)], "synccheck": ["portable"]}
FOUND = 99
LIMIT = 180  # seconds for one run
_COUNT = re.compile(r"^(\d+) of \d+ calls ran.*$", re.MULTILINE)


def run(command: list[str], limit: float = LIMIT) -> tuple[str, str, list[str]]:
    """The verdict on one run, how many calls it made, and its output."""
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    verdict = ""
    try:
        output, _ = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # the program too, which would keep the GPU busy
        output, _ = child.communicate()
        verdict = f"no end within {limit} s"
    count = _COUNT.search(output)
    if not verdict and child.returncode != 0:
        verdict = f"exit {child.returncode}"
    if not verdict and (count is None or int(count[1]) == 0):
        verdict = "no call ran"
    return verdict or "clean", count[0] if count else "", output.strip().splitlines()


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
            verdict, count, lines = run([*prefix, program, pointers, *CALLS.get(name, [])])
            seconds = time.monotonic() - start
            said = [count, *(line for line in lines[-1:] if line != count)]
            told = "; ".join(filter(None, said))
            print(f"{name:10} {pointers:11} {verdict:8} {seconds:6.1f} s  {told}", flush=True)  # noqa: T201
            if verdict != "clean":
                failed = True
                print("\n".join(lines[:40]), flush=True)  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
