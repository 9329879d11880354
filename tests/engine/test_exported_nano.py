"""The real way: a GSPN-2 model exported by this package, built for real."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx

from gspn2_deploy.build import build_engine, parse_profile
from gspn2_deploy.models import create_model

DTYPES = {"fp32": "float32", "fp16": "float16"}


@pytest.fixture(scope="module", params=list(DTYPES))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(request.param) / "nano.onnx"
    options = ExportOptions(precision=PrecisionPlan(request.param))
    export_onnx(create_model("nano").eval(), path, options)
    return path, request.param


@pytest.mark.tensorrt
def test_build(exported: tuple[Path, str]):
    path, precision = exported
    result = build_engine(
        path,
        profiles=[parse_profile("images=1x3x64x64:4x3x64x64:16x3x64x64")],
        compute_capabilities=["8.9", "12.0"],
    )
    manifest = result.manifest
    manifest.verify(result.plan_path, onnx_path=path)
    assert manifest.precision == precision
    assert manifest.propagations["GspnProp2D"] >= 4
    assert manifest.layer_dtypes[DTYPES[precision]] > 100
    assert manifest.compute_capabilities == ("8.9", "12.0")
    assert manifest.metadata["gspn2.model"] == "nano"
    assert manifest.inputs[0].shape == ("batch", 3, 64, 64)
    assert manifest.build_seconds < 60
