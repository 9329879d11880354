"""Parse, configure, build and check with a TensorRT-like library, in this process.

TensorRT and TensorRT for RTX share the Python interface used here; each backend passes its own
module, with the settings that are its own already made.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from gspn2_deploy.build import trt_network
from gspn2_deploy.build.backend import BuildRequest, BuiltEngine
from gspn2_deploy.build.translate import ParserMessage, translate, translate_parser
from gspn2_deploy.runners.trt_log import make_logger
from gspn2_deploy.runners.trt_tensors import engine_interface

# Said without a GPU at every turn; never the cause of anything.
_NOISE = re.compile(r"catchCudaError|Thread context has not been set")
_FATAL_WARNING = "CUDA initialization failure"  # TensorRT 8 logs it so, and starts no builder
_ACTIVATION_BYTES = re.compile(r"Total Activation Memory: (\d+) bytes")
_NO_GPU = re.compile(r"cudaError (\d+): ([^)]*)")
# Nine tenths of a build pass in this phase's one step, and not with what its name says.
_LONGEST_PHASE = "Determining refit engines"
_COMPILING = "compiling the network"
_TRACE = 5  # below DEBUG: the library's verbose level is thousands of lines for one op
_ERRORS = ("INTERNAL_ERROR", "ERROR")
# By severity; all else is for debugging, as are errors: they become exceptions with a cause.
_LEVELS = {"WARNING": logging.INFO, "VERBOSE": _TRACE}


class Session:
    """A builder with its logger, whose messages are kept and passed on.

    Args:
        trt: The engine library's module.
        channel: A :class:`gspn2_deploy.build.worker.Channel`.
    """

    def __init__(self, trt: ModuleType, channel: Any) -> None:
        self.trt = trt
        self.channel = channel
        self.errors: list[str] = []
        self.activation_bytes: int | None = None
        self.logger = make_logger(trt, self._hear)
        try:
            self.builder = trt.Builder(self.logger)
        except TypeError:  # how its bindings say that there is none
            raise translate(self.take_errors(), "start its builder") from None
        self.network = self.builder.create_network(1 << int(self._network_flag()))

    def take_errors(self) -> list[str]:
        """Return what was logged as an error since the last call."""
        taken, self.errors[:] = list(self.errors), []
        return taken

    def _network_flag(self) -> Any:
        return self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED

    def _hear(self, severity: str, text: str) -> None:
        if (severity in _ERRORS and not _NOISE.search(text)) or _FATAL_WARNING in text:
            self.errors.append(text)
        if found := _ACTIVATION_BYTES.search(text):
            self.activation_bytes = int(found[1])
        self.channel.log(_LEVELS.get(severity, logging.DEBUG), text)

    def make_monitor(self) -> Any:
        """Return a progress monitor: the root phase gives the fraction, the deepest the detail."""
        session = self

        class Monitor(self.trt.IProgressMonitor):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.root = ""
                self.steps = 1
                self.fraction = 0.0

            def phase_start(self, name: str, parent: str | None, steps: int) -> None:
                if not parent:
                    self.root, self.steps = name, max(steps, 1)
                detail = _COMPILING if name == _LONGEST_PHASE else name
                session.channel.progress(self.fraction, detail, important=name == _LONGEST_PHASE)

            def phase_finish(self, name: str) -> None:
                pass

            def step_complete(self, name: str, step: int) -> bool:
                if name == self.root:
                    self.fraction = min(1.0, (step + 1) / self.steps)
                session.channel.progress(self.fraction, None)
                return True  # a build is cancelled by ending its process

        return Monitor()


def build(
    session: Session,
    config: Any,
    request: BuildRequest,
    *,
    cuda_version: str | None = None,
    model: bytes | None = None,
) -> BuiltEngine:
    """Build the plan and write it.

    Args:
        session: A fresh session.
        config: A builder configuration with the backend's own settings.
        request: What to build.
        cuda_version: The CUDA version that the library was made for, if known.
        model: The file's model as it is to be parsed, where that differs from the file.

    Returns:
        What the plan holds.

    Raises:
        BuildError: The file was refused, the network is not what the file says, or the build or
            the check of its plan failed.
    """
    trt = session.trt
    parse(session, request.onnx_path, model)
    summary = trt_network.summarise(trt, session.network)
    trt_network.check(summary, request)
    configure(session, config, request)
    monitor = session.make_monitor()
    config.progress_monitor = monitor
    plan = build_plan(session, config, request)
    return BuiltEngine(
        library_version=trt.__version__,
        cuda_version=cuda_version,
        driver_version=driver_version(),
        inputs=summary.inputs,
        outputs=summary.outputs,
        layer_dtypes=summary.layer_dtypes,
        activation_bytes=session.activation_bytes,
        unproven=check_plan(session, plan, request),
    )


def parse(
    session: Session,
    path: Path,
    model: bytes | None = None,
    *,
    flags: Sequence[Any] = (),
    has_plugins: bool = False,
) -> None:
    """Parse a file into the session's network.

    Args:
        session: A session whose network is empty.
        path: The file.
        model: Its model where that is to differ; external weights are still found by the path.
        flags: The parser's flags to set.
        has_plugins: Whether propagations are to become plugin layers.

    Raises:
        BuildError: The parser refused it.
    """
    parser = session.trt.OnnxParser(session.network, session.logger)
    for flag in flags:
        parser.set_flag(flag)
    parsed = parser.parse_from_file(str(path)) if model is None else parser.parse(model, str(path))
    if parsed and parser.num_errors == 0:
        session.take_errors()
        return
    raw = session.take_errors()
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    messages = [_parser_message(error, path, model) for error in found]
    if not messages:
        raise translate(raw, "parse the ONNX file")
    raise translate_parser(messages, raw, has_plugins=has_plugins)


def _parser_message(error: Any, path: Path, model: bytes | None) -> ParserMessage:
    if hasattr(error, "node_name"):
        name, op_type = error.node_name(), error.node_operator()
    else:  # before 10 an error knows the node's number alone
        name, op_type = _node_at(error.node(), path, model)
    return ParserMessage(
        error.code().name, error.desc().strip(), op_type or "", name or f"node {error.node()}"
    )


def _node_at(index: int, path: Path, model: bytes | None) -> tuple[str, str]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        content = path.read_bytes() if model is None else model
        nodes = onnx.load_from_string(content).graph.node
    except (OSError, DecodeError):
        return "", ""
    if not 0 <= index < len(nodes):
        return "", ""
    return nodes[index].name, nodes[index].op_type


def configure(session: Session, config: Any, request: BuildRequest) -> None:
    """Set the workspace limit and the profiles that a request asks for.

    Raises:
        BuildError: The library refuses a profile.
    """
    if request.workspace_bytes is not None:
        pool = session.trt.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, request.workspace_bytes)
    for profile in request.profiles:
        wanted = session.builder.create_optimization_profile()
        for name, shapes in profile.items():
            wanted.set_shape(name, shapes.min, shapes.opt, shapes.max)
        if config.add_optimization_profile(wanted) < 0:
            raise translate(session.take_errors(), "use a profile")


def build_plan(session: Session, config: Any, request: BuildRequest) -> Any:
    """Build the session's network, and write the plan to where the request wants it.

    Returns:
        The plan; what the library complained about while it succeeded is taken from the session.

    Raises:
        BuildError: The library gave no plan.
    """
    plan = session.builder.build_serialized_network(session.network, config)
    if plan is None:
        raise translate(session.take_errors(), "build the engine")
    with request.plan_path.open("wb") as stream:
        stream.write(plan)
        stream.flush()
        os.fsync(stream.fileno())
    session.take_errors()
    return plan


def check_plan(session: Session, plan: Any, request: BuildRequest) -> tuple[str, ...]:
    """Load the plan that was just built, as far as this machine can.

    Without a GPU the library checks a plan's header and size and gives up; with one that the
    plan was built for, the loaded engine's inputs and outputs are held against the file's.

    Args:
        session: The session that built it.
        plan: The plan.
        request: What it was built from.

    Returns:
        What could not be checked here, one sentence each.

    Raises:
        BuildError: The plan is damaged, or the engine differs from the file.
    """
    trt = session.trt
    engine = trt.Runtime(session.logger).deserialize_cuda_engine(plan)
    errors = session.take_errors()
    if engine is not None:
        trt_network.check_interface(*engine_interface(trt, engine), request)
        return ("the engine was loaded but not run",)
    if any("erialization" in text for text in errors):
        raise translate(errors, "load the plan that it built")
    reason = next((found[2] for text in errors if (found := _NO_GPU.search(text))), None)
    return (
        "the plan was not loaded or run: no GPU here that it was built for "
        f"({reason or '; '.join(errors) or 'no reason given'}); its header and size are sound",
    )


def driver_version() -> str | None:
    """Return the CUDA version of this machine's driver, as in ``13.0``; None without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0 or version.value == 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
