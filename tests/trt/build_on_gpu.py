"""Build engines with the TensorRT backend on this machine's GPU, each twice.

PYTHONPATH=... python tests/trt/build_on_gpu.py OUT ONNX...

Prints one line a build; the second is faster by what the timing cache saves. Needs TensorRT's
Python module, the plugin library (``GSPN2_TENSORRT_PLUGIN``), NumPy and onnx, and neither PyTorch
nor pytest. Exits with 1 when a build fails or what it says of itself is not what the file asks.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from gspn2_deploy.build import build_engine
from gspn2_deploy.build.timing_cache import CACHE_VARIABLE
from gspn2_deploy.errors import Gspn2Error


def build(onnx_path: Path, plan_path: Path) -> bool:
    """Build one plan and say what came of it."""
    began = time.perf_counter()
    try:
        manifest = build_engine(onnx_path, plan_path, backend="tensorrt").manifest
    except Gspn2Error as error:
        sys.stdout.write(f"FAILED  {onnx_path.name}: {error}\n")
        return False
    unchecked = [sentence for sentence in manifest.unproven if "not checked" in sentence]
    sys.stdout.write(
        f"{'FAILED' if unchecked else 'ok':<7} {onnx_path.name}: {manifest.precision}, "
        f"{dict(manifest.propagations)}, layers {dict(manifest.layer_dtypes)}, "
        f"{manifest.plan_bytes} bytes, {time.perf_counter() - began:.1f} s, "
        f"TensorRT {manifest.backend_version} on {', '.join(manifest.compute_capabilities)}; "
        f"unproven: {'; '.join(manifest.unproven)}\n"
    )
    return not unchecked


def main() -> None:
    """Build what the command line names."""
    logging.basicConfig(level=logging.WARNING)
    out, *files = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(CACHE_VARIABLE, str(out / "cache"))
    passed = [build(path, out / f"{path.stem}.plan") for path in files for _ in range(2)]
    sys.exit(0 if passed and all(passed) else 1)


if __name__ == "__main__":
    main()
