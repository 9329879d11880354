"""The libraries inside the plugin registries of installed TensorRT versions.

Each runs in a process of its own: a registry belongs to its process, and a registered plugin
changes what other tests' parsers do.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_builds import EMBEDDABLE, LIBRARY, builds, parametrize_builds

from gspn2_deploy import spec

pytestmark = pytest.mark.tensorrt

FIELDS = {
    spec.PROP2D: [
        *spec.PROP2D_ATTRIBUTES,
        spec.PACKED_OFFSETS,
        spec.PACKED_GROUPS,
        spec.PACKED_CHANNELS,
    ],
    spec.LINE_SCAN: list(spec.LINE_SCAN_ATTRIBUTES),
    spec.CHANNEL_NORM: list(spec.CHANNEL_NORM_ATTRIBUTES),
    spec.DEPTHWISE: list(spec.DEPTHWISE_ATTRIBUTES),
    spec.DEPTHWISE_NORM: list(spec.DEPTHWISE_NORM_ATTRIBUTES),
}
PACKING = {spec.PACKED_OFFSETS: [-1, 0, 8, -1, 16], spec.PACKED_GROUPS: 1}
PACKING_OF_X = {
    spec.PACKED_OFFSETS: [28, 0, 8, -1, 16],
    spec.PACKED_GROUPS: 1,
    spec.PACKED_CHANNELS: 2,
}
SCAN_FIELDS = {"normalize": [mode.value for mode in spec.Normalize], "chunk": [0, 8]}
DEPTHWISE_FIELDS = {"activation": ["identity", "silu"], "residual": [0, 1]}
# Every value of each field, and what its plugin refuses.
GOOD_VALUES = {
    spec.PROP2D: SCAN_FIELDS,
    spec.LINE_SCAN: SCAN_FIELDS | {"direction": [item.value for item in spec.Direction]},
    spec.CHANNEL_NORM: {"epsilon": [0.0, 1e-5], "response_epsilon": [0.0, 1e-6]},
    spec.DEPTHWISE: DEPTHWISE_FIELDS,
    spec.DEPTHWISE_NORM: DEPTHWISE_FIELDS | {"epsilon": [0.0, 1e-5]},
}
GOOD_FIELDS = {
    name: [{key: value} for key, values in fields.items() for value in values]
    for name, fields in GOOD_VALUES.items()
}
GOOD_FIELDS[spec.PROP2D] += [PACKING, PACKING_OF_X]
BAD_SCAN_FIELDS = [
    {"normalize": "relu"},
    {"chunk": -1},
    {spec.PACKED_GROUPS: 1},
    {spec.PACKED_CHANNELS: 2},
]
BAD_DEPTHWISE_FIELDS = [{"activation": "relu"}, {"residual": 2}, {"kernel": 3}]
BAD_FIELDS = {
    spec.PROP2D: [*BAD_SCAN_FIELDS, {"direction": spec.Direction.LEFT_TO_RIGHT.value}],
    spec.LINE_SCAN: [*BAD_SCAN_FIELDS, PACKING],
    spec.CHANNEL_NORM: [{"epsilon": -1.0}, {"epsilon": 1}, {"eps": 1e-5}],
    spec.DEPTHWISE: [*BAD_DEPTHWISE_FIELDS, {"epsilon": 1e-5}],
    spec.DEPTHWISE_NORM: [*BAD_DEPTHWISE_FIELDS, {"epsilon": -1.0}, {"response_epsilon": 1e-6}],
}
# A field of each whose value an engine must keep.
NOT_DEFAULT = {
    spec.PROP2D: ("normalize", "softmax"),
    spec.LINE_SCAN: ("normalize", "softmax"),
    spec.CHANNEL_NORM: ("epsilon", 0.5),
    spec.DEPTHWISE: ("activation", "silu"),
    spec.DEPTHWISE_NORM: ("epsilon", 0.5),
}
REFUSALS = (
    'normalize is "relu"; expected one of sigmoid, softmax, none',
    "epsilon is -1; expected a finite float32 of at least 0",
    'activation is "relu"; expected one of identity, silu',
)

RTX_SCRIPT = """
import json, sys
import numpy as np
import tensorrt_rtx_bindings as trt
logger = trt.Logger(trt.Logger.INFO)
registry = trt.get_plugin_registry()
path, good, bad = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])

