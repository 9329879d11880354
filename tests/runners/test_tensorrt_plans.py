"""Plans and machines that the TensorRT runner refuses or warns of, on stand-ins."""

import sys

import pytest
from runners.tensorrt_fakes import (
    fake_tensorrt,
    rows,
)

from gspn2_deploy.errors import (
    DtypeError,
    InputError,
    KernelLibraryError,
    MissingDependencyError,
    PlatformError,
    ShapeError,
)
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import ManifestError
from gspn2_deploy.runners import tensorrt_runner
from gspn2_deploy.runners.plan_errors import (
    AlteredPlanError,
    DeviceBufferError,
    NoGpuError,
    PlanGpuError,
    PlanRefusedError,
    PlanVersionError,
    RunFailedError,
)

# What TensorRT logs while it refuses a plan, what is made of it, and a word of the mend.
REFUSALS = [
    (
        "6: The engine plan file is not compatible with this version of TensorRT, expecting "
        "library version 8.6.0 got 8.5.3, please rebuild.",
        "the plan was built by TensorRT 8.5.3, and this is 8.6.0",
        "build it again here",
    ),
    (
        "1: [pluginV2Runner.cpp::load::303] Error Code 1: Serialization (Serialization assertion "
        "creator failed.Cannot deserialize plugin since corresponding IPluginCreator not found in "
        "Plugin Registry)",
        "the plan holds a plugin that is not registered",
        "GSPN2_TENSORRT_PLUGIN",
    ),
    (
        "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
        "plan.header.size == blobSize failed. In parsePlan at /_src/runtime/dispatch/runtime.cpp)",
        "the plan is damaged, or another version's",
        "build the plan again",
    ),
    (
        "2: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory); "
        "Requested amount of GPU memory (85899345920 bytes) could not be allocated.",
        "TensorRT ran out of memory",
        "free memory",
    ),
]


