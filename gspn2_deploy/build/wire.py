"""Requests and results as JSON-ready values, for the pipe to the child process."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gspn2_deploy.build.backend import BuildRequest, BuiltEngine
from gspn2_deploy.build.isolation import run_isolated
from gspn2_deploy.build.options import BuildOptions, flag_of
from gspn2_deploy.manifest import ShapeRange, TensorInfo
from gspn2_deploy.progress import Step

# Options under which a builder has been seen to die by a signal: TensorRT 8.6 by SIGSEGV.
_CRASH_PRONE = ("hardware_compatibility", "version_compatible")


def build_in_child(
    entry: str, request: BuildRequest, progress: Step, logger: logging.Logger
) -> BuiltEngine:
    """Build in a process of its own.

    Args:
        entry: ``module:function`` of the backend: takes a request on the wire and a
            :class:`gspn2_deploy.build.worker.Channel`, returns a built engine on the wire.
        request: What to build.
        progress: Told how far the build is.
        logger: Gets the child's log records.
    """

    def show(fraction: float | None, detail: str | None) -> None:
        progress.update(fraction=fraction, detail=detail)

    suspects = [
        flag_of(name) + ("" if value is True else f" {value}")
        for name, value in request.options.asked().items()
        if name in _CRASH_PRONE
    ]
    task = request_to_wire(request)
    return engine_from_wire(run_isolated(entry, task, show, logger, suspects=suspects))


def request_to_wire(request: BuildRequest) -> dict[str, Any]:
    """Return a request as JSON-ready values. The child shares the working directory."""
    wire = asdict(request)
    wire["onnx_path"] = str(request.onnx_path)
    wire["plan_path"] = str(request.plan_path)
    wire["options"] = request.options.to_dict()
    return wire


def request_from_wire(wire: dict[str, Any]) -> BuildRequest:
    """Rebuild what :func:`request_to_wire` was given."""
    return BuildRequest(
        onnx_path=Path(wire["onnx_path"]),
        plan_path=Path(wire["plan_path"]),
        inputs=_tensors(wire["inputs"]),
        outputs=_tensors(wire["outputs"]),
        precision=wire["precision"],
        propagations=wire["propagations"],
        profiles=tuple(
            {
                name: ShapeRange(**{key: tuple(shape) for key, shape in shapes.items()})
                for name, shapes in profile.items()
            }
            for profile in wire["profiles"]
        ),
        compute_capabilities=tuple(wire["compute_capabilities"]),
        workspace_bytes=wire["workspace_bytes"],
        options=BuildOptions.from_dict(wire["options"]),
    )


def engine_to_wire(engine: BuiltEngine) -> dict[str, Any]:
    """Return a built engine as JSON-ready values."""
    return asdict(engine)


def engine_from_wire(wire: dict[str, Any]) -> BuiltEngine:
    """Rebuild what :func:`engine_to_wire` was given."""
    tensors = {name: _tensors(wire[name]) for name in ("inputs", "outputs")}
    return BuiltEngine(**{**wire, **tensors, "unproven": tuple(wire["unproven"])})


def _tensors(items: list[dict[str, Any]]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(item["name"], item["dtype"], tuple(item["shape"])) for item in items)
