"""The runtime over test doubles of a GPU and of TensorRT: its test program, case by case."""

import re

import pytest
from runtime.runtime_build import RUNTIME, configure, missing, run

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


@pytest.mark.slow
@pytest.mark.parametrize(
    "sanitizers, symbols",
    [("address,undefined", ("__asan_init", "__ubsan_handle")), ("thread", ("__tsan_init",))],
    ids=("address,undefined", "thread"),
)
def test_sanitizers_find_nothing(tmp_path, sanitizers, symbols):
    if reason := missing() or unusable(sanitizers, tmp_path):
        pytest.skip(reason)
    options = (f"-DGSPN2_RUNTIME_SANITIZE={sanitizers}", "-DCMAKE_BUILD_TYPE=Debug")
    build = configure(tmp_path / "build", *options, target="runtime_tests")
    names = run("nm", build.folder / "tests/runtime_tests").stdout
    assert [symbol for symbol in symbols if symbol not in names] == []
    result = build.program("runtime_tests", *CASES)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines() == [f"ok      {name}" for name in CASES]
    assert result.stderr == ""


def unusable(sanitizers, folder):
    """Why no program runs under these sanitizers here, or None."""
    source, program = folder / "empty.cpp", folder / "empty"
    source.write_text("int main() {}")
    if run("c++", f"-fsanitize={sanitizers}", source, "-o", program, check=False).returncode:
        return f"the compiler has no -fsanitize={sanitizers}"
    result = run(program, check=False)
    return f"-fsanitize={sanitizers} does not run: {result.stderr}" if result.returncode else None
