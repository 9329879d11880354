"""The ONNX exporter. Installed as ``gspn2_deploy.export``.

Reading a file (:func:`check_onnx`, :func:`strip_functions`, :func:`count_ops`) needs onnx only;
names are loaded when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import OnnxSummary, check_onnx, count_ops, strip_functions
    from .exporter import ExportOptions, ExportReport, export_onnx
    from .golden import GoldenSource
    from .precision import PrecisionPlan, plan_from_metadata, prepare_model

__all__ = [
    "ExportOptions",
    "ExportReport",
    "GoldenSource",
    "OnnxSummary",
    "PrecisionPlan",
    "check_onnx",
    "count_ops",
    "export_onnx",
    "plan_from_metadata",
    "prepare_model",
    "strip_functions",
]

_MODULES = {
    "check": ("OnnxSummary", "check_onnx", "count_ops", "strip_functions"),
    "exporter": ("ExportOptions", "ExportReport", "export_onnx"),
    "golden": ("GoldenSource",),
    "precision": ("PrecisionPlan", "plan_from_metadata", "prepare_model"),
}


def __getattr__(name: str) -> Any:
    for module, exported in _MODULES.items():
        if name in exported:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
