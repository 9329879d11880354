"""TensorRT's raw errors, translated into a cause and how to mend it.

The patterns are texts that TensorRT for RTX 1.7 prints; those of TensorRT are worded alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gspn2_deploy.errors import BuildError
from gspn2_deploy.spec import OP_TYPES


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


@dataclass(frozen=True)
class _Rule:
    pattern: str
    problem: str  # {0}: the pattern's first group
    hint: str


_RULES = (
    _Rule(
        r"within workspace limit|[Ii]nsufficient workspace",
        "no implementation of a layer fits into the workspace limit",
        "raise --workspace, or leave it out",
    ),
    _Rule(
        r"Could not find any implementation",
        "TensorRT found no implementation of a layer; more often than not it ran out of memory",
        "raise --workspace, lower the profile's largest shape, or free GPU memory",
    ),
    _Rule(
        r"[Oo]ut of memory|OutOfMemory|MEM_ALLOC_FAILED|bad_alloc|cudaErrorMemoryAllocation",
        "the build ran out of memory",
        "free memory, or lower the profile's largest shape",
    ),
    _Rule(
        r"Cannot compile for target\(s\) (\S+?), because the model contains HW-specific datatypes",
        "the target {0} lacks a number format that the model uses",
        "export with --precision fp16 or fp32 for that GPU",
    ),
    _Rule(
        r"([^\s(]+): \w+ \w+ must have same input types",
        "layer {0} mixes number formats",
        "cast one of its inputs in the model, or export again with one precision",
    ),
    _Rule(
        r"violate shape constraints: (.+?)(?: In \w+ at |$)",
        "the file fixes a shape that the profile varies: {0}",
        "export with that axis dynamic (its example must not be 1 there), or give a profile "
        "that keeps the exported shape",
    ),
    _Rule(
        r"no optimization profile has been defined",
        "the model has dynamic inputs and no profile",
        "give --profile NAME=MIN:OPT:MAX",
    ),
    _Rule(
        r"(tensor \S+ (?:has \d+ dimensions )?(?:and|but) profile .+?)(?: In \w+ at |$)",
        "a profile does not fit an input: {0}",
        "correct --profile; gspn2-deploy inspect shows the inputs",
    ),
    _Rule(
        r"external weights|Failed to open file|Failed to import initializer",
        "the ONNX file's weights cannot be read",
        "keep the ONNX file and its data file in one folder, or export again",
    ),
    _Rule(
        r"Failed to parse the ONNX model|MODEL_DESERIALIZE_FAILED",
        "the ONNX file is damaged",
        "export the model again",
    ),
    _Rule(
        r"kEXPECTED_MAGIC_TAG|Serialization assertion|incompatible serialization|readHeader",
        "the plan is damaged, or another version's",
        "build the plan again with the version that loads it",
    ),
    _Rule(
        r"CUDA driver version is insufficient|cudaErrorNoDevice|no CUDA-capable device",
        "this needs a GPU with a recent driver",
        "build for named compute capabilities, which needs no GPU, or update the driver",
    ),
)


def translate(raw: Sequence[str], doing: str) -> EngineLibraryError:
    """Make one error of what a library logged.

    Args:
        raw: Its error messages, in order.
        doing: What it was asked to do ("build the engine").
    """
    for rule in _RULES:
        for text in raw:
            if found := re.search(rule.pattern, text):
                problem = rule.problem.format(*found.groups())
                return EngineLibraryError(problem, raw, hint=rule.hint)
    return EngineLibraryError(
        f"TensorRT could not {doing}",
        raw,
        got=raw[0] if raw else "no message",
        hint="run again with --debug for everything it said",
    )


def translate_parser(messages: Sequence[ParserMessage], raw: Sequence[str]) -> EngineLibraryError:
    """Make one error of what the ONNX parser reported.

    Args:
        messages: Its errors, at least one.
        raw: What the library logged meanwhile.
    """
    first = messages[0]
    node = f"{first.op_type} ({first.node})"
    if "Plugin not found" in first.text or "No importer registered" in first.text:
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
