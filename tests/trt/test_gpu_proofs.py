"""What ``gpu_day.py`` proves of bisection and of function bodies, as far as no GPU is needed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from gpu_places import WRONG_BLOCK, WRONG_SIZE, Places
from gpu_proofs import bisect_steps, body_steps
from onnx import TensorProto, helper
from validate.engine_double import Factory, propagations

from gspn2_deploy.cli.app import app
from gspn2_deploy.validate.blocks import read_blocks

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples/digits"
PROFILE = {"images": ((1, 1, 8, 8), (8, 1, 8, 8), (64, 1, 8, 8))}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The file and golden samples of the step, as the export makes them."""
    folder = tmp_path_factory.mktemp("models")
    arguments = ["--quiet", "export", "--checkpoint", DIGITS / "nano-digits.safetensors"]
    arguments += ["--output", folder / "nano-fp32.onnx", "--precision", "fp32"]
    arguments += ["--golden", folder / "nano-fp32.golden.npz"]
    arguments += ["--golden-inputs", DIGITS / "heldout.npz"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return folder


def sizes(path):
    """Height and width of each propagation's maps, by its name."""
    infos = {item.name: item.type.tensor_type.shape for item in onnx.load(path).graph.value_info}
    return {
        block.name: tuple(axis.dim_value for axis in infos[block.inputs["x"]].dim[2:])
        for block in read_blocks(path)
    }


def test_the_wrong_block_is_the_first_of_its_size_and_not_the_first(models):
    found = sizes(models / "nano-fp32.onnx")
    assert next(name for name, size in found.items() if size == WRONG_SIZE) == WRONG_BLOCK
    assert next(iter(found)) != WRONG_BLOCK


def leave_m_out(model):
    """What the wrong kernel library does: the merge's weights count as 1."""
    ones = helper.make_tensor("ones", TensorProto.FLOAT, [4], [1.0] * 4)
    for node in propagations(model):
        if node.name.startswith(WRONG_BLOCK.partition(".blocks")[0]):
            node.input[5] = "ones"
    model.graph.initializer.append(ones)


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("has_torch", [False, True])
def test_the_steps_ask_for_what_a_bisection_says(models, tmp_path, monkeypatch, wrong, has_torch):
    """The same command line, on doubles of TensorRT, with the damage in every engine."""
    shutil.copytree(models, tmp_path / "models")
    command = bisect_steps(Places(tmp_path))[wrong].commands()[-1]
    module, program, quiet, *arguments = command.argv[1:]
    assert (module, program, quiet) == ("-m", "gspn2_deploy", "-q")
    factory = Factory(monkeypatch, (PROFILE,))
    factory.build(tmp_path / "models/nano-fp32.onnx", tmp_path / "models/nano-fp32.plan")
    if wrong:
        factory.damage = leave_m_out
    if not has_torch:  # as in the Python with TensorRT
        monkeypatch.setitem(sys.modules, "gspn2_deploy.validate.torch_blocks", None)
    result = CliRunner().invoke(app, ["--quiet", *arguments])
    assert (result.exit_code,) == command.codes, result.output
    for said in command.said:
        assert said in result.stdout
    assert json.loads(result.stdout)["bisections"][0]["candidate"] == "tensorrt"
    assert factory.built == ["marked.onnx", "alone.onnx"]


FAKE_KERNELS = """
#include <cstdio>
#include "gspn2/kernels.h"
extern "C" gspn2_status_t gspn2_prop2d(const gspn2_problem_t* p, const gspn2_strides_t*,
                                       const void* x, const void*, const void*, const void*,
                                       const void* d, const void* m, void* y, void*, size_t,
                                       gspn2_stream_t) {
  std::printf("%dx%d %d%d%d%d\\n", int(p->h), int(p->w), x != nullptr, d != nullptr, m != nullptr,
              y != nullptr);
  return GSPN2_SUCCESS;
}
"""
FAKE_PLUGIN = """
#include "gspn2/kernels.h"
extern "C" int enqueue(int height, int width) {
  const gspn2_problem_t problem{1, 2, height, width, 1, 0, GSPN2_FLOAT32, GSPN2_NORMALIZE_SIGMOID};
  char some[8];
  return gspn2_prop2d(&problem, nullptr, some, some, some, some, some, some, some, some, 0,
                      nullptr);
}
"""
CALLS = """
import ctypes, sys
plugin = ctypes.CDLL(sys.argv[1])  # local to it, as the package loads it
codes = [plugin.enqueue(*map(int, size.split("x"))) for size in ("8x8", "4x4", "4x8")]
ctypes.CDLL(None).fflush(None)
sys.exit(any(codes))
"""


def test_the_wrong_kernel_library_leaves_one_input_out_for_one_size(tmp_path):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    includes = ["-I", str(ROOT / "plugins/include")]
    for name, code, extra in (
        ("gspn2_kernels", FAKE_KERNELS, ["-Wl,-soname,libgspn2_kernels.so"]),
        ("plugin", FAKE_PLUGIN, ["-L", str(tmp_path), "-lgspn2_kernels", "-Wl,-rpath,$ORIGIN"]),
    ):
        (tmp_path / f"{name}.cpp").write_text(code)
        target = [str(tmp_path / f"{name}.cpp"), "-o", str(tmp_path / f"lib{name}.so")]
        subprocess.run([compiler, "-shared", "-fPIC", *includes, *target, *extra], check=True)
    compile_, command = bisect_steps(Places(tmp_path))[1].commands()
    subprocess.run(compile_.argv, check=True)
    arguments = [sys.executable, "-c", CALLS, str(tmp_path / "libplugin.so")]
    outputs = [
        subprocess.run(arguments, env=env, capture_output=True, text=True, check=True).stdout
        for env in ({}, {"LD_PRELOAD": command.env["LD_PRELOAD"]})
    ]
    assert outputs[0].split("\n") == ["8x8 1111", "4x4 1111", "4x8 1111", ""]
    assert outputs[1].split("\n") == ["8x8 1111", "4x4 1101", "4x8 1111", ""]


def test_the_two_bisections_differ_in_the_kernel_library_alone(tmp_path):
    right, wrong = (item.commands()[-1] for item in bisect_steps(Places(tmp_path)))
    assert right.argv == wrong.argv
    preload = wrong.env["LD_PRELOAD"]
    assert {**right.env, "LD_PRELOAD": preload} == wrong.env
    assert (right.codes, wrong.codes) == ((0,), (1,))


def test_a_body_that_cannot_be_built_is_measured_as_one(tmp_path):
    """The second step takes what the first printed."""
    steps = {item.name: item for item in body_steps(Places(tmp_path))}
    assert list(steps) == [
        f"{what}:nano-{precision}"
        for precision in ("fp32", "fp16")
        for what in ("bodybuild", "body")
    ]
    (build,), (measure,) = (
        steps[name].commands() for name in ("bodybuild:nano-fp16", "body:nano-fp16")
    )
    script, *arguments = build.argv[1:]
    assert script == measure.argv[1] == str(ROOT / "tests/trt/body_engine.py")
    assert arguments[0] == "build"
    assert measure.argv[2:4] == ("measure", str(build.output))
    assert measure.argv[4:6] == tuple(arguments[2:4])  # the plans
    assert float(arguments[4]) < steps["bodybuild:nano-fp16"].limit
    assert measure.output.name == "body-nano-fp16.json"  # where the report looks for it