class TestBadPlans:
    @pytest.mark.parametrize(
        "changes, kind, message",
        [
            (
                {"backend_version": "10.3.0"},
                PlanVersionError,
                "tensorrt is 8.6.1, the plan needs 10.3.0",
            ),
            (
                {"compute_capabilities": ("8.9",)},
                PlanGpuError,
                "compute capability 9.0, the plan was built for 8.9",
            ),
            ({"plan_sha256": "0"}, AlteredPlanError, "the plan is altered"),
            ({"plan_bytes": 100}, AlteredPlanError, "the plan is truncated"),
            (
                {"plan_bytes": 100, "backend_version": "9.0.0", "compute_capabilities": ()},
                AlteredPlanError,
                "truncated[^$]*needs 9.0.0[^$]*built for",
            ),
        ],
    )
    def test_the_manifest_is_checked_before_the_plan_is_loaded(self, make, changes, kind, message):
        runner, machine = make(**changes)
        sys.modules["tensorrt"].Runtime = None  # loading would fail in another way
        with pytest.raises(ManifestError, match=message) as caught, runner:
            pass
        assert type(caught.value) is kind
        assert machine.cuda.stack == machine.loaded == []
        assert machine.cuda.retained == 0

    def test_a_missing_plan_or_manifest(self, make, tmp_path):
        runner, _ = make()
        (tmp_path / "m.plan").unlink()
        with pytest.raises(AlteredPlanError, match="is missing"), runner:
            pass
        (tmp_path / "m.plan.json").unlink()
        with pytest.raises(ManifestError, match="its manifest is missing"), runner:
            pass

    def test_a_plan_that_does_not_load_leaves_nothing_behind(self, make, monkeypatch):
        runner, machine = make()
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(None))
        with pytest.raises(PlanRefusedError, match="does not load"), runner:
            pass
        assert machine.cuda.stack == []
        assert machine.cuda.retained == 0

    @pytest.mark.parametrize("text, problem, hint", REFUSALS)
    def test_what_tensorrt_says_of_a_plan_is_explained(self, make, text, problem, hint):
        runner, machine = make()
        machine.runtime.deserialize_cuda_engine = machine.refuse("something else", text)
        with pytest.raises(PlanRefusedError) as caught, runner:
            pass
        assert caught.value.problem.startswith("TensorRT does not load ")
        assert caught.value.problem.endswith(f"m.plan: {problem}")
        assert caught.value.got == text
        assert hint in caught.value.hint
        assert caught.value.exit_code == 3

    def test_what_no_rule_knows_is_quoted(self, make):
        runner, machine = make()
        machine.runtime.deserialize_cuda_engine = machine.refuse("something new", "and more")
        with pytest.raises(PlanRefusedError, match=r"m\.plan\n") as caught, runner:
            pass
        assert caught.value.got == "something new"
        assert "Too little GPU memory" in caught.value.hint

    def test_only_what_is_said_while_loading_counts(self, make):
        runner, machine = make()
        damaged = REFUSALS[2][0]
        with runner:
            machine.tensorrt.logger.log(machine.tensorrt.ILogger.Severity.ERROR, damaged)
        machine.runtime.deserialize_cuda_engine = lambda plan: None
        with pytest.raises(PlanRefusedError) as caught, runner:
            pass
        assert caught.value.got == "no message"

    def test_warnings_are_no_causes(self, make):
        runner, machine = make()
        machine.runtime.deserialize_cuda_engine = machine.refuse(REFUSALS[2][0], severity="WARNING")
        with pytest.raises(PlanRefusedError) as caught, runner:
            pass
        assert caught.value.got == "no message"

    @pytest.mark.parametrize("new", [True, False])
    def test_the_plugins_own_words_come_first(self, make, monkeypatch, new):
        runner, machine = make()
        state = (
            "gspn2 plugin, deserializePlugin: GspnProp2D: the engine's plugin state has format 2"
        )
        said = ["" if new else state]
        monkeypatch.setattr(tensorrt_runner, "load_plugin", lambda trt, path: "the library")
        monkeypatch.setattr(tensorrt_runner, "last_error", lambda library: said[-1])
        refuse = machine.refuse(REFUSALS[1][0])

        def load(plan):
            said.append(state)
            return refuse(plan)

        machine.runtime.deserialize_cuda_engine = load
        with pytest.raises(PlanRefusedError) as caught, runner:
            pass
        words = "plugin state has format 2" if new else "a plugin that is not registered"
        assert words in caught.value.problem

    def test_a_plan_without_memory_for_a_context(self, make):
        runner, machine = make()
        machine.engine.refuses_context = True
        with pytest.raises(PlanRefusedError, match="GPU memory ran out"), runner:
            pass
        assert machine.cuda.retained == 0

    def test_a_missing_plugin_is_named(self, make, monkeypatch):
        runner, machine = make()

        def missing(version):
            raise KernelLibraryError(f"there is no plugin library for TensorRT {version}")

        monkeypatch.setattr(tensorrt_runner, "find_plugin", missing)
        with pytest.raises(KernelLibraryError, match="no plugin library"), runner:
            pass
        assert machine.cuda.retained == 0

    def test_a_plan_without_propagations_needs_no_plugin(self, make):
        runner, machine = make(propagations={"GspnProp2D": 0})
        with runner:
            assert runner.describe()["plugin"] is None
        assert machine.loaded == []

    @pytest.mark.parametrize(
        "options, loaded, allowed",
        [
            ({}, 1, False),
            ({"embed_plugin": True}, 0, True),
            ({"version_compatible": True}, 1, True),
            ({"version_compatible": True, "exclude_lean_runtime": True}, 1, False),
        ],
        ids=str,
    )
    def test_plans_that_carry_code_are_allowed_to(self, make, options, loaded, allowed):
        runner, machine = make(options=options)
        with runner:
            assert len(machine.loaded) == loaded
            assert machine.runtime.engine_host_code_allowed is allowed

    @pytest.fixture
    def plugin(self, monkeypatch, tmp_path):
        """A plugin library, which the runner finds."""
        path = tmp_path / "libgspn2_tensorrt.so"
        path.write_bytes(b"a library")
        monkeypatch.setattr(tensorrt_runner, "_warned", set())
        return path

    def warned(self, monkeypatch, caplog, plugin, runner):
        """What is warned of while a runner is entered and works."""
        monkeypatch.setattr(tensorrt_runner, "find_plugin", lambda version: plugin)
        caplog.clear()
        with caplog.at_level("WARNING", logger="gspn2_deploy"), runner:
            runner.infer({"x": rows(2)})
        return [record.getMessage() for record in caplog.records]

    def test_another_plugin_is_warned_of_once(self, make, monkeypatch, caplog, plugin):
        runner, machine = make(plugin_sha256="0" * 64)
        (warning,) = self.warned(monkeypatch, caplog, plugin, runner)
        assert "m.plan was built with another plugin library" in warning
        assert f"got:      {plugin}, SHA-256 {sha256_of(plugin)}" in warning
        assert f"expected: SHA-256 {'0' * 64}" in warning
        assert "not proven with this one" in warning
        assert "build the plan again, or run gspn2-deploy validate" in warning
        assert self.warned(monkeypatch, caplog, plugin, runner) == []
        another = plugin.with_name("another.so")
        another.write_bytes(b"another library")
        assert len(self.warned(monkeypatch, caplog, another, runner)) == 1
        assert len(machine.loaded) == 3

    @pytest.mark.parametrize("known", [True, False])
    def test_the_plans_own_plugin_or_an_unknown_one_is_not(
        self, make, monkeypatch, caplog, plugin, known
    ):
        runner, _ = make(plugin_sha256=sha256_of(plugin) if known else None)
        assert self.warned(monkeypatch, caplog, plugin, runner) == []

    @pytest.mark.parametrize(
        "changes",
        [{"options": {"embed_plugin": True}}, {"propagations": {"GspnProp2D": 0}}],
        ids=["embedded", "no plugin"],
    )
    def test_where_no_library_is_loaded_none_is_warned_of(
        self, make, monkeypatch, caplog, plugin, changes
    ):
        runner, _ = make(plugin_sha256="0" * 64, **changes)
        assert self.warned(monkeypatch, caplog, plugin, runner) == []

    def test_compatible_plans_run_on_what_they_are_compatible_with(self, make):
        options = {"version_compatible": True, "hardware_compatibility": "ampere-plus"}
        runner, _ = make(options=options, backend_version="8.6.0", compute_capabilities=("8.6",))
        with runner:
            runner.infer({"x": rows(2)})

    def test_a_plan_of_another_library_is_refused(self, make):
        runner, _ = make(backend="tensorrt-rtx", backend_version="1.7.1")
        with pytest.raises(ManifestError, match="a plan of another kind"), runner:
            pass

    def test_a_plan_without_weights_is_refused(self, make):
        runner, _ = make(options={"weights": "stripped"})
        with pytest.raises(ManifestError, match="weights were left out") as caught, runner:
            pass
        assert type(caught.value) is ManifestError

    def test_a_missing_gpu_is_named(self, make):
        runner, _ = make(device=3)
        with pytest.raises(NoGpuError, match="GPU 3 cannot be used"), runner:
            pass

    def test_a_missing_driver_is_named(self, make, monkeypatch):
        from gspn2_deploy.runners.cuda_driver import CudaDriver

        runner, _ = make()
        monkeypatch.setattr(tensorrt_runner, "CudaDriver", lambda: CudaDriver("libnonesuch.so.1"))
        with pytest.raises(NoGpuError, match="no CUDA driver"), runner:
            pass

    @pytest.mark.parametrize("name", ["pycuda.driver", "tensorrt"])
    def test_a_missing_package_is_named(self, make, monkeypatch, name):
        runner, _ = make()
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingDependencyError, match="is not available"), runner:
            pass

    def test_the_exit_codes_follow_the_types(self):
        refused = (AlteredPlanError, PlanVersionError, PlanGpuError, DeviceBufferError)
        for kind in (*refused, ShapeError, DtypeError):
            assert issubclass(kind, InputError)
        for kind in (NoGpuError, PlanRefusedError, RunFailedError):
            assert issubclass(kind, PlatformError)
