"""Engines from ONNX files: one interface, one backend per engine library.

Importing this package loads neither ONNX nor an engine library.
"""

from __future__ import annotations

from gspn2_deploy.build.backend import (
    BACKEND_NAMES,
    Backend,
    BuildRequest,
    BuiltEngine,
    create_backend,
)
from gspn2_deploy.build.engine import BuildResult, build_engine
from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.build.profiles import parse_profile, resolve_profiles

__all__ = [
    "BACKEND_NAMES",
    "Backend",
    "BuildOptions",
    "BuildRequest",
    "BuildResult",
    "BuiltEngine",
    "build_engine",
    "create_backend",
    "parse_profile",
    "resolve_profiles",
]
