from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from engine_models import conv_model

from gspn2_deploy import progress

HAS_RTX = any(importlib.util.find_spec(name) for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="TensorRT for RTX is not installed")
    for item in items:
        if not HAS_RTX and item.get_closest_marker("tensorrt") and "/engine/" in str(item.path):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _quiet():
    progress.set_quiet(True)
    yield
    progress.set_quiet(False)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    return conv_model(tmp_path / "model.onnx")
