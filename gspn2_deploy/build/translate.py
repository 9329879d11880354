"""TensorRT's raw errors, translated into a build's error with a cause and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gspn2_deploy.errors import BuildError
from gspn2_deploy.runners.trt_causes import PLUGIN_MESSAGE, find_cause
from gspn2_deploy.spec import OP_TYPES, PLUGIN_NAMESPACE, PLUGIN_TYPES, PLUGIN_VERSION


class EngineLibraryError(BuildError):
    """The engine library refused a file or failed.

    Args:
        problem: The cause, in one sentence.
        raw: What the library said, line by line.
        got: What was given.
        expected: What would have been accepted.
        hint: How to mend it.
    """

    def __init__(
        self,
        problem: str,
        raw: Sequence[str] = (),
        *,
        got: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        self.raw = tuple(raw)
        super().__init__(problem, got=got, expected=expected, hint=hint)


@dataclass(frozen=True)
class ParserMessage:
    """One error of the ONNX parser.

    Args:
        code: Its code's name, as in ``UNSUPPORTED_NODE``.
        text: What it says.
        op_type: The node's op type; empty when it is not about a node.
        node: The node's name or index.
    """

    code: str
    text: str
    op_type: str
    node: str


def translate(raw: Sequence[str], doing: str) -> EngineLibraryError:
    """Make one error of what a library logged.

    Args:
        raw: Its error messages, in order.
        doing: What it was asked to do ("build the engine").
    """
    if cause := find_cause(raw):
        return EngineLibraryError(cause.problem, raw, hint=cause.hint)
    return EngineLibraryError(
        f"TensorRT could not {doing}",
        raw,
        got=raw[0] if raw else "no message",
        hint="run again with --debug for everything it said",
    )


def translate_parser(
    messages: Sequence[ParserMessage], raw: Sequence[str], *, has_plugins: bool = False
) -> EngineLibraryError:
    """Make one error of what the ONNX parser reported.

    Args:
        messages: Its errors, at least one.
        raw: What the library logged meanwhile.
        has_plugins: Whether propagations were to become plugin layers, and have no bodies.
    """
    first = messages[0]
    node = f"{first.op_type} ({first.node})"
    if any(PLUGIN_MESSAGE in text for text in raw):
        error = translate(raw, "parse the ONNX file")
        return EngineLibraryError(error.problem, raw, got=node, hint=error.hint)
    if "Plugin not found" in first.text or "No importer registered" in first.text:
        if first.op_type in PLUGIN_TYPES and has_plugins:
            return EngineLibraryError(
                f"TensorRT's parser does not find the plugin {first.op_type}",
                raw,
                got=node,
                expected=f"version {PLUGIN_VERSION}, namespace {PLUGIN_NAMESPACE!r}",
                hint="see that one TensorRT is installed, and GSPN2_TENSORRT_PLUGIN names a build "
                "for it",
            )
        if first.op_type in OP_TYPES:
            return EngineLibraryError(
                f"the file has lost the body of {first.op_type}",
                raw,
                got=node,
                expected="a model-local function of that name",
                hint="export again, and do not pass the file through an optimizer or converter",
            )
        return EngineLibraryError(
            f"TensorRT has no op {first.op_type}",
            raw,
            got=node,
            hint="replace it in the model by ops that TensorRT supports",
        )
    if "function.input().size()" in first.text:
        return EngineLibraryError(
            f"a call of {first.op_type} omits inputs that the function declares",
            raw,
            got=node,
            expected="a function that declares only what its calls give",
            hint="export again with gspn2-deploy, which writes such functions",
        )
    if first.code.startswith("UNSUPPORTED_NODE") and first.op_type:
        return EngineLibraryError(
            f"TensorRT does not support {first.op_type} as it is used here",
            raw,
            got=f"{node}: {first.text}",
            hint="replace it in the model, or change the shape or type that it is given",
        )
    known = translate([message.text for message in messages], "parse the ONNX file")
    if known.got is None:
        return EngineLibraryError(known.problem, raw, got=node, hint=known.hint)
    return EngineLibraryError(
        "TensorRT refused a node of the ONNX file" if first.op_type else known.problem,
        raw,
        got=f"{node}: {first.text}" if first.op_type else first.text,
        hint="export again; if it persists, run with --debug and report what it says",
    )
