"""Proof of bundles. The engine library and its runner are test doubles here; no GPU is needed."""

import importlib.machinery
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from bundle_parts import golden
from click.testing import CliRunner

from gspn2_deploy.bundle import write_bundle
from gspn2_deploy.cli.app import app
from gspn2_deploy.errors import KernelLibraryError, MissingDependencyError, PlatformError
from gspn2_deploy.manifest import ManifestError, TensorInfo
from gspn2_deploy.runners.base import Runner
from gspn2_deploy.runners.engine_layers import EngineLayer, EngineTensor
from gspn2_deploy.tensorrt_plugin import PLUGIN_VARIABLE

RUNNER_MODULE = "gspn2_deploy.runners.tensorrt_runner"


@pytest.fixture
def folder(parts, tmp_path):
    write_bundle(parts.plan, tmp_path / "out", golden=parts.golden, plugin=parts.plugin)
    return tmp_path / "out"


def verify(path, *options):
    result = CliRunner().invoke(app, ["verify", str(path), "--json", *options])
    assert "Traceback" not in result.stderr
    body = json.loads(result.stdout)
    return result, body, {step["name"]: step for step in body.get("steps", [])}


class Doubler(Runner):
    """Answers as the golden samples of these tests do, or nearly."""

    factor = 2.0
    opened = ()

    def __init__(self, plan):
        super().__init__("engine")
        type(self).opened = (plan, Path(os.environ[PLUGIN_VARIABLE]))

    @property
    def input_specs(self):
        return (TensorInfo("images", "float32", (2, 4)),)

    @property
    def output_names(self):
        return ("scores",)

    def activate(self):
        pass

    def deactivate(self):
        pass

    def infer_impl(self, inputs):
        return {"scores": (self.factor * inputs["images"]).astype(np.float32)}

    def can_run(self, inputs):
        return inputs["images"].shape == (2, 4)

    dtypes = ("float32",) * 3

    def profile(self, inputs, *, runs):
        outputs = [(EngineTensor("y", dtype, None),) for dtype in self.dtypes]
        return [EngineLayer(f"{i}", "PluginV2", (), out, 0.5) for i, out in enumerate(outputs)]


@pytest.fixture
def machine(monkeypatch):
    """A machine that fits the bundle; tests change what does not."""
    machine = types.SimpleNamespace(version="8.6.0", capability="9.0", runner=Doubler)

    def version(_):
        if machine.version is None:
            raise MissingDependencyError("TensorRT", "tensorrt")
        return machine.version

    def gpu():
        if machine.capability is None:
            raise PlatformError("this needs a GPU, and none can be used here")
        return types.SimpleNamespace(name="A GPU", compute_capability=machine.capability)

    monkeypatch.setattr("gspn2_deploy.build.tensorrt.TensorRTBackend.version", version)
    monkeypatch.setattr("gspn2_deploy.build.gpu.current_gpu", gpu)
    monkeypatch.setattr("gspn2_deploy.verify._open_libraries", lambda *_: None)
    module = types.ModuleType(RUNNER_MODULE)
    module.__spec__ = importlib.machinery.ModuleSpec(RUNNER_MODULE, None)
    module.TensorRTRunner = lambda *args, **options: machine.runner(*args, **options)
    monkeypatch.setitem(sys.modules, RUNNER_MODULE, module)
    return machine


def test_sound_files_pass_without_running(folder):
    result, body, steps = verify(folder, "--no-run")
    assert result.exit_code == 0
    assert body["passed"]
    assert not body["ran"]
    assert {name: step["status"] for name, step in steps.items()} == dict.fromkeys(
        ("files", "manifest", "golden"), "passed"
    )
    text = CliRunner().invoke(app, ["verify", str(folder), "--no-run"]).stdout
    assert "nothing else" in text


def test_tars_are_verified(parts, tmp_path):
    path = tmp_path / "out.tar"
    write_bundle(parts.plan, path, golden=parts.golden, plugin=parts.plugin)
    assert verify(path, "--no-run")[0].exit_code == 0


