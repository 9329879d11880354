"""What TensorRT's raw errors mean, and how to mend them: for the builder and the runner.

The patterns are texts of TensorRT 8.6 and of TensorRT for RTX 1.7, whose sources are those of
TensorRT 11. Where the two word an error differently, the pattern takes both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PLUGIN_MESSAGE = "gspn2 plugin, "  # how every message of the plugin library begins


@dataclass(frozen=True)
class Cause:
    """Why TensorRT failed.

    Args:
        problem: The cause, in one sentence.
        hint: How to mend it.
        text: The message that says so.
    """

    problem: str
    hint: str
    text: str


@dataclass(frozen=True)
class _Rule:
    pattern: str
    problem: str  # {0}, {1}: the groups of the pattern that matched
    hint: str


_RULES = (
    # The plugin's own words say more than what TensorRT makes of its refusal.
    _Rule(
        r"gspn2 plugin, \w+: (.*the engine(?:'s plugin state| holds).*)",
        "the plugin library cannot read what the plan holds: {0}",
        "build the plan again, or load the plugin library that it was built with",
    ),
    _Rule(
        r"gspn2 plugin, (?:createPlugin|getOutput(?:Dimensions|Shapes)|supportsFormat\w*): (.+)",
        "the plugin refuses a propagation: {0}",
        "export again with gspn2-deploy: a node's shapes, types or attributes are not the op's",
    ),
    _Rule(
        r"gspn2 plugin, \w+: (.+)",
        "the plugin failed: {0}",
        "run again with --debug and report what it says",
    ),
    _Rule(
        r"could not find plugin:? (\S+)|Cannot find plugin: (\S+?)[,.]?(?: |$)",
        "no plugin of the name {0} is registered",
        "load the plugin library before the plan: load_plugin in Python, trtexec "
        "--dynamicPlugins, or name it in GSPN2_TENSORRT_PLUGIN",
    ),
    _Rule(
        r"IPluginCreator(?:Interface)? not found in Plugin Registry",
        "the plan holds a plugin that is not registered",
        "load the plugin library before the plan: load_plugin in Python, trtexec "
        "--dynamicPlugins, or name it in GSPN2_TENSORRT_PLUGIN",
    ),
    _Rule(
        r"Failed to deserialize plugin library",
        "the plugin library in the plan does not load",
        "load it on the system and processor that it was built for, or build without "
        "--embed-plugin",
    ),
    _Rule(
        r"expecting library version (\S+) got (\S+?),? please rebuild",
        "the plan was built by TensorRT {1}, and this is {0}",
        "build it again here, or with --version-compatible by an older TensorRT of this major "
        "version",
    ),
    _Rule(
        r"plan major version does not match|Version tag does not match",
        "the plan was built by another version of TensorRT",
        "build it again with the version that loads it",
    ),
    _Rule(
        r"expecting compute (\S+) got compute (\S+?),? please rebuild",
        "the plan was built for compute capability {1}, and this GPU has {0}",
        "build it on a GPU like the one that runs it, or with --hardware-compatibility ampere-plus",
    ),
    _Rule(
        r"Expected compute capability >= ?(\S+) but got compute capability = ?(\S+)",
        "the plan runs on compute capability {0} and later, and this GPU has {1}",
        "build the plan on this GPU",
    ),
    _Rule(
        r"Hardware-compatible engines are only supported on",
        "a hardware-compatible plan is built on compute capability 8.0 or later",
        "build on a later GPU, or without --hardware-compatibility",
    ),
    _Rule(
        r"getEngineHostCodeAllowed\(\) is false",
        "the plan carries libraries that the host is to run, and they are not allowed",
        "set the runtime's engine_host_code_allowed for a plan from a source that you trust",
    ),
    _Rule(
        r"libnvinfer_lean|lean runtime",
        "a version-compatible plan carries TensorRT's lean runtime, which is not installed",
        "install libnvinfer_lean beside libnvinfer, or add --exclude-lean-runtime",
    ),
    _Rule(
        r"(?:layer (\S+) )?obeys the requested constraints",
        "no kernel of TensorRT computes the layer {0} in the file's precision",
        "allow another one by --precision-constraints prefer, more kernels by --tactic-source "
        "cudnn, or keep the layer in fp32 at export",
    ),
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
        r"[Oo]ut of memory|OutOfMemory|MEM_ALLOC_FAILED|bad_alloc|cudaErrorMemoryAllocation"
        r"|could not be allocated|Device memory is insufficient|memory allocation failed",
        "TensorRT ran out of memory",
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
        r"CUDA driver version is insufficient|cudaErrorNoDevice|no CUDA-capable device"
        r"|CUDA initialization failure with error: (?:35|100)\b",
        "this needs a GPU with a recent driver",
        "build for named compute capabilities, which needs no GPU, or update the driver",
    ),
    _Rule(
        r"CUDA initialization failure with error: (\d+)",
        "CUDA does not start here (error {0})",
        "see that nvidia-smi lists the GPU and that this process may use it",
    ),
)


def find_cause(raw: Sequence[str]) -> Cause | None:
    """Return the cause of a failure; None where no text says one that is known.

    Args:
        raw: What was logged as an error, in order.
    """
    for rule in _RULES:
        for text in raw:
            if found := re.search(rule.pattern, text):
                # Of a pattern's alternatives one has matched; what it does not name stays blank.
                groups = [group for group in found.groups() if group is not None]
                blanks = [""] * rule.problem.count("{")
                problem = " ".join(rule.problem.format(*groups, *blanks).split())
                return Cause(problem, rule.hint, text)
    return None
