"""The libraries inside the plugin registries of installed TensorRT versions.

Each runs in a process of its own: a registry belongs to its process, and a registered plugin
changes what other tests' parsers do.
"""

import json
import os
import subprocess
import sys

import pytest
from plugin_builds import builds, parametrize_builds

from gspn2_deploy import spec

pytestmark = pytest.mark.tensorrt

VALUES = {
    "normalize": [mode.value for mode in spec.Normalize],
    "direction": [direction.value for direction in spec.Direction],
}
ATTRIBUTES = {spec.PROP2D: spec.PROP2D_ATTRIBUTES, spec.LINE_SCAN: spec.LINE_SCAN_ATTRIBUTES}

RTX_SCRIPT = """
import json, sys
import numpy as np
import tensorrt_rtx_bindings as trt
logger = trt.Logger(trt.Logger.INFO)
registry = trt.get_plugin_registry()
path, values = sys.argv[1], json.loads(sys.argv[2])

def create(creator, **fields):
    made = []
    for name, value in fields.items():
        if isinstance(value, str):
            made.append(trt.PluginField(name, value.encode(), trt.PluginFieldType.CHAR))
        else:
            number = np.array([value], dtype=np.int32)
            made.append(trt.PluginField(name, number, trt.PluginFieldType.INT32))
    fields = trt.PluginFieldCollection(made)
    return creator.create_plugin("node", fields, trt.TensorRTPhase.BUILD) is not None

report = {"loaded": registry.load_library(path) is not None, "creators": {}}
for name in sys.argv[3:]:
    creator = registry.get_creator(name, "1", "")
    fields = [field.name for field in creator.field_names]
    report["creators"][name] = {
        "fields": fields,
        "created": [[key, value, create(creator, **{key: value})]
                    for key in fields if key in values for value in values[key]],
        "chunk": [create(creator, chunk=0), create(creator, chunk=8), create(creator, chunk=-1)],
        "refused": create(creator, normalize="relu"),
    }
print(json.dumps(report))
"""

TENSORRT_8_SCRIPT = """
import ctypes, json, sys
import tensorrt as trt
logger = trt.Logger()
library = ctypes.CDLL(sys.argv[1])
library.initLibGspn2Plugins.restype = ctypes.c_bool
registered = [library.initLibGspn2Plugins(None, b"") for _ in range(2)]
report = {"registered": registered, "version": trt.__version__, "creators": {}}
for name in sys.argv[2:]:
    creator = trt.get_plugin_registry().get_plugin_creator(name, "1", "")
    field = trt.PluginField("normalize", b"softmax", trt.PluginFieldType.CHAR)
    plugin = creator.create_plugin("node", trt.PluginFieldCollection([field]))
    again = creator.deserialize_plugin("node", bytes(plugin.serialize()))
    report["creators"][name] = {
        "fields": [field.name for field in creator.field_names],
        "type": again.plugin_type,
        "version": again.plugin_version,
        "same": bytes(again.serialize()) == bytes(plugin.serialize()),
        "newer": creator.deserialize_plugin("node", b"SPN2\\x02\\0\\0\\0" + b"\\0" * 32) is None,
    }
print(json.dumps(report))
"""


@parametrize_builds(lambda folder: folder.name.startswith("11."))
def test_tensorrt_rtx_loads_the_library(folder):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    result = subprocess.run(
        [
            *(sys.executable, "-c", RTX_SCRIPT, folder / "libgspn2_tensorrt.so"),
            *(json.dumps(VALUES), *spec.OP_TYPES),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["loaded"]
    for name, attributes in ATTRIBUTES.items():
        creator = report["creators"][name]
        assert creator["fields"] == list(attributes)
        expected = sum(len(VALUES[key]) for key in attributes if key in VALUES)
        assert len(creator["created"]) == expected
        assert all(created for *_, created in creator["created"]), creator["created"]
        assert creator["chunk"] == [True, True, False]
        assert not creator["refused"]
    # TensorRT's own logger, found by its finder, carries the plugin's message.
    said = result.stdout + result.stderr
    assert 'normalize is "relu"; expected one of sigmoid, softmax, none' in said


def test_tensorrt_8_registers_and_recreates():
    python, site = os.environ.get("TENSORRT_PYTHON"), os.environ.get("TENSORRT_SITE")
    if not python or not site:
        pytest.skip("TENSORRT_PYTHON and TENSORRT_SITE name no Python with TensorRT 8")
    folders = [folder for folder in builds() if folder.name.startswith("8.")]
    if not folders:
        pytest.skip("the plugin has not been built for TensorRT 8")
    result = subprocess.run(
        [python, "-c", TENSORRT_8_SCRIPT, folders[0] / "libgspn2_tensorrt.so", *spec.OP_TYPES],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": site},
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["registered"] == [True, True]
    for name, attributes in ATTRIBUTES.items():
        assert report["creators"][name] == {
            "fields": list(attributes),
            "type": name,
            "version": spec.PLUGIN_VERSION,
            "same": True,
            "newer": True,
        }
    assert "format 2, this library reads format 1" in result.stderr