@pytest.mark.parametrize("before", [None, "/another/plugin.so"])
def test_a_machine_that_fits_proves_it(folder, machine, monkeypatch, before):
    if before:
        monkeypatch.setenv(PLUGIN_VARIABLE, before)
    result, body, steps = verify(folder)
    assert result.exit_code == 0, result.stderr
    assert body["passed"]
    assert [step["status"] for step in body["steps"]] == ["passed"] * 6
    assert steps["run"]["details"][0].startswith("1 golden samples within ")
    assert steps["run"]["details"][1].startswith("3 GspnProp2D ran, float32; ")
    assert Doubler.opened == (folder / "nano.plan", folder / "libgspn2_tensorrt.so")
    assert os.environ.get(PLUGIN_VARIABLE) == before


def test_a_post_release_of_the_package_is_the_same_library(folder, machine):
    machine.version = "8.6.0.post12"
    assert verify(folder)[0].exit_code == 0


def test_an_installation_that_does_not_say_its_version_is_left_to_the_runner(folder, machine):
    machine.version = "unknown"
    assert verify(folder)[0].exit_code == 0

    def refuse(_):
        raise ManifestError("the plan does not match", ("tensorrt is 8.6.1",))

    machine.runner = refuse
    result, _, steps = verify(folder)
    assert result.exit_code == 3
    assert steps["run"]["status"] == "foreign"
    assert "tensorrt is 8.6.1" in steps["run"]["details"][1]


def test_the_real_runner_takes_what_is_passed():
    from gspn2_deploy.runners.tensorrt_runner import TensorRTRunner

    assert TensorRTRunner(Path("nano.plan")).name == "tensorrt"


def test_wrong_answers_fail(folder, machine):
    machine.runner = type("Off", (Doubler,), {"factor": 2.01})
    result, body, steps = verify(folder)
    assert result.exit_code == 1
    assert steps["run"]["status"] == "failed"
    assert "sample 0, scores: at" in steps["run"]["details"][0]
    assert not body["passed"]


def test_an_engine_that_takes_another_dtype_fails(folder, machine):
    specs = (TensorInfo("images", "float16", (2, 4)),)
    machine.runner = type("Half", (Doubler,), {"input_specs": specs})
    result, _, steps = verify(folder)
    assert result.exit_code == 1
    assert steps["run"]["details"] == [
        "nothing was compared",
        "sample 0 was not run: engine: the input 'images' has another dtype",
    ]


@pytest.mark.parametrize(
    "dtypes, words",
    [
        (("float32",) * 2, "no plugin layer in the engine: 1 of 3"),
        (("float32", "float16", "float32"), "another type: 1 in float16 instead of float32"),
    ],
)
def test_an_engine_that_ran_something_else_fails(folder, machine, dtypes, words):
    machine.runner = type("Other", (Doubler,), {"dtypes": dtypes})
    result, _, steps = verify(folder)
    assert result.exit_code == 1
    assert steps["run"]["status"] == "failed"
    assert words in steps["run"]["details"][2]


def test_compatible_plans_are_proven_on_what_they_are_compatible_with(parts, tmp_path, machine):
    options = {"version_compatible": True, "hardware_compatibility": "ampere-plus"}
    parts.manifest(options=options, compute_capabilities=("8.6",), backend_version="8.6.0")
    write_bundle(parts.plan, tmp_path / "out", golden=parts.golden, plugin=parts.plugin)
    machine.version = "8.6.1"
    assert verify(tmp_path / "out")[0].exit_code == 0
    machine.version = "10.0.0"
    assert verify(tmp_path / "out")[0].exit_code == 3


def test_nothing_compared_fails(parts, tmp_path, machine):
    batch_5 = golden(tmp_path / "batch-5.npz", batch=5)
    write_bundle(parts.plan, tmp_path / "out", golden=batch_5, plugin=parts.plugin)
    result, _, steps = verify(tmp_path / "out")
    assert result.exit_code == 1
    assert steps["run"]["details"][0] == "nothing was compared"


