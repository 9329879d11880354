"""The C++ test program of every plugin build, case by case, and the spec it is held against."""

import subprocess

import pytest
from plugin_builds import ABSENT, builds, parametrize_builds, run_program

from gspn2_deploy import spec

CHAR, INT32, FLOAT32 = 6, 5, 1  # nvinfer1::PluginFieldType
PACKING = (spec.PACKED_OFFSETS, spec.PACKED_GROUPS, spec.PACKED_CHANNELS)
FIELD_TYPES = {str: CHAR, int: INT32, float: FLOAT32}


def program_cases():
    cases = [
        pytest.param(folder, name, id=f"{folder.name}-{name}")
        for folder in builds()
        if (folder / "plugin_tests").is_file()
        for name in run_program(folder, "--list").split()
    ]
    return cases or [pytest.param(None, None, id="absent", marks=pytest.mark.skip(reason=ABSENT))]


@pytest.mark.parametrize("folder, name", program_cases())
def test_case(folder, name):
    said = run_program(folder, name)
    if said.startswith("skipped"):
        pytest.skip(said.strip())
    assert said == f"ok      {name}\n"


@parametrize_builds()
def test_program_reports_failure(folder):
    result = subprocess.run([folder / "plugin_tests", "nonesuch"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "FAILED" in result.stdout


@parametrize_builds()
def test_creators_follow_the_definition(folder):
    described = {}
    for line in run_program(folder, "--describe").splitlines():
        name, version, *fields = line.split()
        assert version == spec.PLUGIN_VERSION
        described[name] = {key: int(kind) for key, kind in (field.split(":") for field in fields)}
    expected = {
        name: {key: FIELD_TYPES[type(value)] for key, value in attributes.items()}
        for name, attributes in (
            (spec.PROP2D, spec.PROP2D_ATTRIBUTES | dict.fromkeys(PACKING, 0)),
            (spec.LINE_SCAN, spec.LINE_SCAN_ATTRIBUTES),
            (spec.CHANNEL_NORM, spec.CHANNEL_NORM_ATTRIBUTES),
            (spec.DEPTHWISE, spec.DEPTHWISE_ATTRIBUTES),
            (spec.DEPTHWISE_NORM, spec.DEPTHWISE_NORM_ATTRIBUTES),
        )
    }
    assert described == expected
    assert tuple(described) == spec.PLUGIN_TYPES
