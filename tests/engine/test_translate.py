"""The raw texts are TensorRT for RTX 1.7.1's own, or TensorRT 8.6's where that is said."""

from __future__ import annotations

import os
from mmap import ACCESS_READ, mmap
from pathlib import Path

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
LEAN = (
    "IBuilder::buildSerializedNetwork: Error Code 6: API Usage Error (Unable to load library: "
    "libnvinfer_lean.so.1: libnvinfer_lean.so.1: cannot open shared object file: No such file or "
    "directory In Impl at /_src/runtime/dispatch/libLoader.cpp:305)"
)
NO_CREATOR_11 = (
    "IPluginRegistry::getCreator: Error Code 4: API Usage Error (Cannot find plugin: GspnProp2D, "
    "version: 1, namespace:.)"
)
# TensorRT 8.6's, put together of the constant texts in its library.
NO_CREATOR_8 = "3: getPluginCreator could not find plugin: GspnProp2D version: 1"
NOT_REGISTERED_8 = (
    "1: [pluginV2Runner.cpp::load::303] Error Code 1: Serialization (Serialization assertion "
    "creator failed.Cannot deserialize plugin since corresponding IPluginCreator not found in "
    "Plugin Registry)"
)
VERSION_8 = (
    "6: The engine plan file is not compatible with this version of TensorRT, expecting library "
    "version 8.6.0 got 8.5.3, please rebuild."
)
GPU_8 = (
    "6: The engine plan file is generated on an incompatible device, expecting compute 9.0 got "
    "compute 8.6, please rebuild."
)
OLDER_GPU_8 = (
    "6: The current device is not compatible with this hardware-compatible engine. Expected "
    "compute capability >= 8.0 but got compute capability = 7.5"
)
HOST_CODE_8 = (
    "3: Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed() is "
    "false."
)
EMBEDDED_8 = "deserializeCudaEngineEx: Failed to deserialize plugin library with size 63240"
MAJOR_8 = "TensorRT plan major version does not match runtime major version."
CONSTRAINED_8 = (
    "9: [standardEngineBuilder.cpp::buildEngine::2266] Error Code 9: Internal Error (No "
    "implementation of layer conv_7x7 obeys the requested constraints. I.e. no conforming "
    "implementation was found for requested layer computation precision and output precision. "
    "kOBEY_PRECISION_CONSTRAINTS was set, so treating as error.)"
)
ALLOCATION_8 = (
    "2: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory); Requested "
    "amount of GPU memory (85899345920 bytes) could not be allocated. There may not be enough free "
    "memory for allocation to succeed."
)
DRIVER_8 = (
    "CUDA initialization failure with error: 35. Please check your CUDA installation:  "
    "http://docs.nvidia.com/cuda/cuda-installation-guide-linux/index.html"
)
CUDA_8 = DRIVER_8.replace("35", "999")
HARDWARE_8 = "Hardware-compatible engines are only supported on Ampere and beyond."
PLUGIN_SHAPE = (
    "gspn2 plugin, getOutputDimensions: GspnProp2D: the input lam has extent 3 on axis 1; expected "
    "4"
)
PLUGIN_STATE = (
    "gspn2 plugin, deserializePlugin: GspnProp2D: the engine's plugin state has format 2, this "
    "library reads format 1; rebuild the engine, or load the plugin library that the engine was "
    "built with"
)
PLUGIN_STATE_V3 = PLUGIN_STATE.replace("deserializePlugin", "createPlugin")
PLUGIN_RUN = "gspn2 plugin, enqueue: GspnProp2D: no kernel image is available"
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
        (LEAN, "lean runtime, which is not installed", "--exclude-lean-runtime"),
        (NO_CREATOR_11, "no plugin of the name GspnProp2D is registered", "load_plugin"),
        (NO_CREATOR_8, "no plugin of the name GspnProp2D is registered", "load_plugin"),
        (NOT_REGISTERED_8, "holds a plugin that is not registered", "GSPN2_TENSORRT_PLUGIN"),
        (VERSION_8, "built by TensorRT 8.5.3, and this is 8.6.0", "--version-compatible"),
        (GPU_8, "compute capability 8.6, and this GPU has 9.0", "--hardware-compatibility"),
        (OLDER_GPU_8, "compute capability 8.0 and later, and this GPU has 7.5", "on this GPU"),
        (HOST_CODE_8, "they are not allowed", "engine_host_code_allowed"),
        (EMBEDDED_8, "plugin library in the plan does not load", "--embed-plugin"),
        (MAJOR_8, "built by another version", "the version that loads it"),
        (CONSTRAINED_8, "the layer conv_7x7 in the file's precision", "prefer"),
        (ALLOCATION_8, "ran out of memory", "largest shape"),
        (DRIVER_8, "needs a GPU with a recent driver", "update the driver"),
        (CUDA_8, "does not start here (error 999)", "nvidia-smi"),
        (HARDWARE_8, "compute capability 8.0 or later", "later GPU"),
        (PLUGIN_SHAPE, "refuses a propagation: GspnProp2D: the input lam", "export again"),
        (PLUGIN_STATE, "format 2, this library reads format 1", "build the plan again"),
        (PLUGIN_STATE_V3, "format 2, this library reads format 1", "build the plan again"),
        (PLUGIN_RUN, "the plugin failed: GspnProp2D: no kernel image", "--debug"),
    ],
)
def test_known_errors_get_a_cause_and_a_mend(raw: str, problem: str, hint: str):
    error = translate([raw], "build the engine")
    assert problem in error.problem
    assert "/_src/" not in error.problem
    assert hint in str(error.hint)
    assert error.raw == (raw,)