def create(creator, fields):
    made = []
    for name, value in fields.items():
        if isinstance(value, str):
            made.append(trt.PluginField(name, value.encode(), trt.PluginFieldType.CHAR))
        else:
            real = isinstance(value, float)
            numbers = np.array(value, dtype=np.float32 if real else np.int32, ndmin=1)
            kind = trt.PluginFieldType.FLOAT32 if real else trt.PluginFieldType.INT32
            made.append(trt.PluginField(name, numbers, kind))
    fields = trt.PluginFieldCollection(made)
    return creator.create_plugin("node", fields, trt.TensorRTPhase.BUILD) is not None

report = {"loaded": registry.load_library(path) is not None, "creators": {}}
for name in good:
    creator = registry.get_creator(name, "1", "")
    report["creators"][name] = {
        "fields": [field.name for field in creator.field_names],
        "refused": [fields for fields in good[name] if not create(creator, fields)],
        "taken": [fields for fields in bad[name] if create(creator, fields)],
    }
print(json.dumps(report))
"""

TENSORRT_8_SCRIPT = """
import array, ctypes, json, sys
import tensorrt as trt
logger = trt.Logger()
library = ctypes.CDLL(sys.argv[1])
library.initLibGspn2Plugins.restype = ctypes.c_bool
registered = [library.initLibGspn2Plugins(None, b"") for _ in range(2)]
report = {"registered": registered, "version": trt.__version__, "creators": {}}
for name, made in json.loads(sys.argv[2]).items():
    creator = trt.get_plugin_registry().get_plugin_creator(name, "1", "")
    if isinstance(made[1], str):
        field = trt.PluginField(made[0], made[1].encode(), trt.PluginFieldType.CHAR)
    else:
        field = trt.PluginField(made[0], array.array("f", [made[1]]), trt.PluginFieldType.FLOAT32)
    plugin = creator.create_plugin("node", trt.PluginFieldCollection([field]))
    again = creator.deserialize_plugin("node", bytes(plugin.serialize()))
    report["creators"][name] = {
        "fields": [field.name for field in creator.field_names],
        "type": again.plugin_type,
        "version": again.plugin_version,
        "same": bytes(again.serialize()) == bytes(plugin.serialize()),
        "newer": creator.deserialize_plugin("node", b"SPN2\\x06\\0\\0\\0" + b"\\0" * 56) is None,
    }
print(json.dumps(report))
"""


@pytest.mark.parametrize("table", [FIELDS, GOOD_FIELDS, BAD_FIELDS, NOT_DEFAULT])
def test_every_plugin_has_its_row(table):
    assert set(table) == set(spec.PLUGIN_TYPES)


@parametrize_builds(lambda folder: folder.name.startswith("11."))
def test_tensorrt_rtx_loads_the_library(folder):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    result = subprocess.run(
        [
            *(sys.executable, "-c", RTX_SCRIPT, folder / LIBRARY),
            *(json.dumps(GOOD_FIELDS), json.dumps(BAD_FIELDS)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["loaded"]
    assert report["creators"] == {
        name: {"fields": fields, "refused": [], "taken": []} for name, fields in FIELDS.items()
    }
    # TensorRT's own logger, found by its finder, carries the plugin's message.
    said = result.stdout + result.stderr
    for refusal in REFUSALS:
        assert refusal in said


# TensorRT for RTX has TensorRT 11's ONNX parser. It finds the plugin and creates it, and then ends
# the process, because its networks take no plugin layers.
PARSE_SCRIPT = """
import json, sys
import tensorrt_rtx_bindings as trt
from onnx import TensorProto, helper
logger = trt.Logger(trt.Logger.INFO)
assert trt.get_plugin_registry().load_library(sys.argv[1]) is not None
shapes = {"x": (1, 2, 8, 8), "lam": (1, 4, 2, 8, 8), "w": (1, 4, 3, 1, 8, 8), "u": (1, 4, 2, 8, 8)}
value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
attributes = json.loads(sys.argv[2])
if "groups" in attributes:
    shapes = {"x": (1, 2, 8, 8), "prediction": (1, 28, 8, 8)}
node = helper.make_node("GspnProp2D", list(shapes), ["y"], name="p", domain="gspn2", **attributes)
graph = helper.make_graph([node], "g", [value(*item) for item in shapes.items()],
                          [value("y", shapes["x"])])
