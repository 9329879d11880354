"""Golden samples that these tests make bundles of."""

from pathlib import Path

import numpy as np

from gspn2_deploy.golden import GoldenSample, GoldenSamples

ONNX_SHA256 = "ab" * 32


def golden(path: Path, onnx_sha256: str = ONNX_SHA256, batch: int = 2) -> Path:
    images = np.linspace(-1, 1, batch * 4, dtype=np.float32).reshape(batch, 4)
    sample = GoldenSample({"images": images}, {"scores": 2 * images}, {"scores": 2 * images})
    GoldenSamples((sample,), onnx_sha256, "cd" * 32, "nano", "fp32").save(path)
    return path
