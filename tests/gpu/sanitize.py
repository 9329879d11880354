"""Run compute-sanitizer's four tools over a reduced set of kernel calls.

    cmake -S plugins -B build -DGSPN2_KERNELS_BUILD_TESTS=ON && cmake --build build
    python tests/gpu/sanitize.py build/gspn2_sanitize_kernels

Exits with 0 when every tool found nothing, 1 when one found something, 3 where there is no tool.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

TOOLS = {
    "memcheck": ["--leak-check", "full"],
    "racecheck": ["--racecheck-report", "all"],
    "initcheck": [],
    "synccheck": [],
}
FOUND = 99


def main(program: str, tools: list[str]) -> int:
    """Run the program plain, then under each tool; print one line per run."""
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        print("compute-sanitizer is not on the PATH: install the CUDA toolkit", file=sys.stderr)  # noqa: T201
        return 3
    commands = {"plain": [program]}
    for tool in tools or list(TOOLS):
        checks = ["--tool", tool, *TOOLS[tool], "--error-exitcode", str(FOUND)]
        commands[tool] = [sanitizer, *checks, program]
    failed = False
    for name, command in commands.items():
        start = time.monotonic()
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (run.stdout + run.stderr).strip().splitlines()
        verdict = "clean" if run.returncode == 0 else f"exit {run.returncode}"
        print(f"{name:10} {verdict:8} {time.monotonic() - start:6.1f} s  {lines[-1]}")  # noqa: T201
        if run.returncode != 0:
            failed = True
            print("\n".join(lines[:40]))  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
