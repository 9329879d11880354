"""The main job on a trained model: export it, prove the file, build an engine. Needs no GPU.

Runs the three commands that a user would type and prints what each of them wrote.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHECKPOINT = HERE / "nano-digits.safetensors"
HELDOUT = HERE / "heldout.npz"


def run(command: str, *arguments: object, **options: object) -> tuple[dict[str, Any], float]:
    """Run one ``gspn2-deploy`` command; return its JSON result and its seconds."""
    words = [command, *(typed(value) for value in arguments)]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", typed(value)]
    print("$ gspn2-deploy", shlex.join(words), file=sys.stderr, flush=True)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "gspn2_deploy", *words, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if done.returncode:
        sys.exit(done.returncode)  # the command said on stderr what went wrong
    return json.loads(done.stdout), time.perf_counter() - began


def typed(value: object) -> str:
    """A value as a reader would type it in the repository's root."""
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        value = value.relative_to(ROOT)
    return str(value)


def shown(path: Path) -> str:
    """A written file and its size."""
    return f"{typed(path)} ({path.stat().st_size / 1024:,.0f} KiB)"


def describe_export(result: dict[str, Any]) -> str:
    """The ops in the file, and how close the file's first run came to PyTorch."""
    ops = ", ".join(f"{count} {name}" for name, count in result["op_counts"].items())
    return f"{ops}; first run within {result['verification']['max_abs']:.1e} of PyTorch"


def describe_validation(result: dict[str, Any]) -> str:
    """How many held-out images both classify alike, and how well."""
    top1 = result["top1"]["onnxruntime"]
    return (
        f"{len(result['cases'])} comparisons; same class for {top1['agreeing']} of "
        f"{top1['items']} held-out images, {top1['accuracy']:.2%} of them right"
    )


def describe_build(result: dict[str, Any]) -> str:
    """What the engine was built with, and for what."""
    capabilities = ", ".join(result["compute_capabilities"])
    return (
        f"{result['backend']} {result['backend_version']} engine "
        f"for compute capability {capabilities}"
    )


def main() -> None:
    """Export, validate and build the digits model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "artifacts" / "digits")
    parser.add_argument("--compute-capability", default="8.9")
    options = parser.parse_args()
    options.output = options.output.resolve()
    onnx = options.output / "nano-digits.onnx"
    golden = options.output / "nano-digits.golden.npz"
    plan = options.output / "nano-digits.plan"
    report = options.output / "validation.json"

    exported, export_s = run("export", checkpoint=CHECKPOINT, output=onnx, golden=golden)
    validated, validate_s = run(
        "validate",
        onnx,
        checkpoint=CHECKPOINT,
        golden=golden,
        data=HELDOUT,
        require_top1="all",
        report=report,
    )
    built, build_s = run(
        "build",
        onnx,
        backend="tensorrt-rtx",
        compute_capability=options.compute_capability,
        output=plan,
    )
    rows = [
        ("export", export_s, describe_export(exported), [onnx, golden]),
        ("validate", validate_s, describe_validation(validated), [report]),
        ("build", build_s, describe_build(built), [ROOT / built["plan"], ROOT / built["manifest"]]),
    ]
    print(f"\n{'step':<9} {'time':>6}  result")
    for name, seconds, result, written in rows:
        print(f"{name:<9} {seconds:>4.0f} s  {result}")
        for path in written:
            print(f"{'':<18} wrote {shown(path)}")


if __name__ == "__main__":
    main()