opsets = [helper.make_opsetid("", 18), helper.make_opsetid("gspn2", 1)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
builder = trt.Builder(logger)
flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
network = builder.create_network(1 << int(flag))
parser = trt.OnnxParser(network, logger)
parsed = parser.parse(model.SerializeToString())
print("parsed", parsed, parser.get_error(0).desc() if parser.num_errors else "", flush=True)
"""


def parse_with_rtx(folder, **attributes):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    command = [sys.executable, "-c", PARSE_SCRIPT, folder / LIBRARY, json.dumps(attributes)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return result.stdout + result.stderr


@parametrize_builds(lambda folder: folder.name.startswith("11."))
@pytest.mark.parametrize(
    "attributes", [{"normalize": "softmax", "chunk": 0}, {"normalize": "none", "chunk": 4}, PACKING]
)
def test_the_parser_of_11_creates_the_plugin_of_a_node(folder, attributes):
    said = parse_with_rtx(folder, **attributes)
    assert "Searching for plugin: GspnProp2D, plugin_version: 1, plugin_namespace: " in said
    assert "Successfully created plugin: GspnProp2D" in said


@parametrize_builds(lambda folder: folder.name.startswith("11."))
def test_the_parser_of_11_hands_on_what_the_plugin_refuses(folder):
    bad = {spec.PACKED_OFFSETS: [-1, 0, -8, -1, 16]}
    for wrong, message in (
        ({"chunk": -3}, "chunk is -3; expected 0"),
        (PACKING | bad, "packed_offsets has -8 for u"),
    ):
        said = parse_with_rtx(folder, **wrong)
        assert f"gspn2 plugin, createPlugin: GspnProp2D: {message}" in said
        assert "parsed False" in said
        assert "Could not create the plugin" in said


EMBED_SCRIPT = """
import sys
import tensorrt_rtx_bindings as trt
builder = trt.Builder(trt.Logger())
flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
network = builder.create_network(1 << int(flag))
x = network.add_input("x", trt.float32, (1, 3, 8, 8))
layer = network.add_activation(x, trt.ActivationType.RELU)
network.mark_output(layer.get_output(0))
config = builder.create_builder_config()
config.plugins_to_serialize = sys.argv[2:]
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM89, 0)
open(sys.argv[1], "wb").write(builder.build_serialized_network(network, config))
"""


@parametrize_builds(lambda folder: folder.name.startswith("11."))
def test_a_plan_carries_the_library(folder, tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    plan, library = tmp_path / "m.plan", folder / EMBEDDABLE
    command = [sys.executable, "-c", EMBED_SCRIPT, plan, library]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    assert library.read_bytes() in plan.read_bytes()


def load_library(folder, libnvinfer, library):
    """What TensorRT's registry does with a library, line by line."""
    command = [folder / "load_library", libnvinfer, library, *spec.PLUGIN_TYPES]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def libraries_of_8():
    folder = os.environ.get("TENSORRT_LIB_DIR")
    libnvinfer = Path(folder or "") / "libnvinfer.so.8"
    if not folder or not libnvinfer.is_file():
        pytest.skip("TENSORRT_LIB_DIR names no folder with libnvinfer.so.8")
    return libnvinfer


@parametrize_builds(lambda folder: folder.name.startswith("8."))
def test_the_registry_of_8_loads_and_unloads_the_library(folder):
    assert load_library(folder, libraries_of_8(), folder / LIBRARY) == [
        *(f"before {name} 0" for name in spec.PLUGIN_TYPES),
        "loaded 1",
        *(f"while {name} 1" for name in spec.PLUGIN_TYPES),
        "again 0",  # null where a creator is registered already
        *(f"after {name} 0" for name in spec.PLUGIN_TYPES),
    ]


@parametrize_builds(lambda folder: folder.name.startswith("8."))
@pytest.mark.parametrize("name, loads", [(EMBEDDABLE, 1), (LIBRARY, 0)])
def test_only_what_a_plan_carries_loads_on_its_own(folder, tmp_path, name, loads):
    shutil.copy(folder / name, tmp_path)  # as TensorRT unpacks it, away from our other libraries
    said = load_library(folder, libraries_of_8(), tmp_path / name)
    assert f"loaded {loads}" in said


def test_tensorrt_8_registers_and_recreates():
    python, site = os.environ.get("TENSORRT_PYTHON"), os.environ.get("TENSORRT_SITE")
    if not python or not site:
        pytest.skip("TENSORRT_PYTHON and TENSORRT_SITE name no Python with TensorRT 8")
    folders = [folder for folder in builds() if folder.name.startswith("8.")]
    if not folders:
        pytest.skip("the plugin has not been built for TensorRT 8")
    result = subprocess.run(
        [python, "-c", TENSORRT_8_SCRIPT, folders[0] / LIBRARY, json.dumps(NOT_DEFAULT)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": site},
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["registered"] == [True, True]
    for name, fields in FIELDS.items():
        assert report["creators"][name] == {
            "fields": fields,
            "type": name,
            "version": spec.PLUGIN_VERSION,
            "same": True,
            "newer": True,
        }
    assert "format 6, this library reads format 5" in result.stderr
