"""The raw texts are TensorRT for RTX 1.7.1's own, but for the one that only TensorRT logs."""

from __future__ import annotations

import pytest

from gspn2_deploy.build.translate import ParserMessage, translate, translate_parser

WORKSPACE = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([tactic.cpp:1676: enumerate_tactics] "
    "Tactic Selection: no tactics to implement the operation within workspace limit. Consider "
    "increase the allowed workspace size if applicable.; [tactic.cpp:264: run] Error during tactic "
    "selection. In compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)"
)
BF16 = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:1500: run_passes] Cannot "
    "compile for target(s) sm75, because the model contains HW-specific datatypes: b16. In "
    "compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)"
)
TYPES = (
    "ITensor::getDimensions: Error Code 4: API Usage Error (node_of_y: ElementWiseOperation SUM "
    "must have same input types. But they are of types Float and Half. In validateTypes at "
    "/_src/optimizer/common/nodes/elementWiseNode.cpp:40)"
)
RESHAPE = (
    "IBuilder::buildSerializedNetwork: Error Code 4: Internal Error (kOPT values for profile 0 "
    "violate shape constraints: IShuffleLayer node_of_y: reshaping failed for tensor: r reshape "
    "would change volume 24576 to 6144 In executeReshape at /_src/runtime/core/shapeMachine.cpp:348"
    " In evaluateShapeChecks at /_src/optimizer/common/shapeCompiler.cpp:1375)"
)
NO_PROFILE = (
    "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network has dynamic or shape "
    "inputs, but no optimization profile has been defined. In validate at "
    "/_src/optimizer/api/network.cpp:4023)"
)
PROFILE_DIMS = (
    "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Dimension mismatch for "
    "tensor images and profile 0. At dimension axis 2, profile has min=16, opt=16, max=16 but "
    "tensor has 32. In validate at /_src/optimizer/api/network.cpp:4054)"
)
PROFILE_RANK = (
    "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Dynamic-shaped input tensor "
    "images has 4 dimensions but profile 0 has 3 dimensions. In validate at "
    "/_src/optimizer/api/network.cpp:4048)"
)
TRUNCATED = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
    "plan.header.size == blobSize failed. In parsePlan at /_src/runtime/dispatch/runtime.cpp:780)"
)
NO_DRIVER = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (In ScopedCudaStream at "
    "/_src/common/dispatch/cudaResources.cpp:25 (cudaError 35: CUDA driver version is insufficient "
    "for CUDA runtime version))"
)
WEIGHTS = "WeightsContext.cpp:203: Failed to open file: ext.data"
NO_IMPLEMENTATION = "Error Code 10: Could not find any implementation for node {ForeignNode[a]}"


@pytest.mark.parametrize(
    ("raw", "problem", "hint"),
    [
        (WORKSPACE, "workspace limit", "--workspace"),
        (NO_IMPLEMENTATION, "ran out of memory", "--workspace"),
        (BF16, "target sm75 lacks a number format", "--precision"),
        (TYPES, "layer node_of_y mixes", "cast"),
        (RESHAPE, "would change volume 24576 to 6144", "dynamic"),
        (NO_PROFILE, "no profile", "--profile"),
        (PROFILE_DIMS, "axis 2, profile has min=16", "--profile"),
        (PROFILE_RANK, "images has 4 dimensions but profile 0 has 3", "--profile"),
        (TRUNCATED, "plan is damaged", "build the plan again"),
        (NO_DRIVER, "needs a GPU", "compute capabilities"),
        (WEIGHTS, "weights cannot be read", "one folder"),
    ],
)
def test_known_errors_get_a_cause_and_a_mend(raw: str, problem: str, hint: str):
    error = translate([raw], "build the engine")
    assert problem in error.problem
    assert "/_src/" not in error.problem
    assert hint in str(error.hint)
    assert error.raw == (raw,)


def test_unknown_error_shows_the_first_line():
    error = translate(["something new", "and more"], "build the engine")
    assert error.problem == "TensorRT could not build the engine"
    assert error.got == "something new"


def test_silence():
    assert translate([], "build the engine").got == "no message"


NO_PLUGIN = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'


@pytest.mark.parametrize(
    ("message", "problem", "hint"),
    [
        (
            ParserMessage("INVALID_NODE", NO_PLUGIN, "GspnProp2D", "node 1"),
            "lost the body of GspnProp2D",
            "export again",
        ),
        (
            ParserMessage("INVALID_NODE", NO_PLUGIN, "Sharpen", "node 2"),
            "has no op Sharpen",
            "replace it",
        ),
        (
            ParserMessage(
                "INVALID_NODE",
                "node.input().size() == function.input().size()",
                "GspnProp2D",
                "p1",
            ),
            "omits inputs",
            "export again",
        ),
        (
            ParserMessage("UNSUPPORTED_NODE", "false", "Det", "node 0"),
            "does not support Det",
            "replace it",
        ),
        (ParserMessage("INVALID_NODE", TYPES, "Add", "sum"), "mixes number formats", "cast"),
        (
            ParserMessage("INVALID_NODE", "Assertion failed: nchan", "Conv", "c1"),
            "refused a node",
            "--debug",
        ),
        (
            ParserMessage(
                "MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model.", "", "node -1"
            ),
            "ONNX file is damaged",
            "export",
        ),
    ],
)
def test_parser_errors(message: ParserMessage, problem: str, hint: str):
    error = translate_parser([message], ["raw"])
    assert problem in error.problem
    assert hint in str(error.hint)
    if message.op_type:
        assert message.node in str(error.got)
    assert error.raw == ("raw",)
