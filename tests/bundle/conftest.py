from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from bundle_parts import ONNX_SHA256, golden

from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import Manifest, ShapeRange, TensorInfo, manifest_path

PLUGIN_BYTES = b"\x7fELF initLibGspn2Plugins libgspn2_kernels.so"


@dataclass
class Parts:
    """The files that a bundle is made of."""

    plan: Path
    plugin: Path
    kernels: Path
    golden: Path

    def manifest(self, **changes):
        manifest = Manifest.load(manifest_path(self.plan))
        values = {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}
        Manifest(**(values | changes)).save(manifest_path(self.plan))


@pytest.fixture
def parts(tmp_path):
    folder = tmp_path / "parts"
    (folder / "8.6").mkdir(parents=True)
    plan = folder / "nano.plan"
    plan.write_bytes(b"a plan" * 100)
    plugin, kernels = folder / "8.6/libgspn2_tensorrt.so", folder / "libgspn2_kernels.so"
    plugin.write_bytes(PLUGIN_BYTES)
    kernels.write_bytes(b"\x7fELF kernels")
    Manifest(
        plan_file=plan.name,
        plan_bytes=plan.stat().st_size,
        plan_sha256=sha256_of(plan),
        onnx_file="nano.onnx",
        onnx_sha256=ONNX_SHA256,
        external_data_sha256={},
        backend="tensorrt",
        backend_version="8.6.0",
        package_version="0.1.0",
        cuda_version="12.0",
        driver_version="12.4",
        compute_capabilities=("9.0",),
        profiles=({"images": ShapeRange((1, 4), (2, 4), (4, 4))},),
        inputs=(TensorInfo("images", "float32", ("batch", 4)),),
        outputs=(TensorInfo("scores", "float32", ("batch", 4)),),
        precision="fp32",
        layer_dtypes={"float32": 3},
        propagations={"GspnProp2D": 3},
        activation_bytes=None,
        metadata={"gspn2.precision": "fp32", "gspn2.base_precision": "fp32"},
        unproven=(),
        build_seconds=1.0,
        host="test",
        created="2026-01-01T00:00:00+00:00",
    ).save(manifest_path(plan))
    return Parts(plan, plugin, kernels, golden(folder / "nano.golden.npz"))
