"""The builder's doubles have TensorRT's names: those of its headers, and of its bindings."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builder_fakes import (
    CONFIG_SINCE_86,
    ENUMS,
    SEVERITIES,
    Builder,
    Config,
    Context,
    Engine,
    Inspector,
    Layer,
    Network,
    Parser,
    Runtime,
    TimingCache,
    fake_builder,
)

HEADERS = Path("/opt/tensorrt")
VERSIONS = {path.name: ".".join(path.name.split(".")[:2]) for path in HEADERS.glob("*")}
# Methods and attributes of the doubles that steer or record, and are not TensorRT's.
RECORDS = {"trt", "profiles", "sources", "features", "pools", "cache", "content", "shapes", "add"}
RECORDS |= {"layers", "inputs", "outputs", "tensors", "output_types", "strongly_typed", "errors"}
RECORDS |= {"network", "profile", "engine", "version", "resolved"}
DOUBLES = {
    "IBuilderConfig": Config,
    "Builder": Builder,
    "INetworkDefinition": Network,
    "OnnxParser": Parser,
    "Runtime": Runtime,
    "ICudaEngine": Engine,
    "IExecutionContext": Context,
    "EngineInspector": Inspector,
    "ITimingCache": TimingCache,
    "ILayer": Layer,
}
# 11 has no weak typing: the backend touches neither of these there.
WEAK_ONLY = {"precision", "set_output_type"}

SCRIPT = """
import importlib, json, sys
trt = importlib.import_module(sys.argv[1])
names = json.loads(sys.argv[2])
report = {name: [n for n in dir(getattr(trt, name)) if n[0] != "_"] for name in names["classes"]}
for name in names["enums"]:
    report[name] = list(getattr(trt, name).__members__) if hasattr(trt, name) else []
print(json.dumps(report))
"""


def header_enumerators(folder, name):
    for header in ("NvInfer.h", "NvInferRuntime.h", "NvInferRuntimeBase.h"):
        text = (folder / "include" / header).read_text()
        found = re.search(rf"enum class {name} : \w+\s*\{{(.*?)\n\}};", text, re.DOTALL)
        if found:
            return re.findall(r"^\s*k(\w+)\s*(?:TRT_\w+\s*)?(?:=|,)", found[1], re.MULTILINE)
    return []


@pytest.mark.parametrize("folder", sorted(VERSIONS) or [None])
def test_enumerators_are_those_of_the_headers(folder):
    if folder is None:
        pytest.skip(f"no TensorRT headers under {HEADERS}")
    for name, items in ENUMS[VERSIONS[folder]].items():
        assert header_enumerators(HEADERS / folder, name) == items.split(), name


def used_names(double):
    """What a double offers of TensorRT: its methods, properties and settable attributes."""
    names = {name for name in vars(double) if not name.startswith("_")}
    if double is Config:
        names |= {"avg_timing_iterations", "profiling_verbosity", *CONFIG_SINCE_86}
    if double is Runtime:
        names |= {"engine_host_code_allowed"}
    if double is Inspector:
        names |= {"execution_context"}
    if double is Layer:
        names |= {"name", "type", "metadata", "num_outputs", "precision"}
    return names - RECORDS


def bindings(python, module, site):
    names = {"classes": list(DOUBLES), "enums": list(ENUMS["8.6"])}
    command = [python, "-c", SCRIPT, module, json.dumps(names)]
    environment = {**os.environ, "PYTHONPATH": site} if site else dict(os.environ)
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_names_are_those_of_the_bindings_of_8():
    python, site = os.environ.get("TENSORRT_PYTHON"), os.environ.get("TENSORRT_SITE")
    if not python or not site:
        pytest.skip("TENSORRT_PYTHON and TENSORRT_SITE name no Python with TensorRT 8")
    found = bindings(python, "tensorrt", site)
    for name, double in DOUBLES.items():
        assert not used_names(double) - set(found[name]), name
    for name, items in ENUMS["8.6"].items():
        assert set(found[name]) == set(items.split()), name
    assert "progress_monitor" not in found["IBuilderConfig"]
    assert not hasattr(fake_builder("8.6"), "IProgressMonitor")


@pytest.mark.tensorrt
def test_names_are_those_of_the_bindings_of_11():
    # TensorRT for RTX 1.7 has TensorRT 11's interface, but for DLA and what needs plugins.
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    found = bindings(sys.executable, "tensorrt_rtx_bindings", None)
    for name, double in DOUBLES.items():
        assert not used_names(double) - set(found[name]) - WEAK_ONLY, name
    assert set(found["BuilderFlag"]) >= set(ENUMS["11.1"]["BuilderFlag"].split())
    for name in ("TacticSource", "HardwareCompatibilityLevel", "PreviewFeature"):
        assert set(found[name]) == set(ENUMS["11.1"][name].split()), name
    assert "progress_monitor" in found["IBuilderConfig"]


def test_doubles_take_no_unknown_attribute():
    config = Config(fake_builder("8.5"))
    with pytest.raises(AttributeError, match="hardware_compatibility_level"):
        config.hardware_compatibility_level = 1


def test_severities_have_their_numbers():
    assert SEVERITIES.split()[1] == "ERROR"
