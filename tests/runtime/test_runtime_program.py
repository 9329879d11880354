"""The runtime over test doubles of a GPU and of TensorRT: its C++ test program, case by case."""

import re

import pytest
from runtime.runtime_build import RUNTIME

pytestmark = pytest.mark.tensorrt

CASES = sorted(
    name
    for source in (RUNTIME / "tests").glob("test_*.cpp")
    for name in re.findall(r"^GSPN2_TEST\((\w+)\)", source.read_text(), re.MULTILINE)
)


def test_every_case_is_run(build):
    assert sorted(build.program("runtime_tests", "--list", check=True).stdout.split()) == CASES


@pytest.mark.parametrize("name", CASES)
def test_case(build, name):
    result = build.program("runtime_tests", name)
    assert result.stdout == f"ok      {name}\n"
    assert result.returncode == 0


def test_program_reports_failure(build):
    result = build.program("runtime_tests", "nonesuch")
    assert result.returncode == 1
    assert "FAILED" in result.stdout