def test_the_plugins_words_come_before_what_tensorrt_makes_of_them():
    error = translate([NOT_REGISTERED_8, NO_IMPLEMENTATION, PLUGIN_STATE], "load the plan")
    assert "format 2" in error.problem


TENSORRT_8_TEXTS = [
    "getPluginCreator could not find plugin: ",
    "Cannot deserialize plugin since corresponding IPluginCreator not found in Plugin Registry",
    "The engine plan file is not compatible with this version of TensorRT, expecting library",
    "The engine plan file is generated on an incompatible device, expecting compute ",
    "The current device is not compatible with this hardware-compatible engine. Expected compute",
    "Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed()",
    "deserializeCudaEngineEx: Failed to deserialize plugin library with size ",
    "TensorRT plan major version does not match runtime major version.",
    " obeys the requested constraints. I.e. no conforming implementation was found",
    " bytes) could not be allocated. There may not be enough free memory",
    "Hardware-compatible engines are only supported on Ampere and beyond.",
    "Could not find any implementation for node ",
    " due to insufficient workspace.",
]


@pytest.mark.tensorrt
def test_the_texts_of_8_are_in_its_library():
    folder = os.environ.get("TENSORRT_LIB_DIR")
    library = Path(folder or "") / "libnvinfer.so.8"
    if not folder or not library.is_file():
        pytest.skip("TENSORRT_LIB_DIR names no folder with libnvinfer.so.8")
    with library.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
        missing = [text for text in TENSORRT_8_TEXTS if content.find(text.encode()) < 0]
    assert missing == []


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


def test_with_plugins_a_lost_body_is_not_the_cause():
    message = ParserMessage("INVALID_NODE", NO_PLUGIN, "GspnProp2D", "p1")
    error = translate_parser([message], [], has_plugins=True)
    assert "does not find the plugin GspnProp2D" in error.problem
    assert error.expected == "version 1, namespace ''"


def test_what_the_plugin_refuses_is_said_with_the_node():
    message = ParserMessage(
        "INVALID_NODE", 'plugin && "Could not create plugin"', "GspnProp2D", "p1"
    )
    error = translate_parser([message], [PLUGIN_SHAPE], has_plugins=True)
    assert error.problem.endswith("the input lam has extent 3 on axis 1; expected 4")
    assert error.got == "GspnProp2D (p1)"
