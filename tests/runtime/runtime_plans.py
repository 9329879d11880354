"""Manifests of plans that are none, for what the runtime says of them."""

from __future__ import annotations

import hashlib

from gspn2_deploy.manifest import Manifest, TensorInfo, manifest_path

ALL_GPUS = tuple(f"{major}.{minor}" for major in range(7, 13) for minor in range(10))
ONNX_SHA256 = "ab" * 32


def write_manifest(plan, **changes):
    values = {
        "plan_file": plan.name,
        "plan_bytes": plan.stat().st_size,
        "plan_sha256": hashlib.sha256(plan.read_bytes()).hexdigest(),
        "onnx_file": "nano.onnx",
        "onnx_sha256": ONNX_SHA256,
        "external_data_sha256": {},
        "backend": "tensorrt",
        "backend_version": "8.6.0",
        "package_version": "0.1.0",
        "cuda_version": None,
        "driver_version": None,
        "compute_capabilities": ALL_GPUS,
        "profiles": (),
        "inputs": (TensorInfo("images", "float32", ("batch", 1, 8, 8)),),
        "outputs": (TensorInfo("scores", "float32", ("batch", 10)),),
        "precision": "fp32",
        "layer_dtypes": {},
        "propagations": {"GspnProp2D": 3},
        "activation_bytes": None,
        "metadata": {"note": 'quotes " and \\ and é and 😀'},
        "unproven": (),
        "build_seconds": 1.5,
        "host": "test",
        "created": "2026-01-01T00:00:00+00:00",
    }
    Manifest(**(values | changes)).save(manifest_path(plan))