@pytest.mark.parametrize(
    "change, step, status, words",
    [
        ({"version": "8.6.1"}, "library", "foreign", "tensorrt is 8.6.1, the plan needs 8.6.0"),
        ({"version": None}, "library", "unproven", "TensorRT is not available"),
        ({"capability": "8.9"}, "gpu", "foreign", "8.9, the plan 9.0"),
        ({"capability": None}, "gpu", "unproven", "none can be used here"),
    ],
    ids=str,
)
def test_other_machines_do_not_prove_it(folder, machine, change, step, status, words):
    vars(machine).update(change)
    Doubler.opened = ()
    result, body, steps = verify(folder)
    assert result.exit_code == 3
    assert not body["passed"]
    assert steps[step]["status"] == status
    assert words in steps[step]["details"][0]
    assert steps["run"]["status"] == "unproven"
    assert step in steps["run"]["details"][0]
    assert f"not proven on this machine: {step}, run" in result.stderr
    assert Doubler.opened == ()


def test_without_a_runner_it_is_unproven(folder, machine, monkeypatch):
    monkeypatch.setattr("gspn2_deploy.verify._RUNNERS", {})
    result, _, steps = verify(folder)
    assert result.exit_code == 3
    assert steps["run"]["status"] == "unproven"
    assert "no runner for plans of tensorrt" in steps["run"]["details"][0]


def test_a_runner_that_cannot_start_is_no_proof(folder, machine):
    def fail(*_, **__):
        raise KernelLibraryError("the plugin does not load")

    machine.runner = fail
    result, _, steps = verify(folder)
    assert result.exit_code == 3
    assert steps["run"] == {
        "name": "run",
        "status": "unproven",
        "details": ["the plugin does not load"],
    }


def test_libraries_that_do_not_load_are_no_proof(folder, machine, monkeypatch):
    monkeypatch.undo()  # the real loader on what is no library; everything else stays away
    monkeypatch.setattr("gspn2_deploy.verify._check_library", lambda _: passed("library"))
    monkeypatch.setattr("gspn2_deploy.verify._check_gpu", lambda _: passed("gpu"))
    monkeypatch.setattr("gspn2_deploy.verify._RUNNERS", {"tensorrt": (__name__, "Doubler")})
    result, _, steps = verify(folder)
    assert result.exit_code == 3
    assert steps["run"]["details"][0] == "a library of the bundle cannot be loaded"


def passed(name):
    from gspn2_deploy.verify import Status, Step

    return Step(name, Status.PASSED)


@pytest.mark.parametrize("options", [[], ["--no-run"]], ids=str)
@pytest.mark.parametrize(
    "name", ["nano.plan", "nano.plan.json", "libgspn2_tensorrt.so", "nano.golden.npz", "onnx.json"]
)
def test_altered_files_fail_and_nothing_is_loaded(folder, machine, name, options):
    Doubler.opened = ()
    (folder / name).write_bytes(b"altered")
    result, _, steps = verify(folder, *options)
    assert result.exit_code == 1
    assert list(steps) == ["files"]
    assert name in steps["files"]["details"][0]
    assert Doubler.opened == ()


def relist(folder, name):
    """List a file as it is now."""
    from gspn2_deploy.files import sha256_of

    content = json.loads((folder / "bundle.json").read_text())
    path = folder / name
    content["files"][name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (folder / "bundle.json").write_text(json.dumps(content))


def test_a_plan_swapped_with_its_listing_still_fails(folder, machine):
    (folder / "nano.plan").write_bytes(b"another plan")
    relist(folder, "nano.plan")
    result, _, steps = verify(folder)
    assert result.exit_code == 1
    assert steps["manifest"]["status"] == "failed"
    assert "run" not in steps


def test_foreign_golden_samples_fail(folder, machine):
    golden(folder / "nano.golden.npz", onnx_sha256="00" * 32)
    relist(folder, "nano.golden.npz")
    result, _, steps = verify(folder)
    assert result.exit_code == 1
    assert "another ONNX file" in steps["golden"]["details"][0]


def test_what_is_no_bundle_is_wrong_input(tmp_path):
    result, body, _ = verify(tmp_path)
    assert result.exit_code == 2
    assert body["error"]["type"] == "BundleError"
