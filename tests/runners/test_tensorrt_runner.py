"""The TensorRT runner's own logic, on stand-ins for TensorRT, pycuda and the driver."""

import json
import subprocess
import sys

import numpy as np
import pytest
from runners.tensorrt_fakes import (
    KINDS,
    PLUGIN_LAYER,
    FakeEngine,
    default_layers,
    fake_tensorrt,
    install,
    write_plan,
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
from gspn2_deploy.manifest import ManifestError, TensorInfo
from gspn2_deploy.runners import tensorrt_runner
from gspn2_deploy.runners.engine_layers import read_layers, with_times
from gspn2_deploy.runners.plan_errors import (
    AlteredPlanError,
    DeviceBufferError,
    NoGpuError,
    PlanGpuError,
    PlanRefusedError,
    PlanVersionError,
    RunFailedError,
)
from gspn2_deploy.runners.tensorrt_runner import TensorRTRunner

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


@pytest.fixture
def make(monkeypatch, tmp_path):
    """Install the stand-ins; returns a function that gives (runner, machine)."""

    def make(dtype="float32", *, engine=None, device=0, graph=False, **changes):
        machine = install(monkeypatch, engine, dtype=dtype)
        path = write_plan(tmp_path / "m.plan", dtype, **changes)
        return TensorRTRunner(path, device=device, graph=graph), machine

    return make


def rows(batch, dtype="float32"):
    return np.arange(batch * 3).reshape(batch, 3).astype(KINDS[dtype][1])


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("dtype", KINDS)
def test_shapes_may_change_from_call_to_call(make, dtype, graph):
    runner, machine = make(dtype, graph=graph)
    with runner:
        for batch in (2, 4, 1, 16, 16, 3, 3):
            x = rows(batch, dtype)
            y = runner.infer({"x": x})["y"]
            assert y.dtype == x.dtype
            np.testing.assert_array_equal(y, x * x.dtype.type(2))
        assert len(machine.cuda.memory) == 2  # buffers are used again; grown ones replace them
        assert machine.cuda.stack == []  # the caller's own context is current again
    assert machine.cuda.memory == {}
    assert machine.cuda.retained == machine.driver.graphs == machine.engine.contexts == 0


def test_outputs_are_the_callers(make):
    runner, _ = make()
    with runner:
        first = runner.infer({"x": np.ones((2, 3), np.float32)})["y"]
        runner.infer({"x": np.zeros((2, 3), np.float32)})
    np.testing.assert_array_equal(first, np.full((2, 3), 2, np.float32))


def test_a_graph_is_captured_once_for_a_shape_and_replayed(make):
    runner, machine = make(graph=True)
    with runner:
        for value in (1, 2, 3):
            x = np.full((2, 3), value, np.float32)
            np.testing.assert_array_equal(runner.infer({"x": x})["y"], 2 * x)
        assert machine.driver.captures == 1
        runner.infer({"x": rows(4)})  # larger buffers: the old addresses are gone
        runner.infer({"x": rows(2)})
        assert machine.driver.captures == 3
        assert machine.driver.graphs == 1


def test_the_profile_that_covers_the_shape_is_used(make):
    runner, _ = make()
    with runner:
        for batch in (1, 4, 5, 16, 2):
            runner.infer({"x": rows(batch)})
        assert runner.session.context.switches == [0, 1, 0]
        assert [str(profile["x"]) for profile in runner.profiles] == ["1x3:2x3:4x3", "5x3:8x3:16x3"]
        assert not runner.can_run({"x": rows(17)})
        with pytest.raises(ShapeError, match="no profile of the plan covers") as caught:
            runner.infer({"x": rows(17)})
        np.testing.assert_array_equal(runner.infer({"x": rows(3)})["y"], 2 * rows(3))
    assert caught.value.expected == "x=1x3:2x3:4x3; or x=5x3:8x3:16x3"


def test_fixed_shapes_have_a_profile_of_their_own(make):
    def fixed(cuda):
        tensors = (TensorInfo("x", "float32", (2, 3)),), (TensorInfo("y", "float32", (2, 3)),)
        engine = FakeEngine(cuda, inputs=tensors[0], outputs=tensors[1], profiles=({},))
        engine.get_tensor_profile_shape = None  # TensorRT may answer with nothing
        return engine

    runner, _ = make(engine=fixed, inputs=(TensorInfo("x", "float32", (2, 3)),))
    with runner:
        np.testing.assert_array_equal(runner.infer({"x": rows(2)})["y"], 2 * rows(2))
        assert not runner.can_run({"x": rows(3)})


def test_another_dtype_is_refused(make):
    runner, _ = make()
    with runner, pytest.raises(DtypeError, match="'x' has another dtype"):
        runner.infer({"x": rows(2, "float16")})


def test_what_tensorrt_says_goes_to_the_log_alone(make, caplog, capfd):
    runner, _ = make()
    with caplog.at_level("INFO", logger="gspn2_deploy"), runner:
        trt = sys.modules["tensorrt"]
        for severity in trt.ILogger.Severity:
            trt.logger.log(severity, f"it says {severity.name}")
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("ERROR", "TensorRT: it says INTERNAL_ERROR"),
        ("ERROR", "TensorRT: it says ERROR"),
        ("WARNING", "TensorRT: it says WARNING"),
    ]
    assert capfd.readouterr().out == ""


def test_a_failed_run_is_an_error(make):
    runner, machine = make()
    with runner:
        machine.engine.fails = True
        with pytest.raises(RunFailedError, match="failed to run"):
            runner.infer({"x": rows(1)})
        machine.engine.fails = False
        machine.cuda.fails_on_synchronize = True
        with pytest.raises(RunFailedError, match="illegal memory access"):
            runner.infer({"x": rows(1)})
        machine.cuda.fails_on_synchronize = False
        machine.cuda.free_bytes = 10
        with pytest.raises(RunFailedError, match="no memory for 'x'"):
            runner.infer({"x": rows(4)})
    assert machine.cuda.memory == {}


class TestCallersMemory:
    @pytest.mark.parametrize("dtype", KINDS)
    def test_the_engine_works_in_it(self, make, dtype):
        runner, machine = make(dtype)
        with runner:
            runner.infer({"x": rows(2, dtype)})
            x, y = machine.cuda.array(rows(3, dtype)), machine.cuda.array(rows(3, dtype))
            runner.enqueue({"x": x, "y": y}, stream=9)
            np.testing.assert_array_equal(y.numpy(), rows(3, dtype) * rows(1, dtype).dtype.type(2))
            np.testing.assert_array_equal(  # and its own memory is used again afterwards
                runner.infer({"x": rows(3, dtype)})["y"],
                rows(3, dtype) * rows(1, dtype).dtype.type(2),
            )
            x.free()
            y.free()

    def test_it_drops_a_graph(self, make):
        runner, machine = make(graph=True)
        with runner:
            runner.infer({"x": rows(2)})
            x, y = machine.cuda.array(rows(2)), machine.cuda.array(rows(2))
            runner.enqueue({"x": x, "y": y}, stream=9)
            assert machine.driver.graphs == 0
            np.testing.assert_array_equal(runner.infer({"x": 3 * rows(2)})["y"], 6 * rows(2))
            x.free()
            y.free()

    @pytest.fixture
    def world(self, make):
        runner, machine = make()
        with runner:
            x, y = machine.cuda.array(rows(2)), machine.cuda.array(rows(2))
            yield runner, machine, {"x": x, "y": y}
            machine.cuda.memory.clear()

    def refused(self, world, error, match, **changes):
        runner, _, buffers = world
        with pytest.raises(error, match=match):
            runner.enqueue({**buffers, **changes}, stream=9)

    def test_freed_memory_is_refused(self, world):
        world[2]["x"].free()
        self.refused(world, DeviceBufferError, "cannot reach the buffer of 'x'")

    def test_host_memory_is_refused(self, world):
        self.refused(world, DeviceBufferError, "is not on the GPU", x=rows(2))

    def test_another_dtype_is_refused(self, world):
        half = world[1].cuda.array(rows(2, "float16"))
        self.refused(world, DtypeError, "'x' has another dtype", x=half)

    def test_a_shape_outside_the_profile_is_refused(self, world):
        wide = world[1].cuda.array(rows(17))
        self.refused(world, ShapeError, "no profile of the plan covers", x=wide)

    def test_an_output_of_another_shape_is_refused(self, world):
        small = world[1].cuda.array(rows(1))
        self.refused(world, ShapeError, "'y' has another shape", y=small)

    def test_strided_memory_is_refused(self, world):
        strided = world[1].cuda.array(rows(2), strides=(24, 8))
        self.refused(world, DeviceBufferError, "not contiguous", x=strided)

    def test_strides_that_change_nothing_are_taken(self, world):
        runner, machine, buffers = world
        one = machine.cuda.array(rows(1), strides=(999, 4))  # one row: its stride is not used
        out = machine.cuda.array(rows(1), strides=(12, 4))
        runner.enqueue({"x": one, "y": out}, stream=9)
        runner.enqueue(buffers, stream=9)

    def test_misaligned_memory_is_refused(self, world):
        x = world[2]["x"]
        x.__cuda_array_interface__["data"] = (4096 * 16 + 4, False)
        self.refused(world, DeviceBufferError, "not aligned")

    def test_names_must_be_those_of_the_engine(self, world):
        self.refused(world, DeviceBufferError, "names are not those", z=world[2]["x"])
        del world[2]["y"]
        self.refused(world, DeviceBufferError, "names are not those")


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


class TestLayers:
    def test_a_profile_says_what_ran_and_in_which_type(self, make):
        runner, machine = make("float16")
        with runner:
            runner.infer({"x": rows(2, "float16")})
            layers = {
                layer.name: layer for layer in runner.profile({"x": rows(2, "float16")}, runs=3)
            }
            plugin = layers[PLUGIN_LAYER]
            assert (plugin.is_plugin, plugin.dtype) == (True, "float16")
            assert plugin.milliseconds == pytest.approx(0.5)
            assert plugin.bytes == 2 * 2 * 3 * 2
            assert not layers["conv"].is_plugin
            assert machine.engine.contexts == 1
            np.testing.assert_array_equal(runner.infer({"x": rows(2, "float16")})["y"], 2 * rows(2))
        assert machine.engine.contexts == 0

    def test_a_profiler_that_is_told_nothing_is_an_error(self, make, monkeypatch):
        runner, _ = make()
        monkeypatch.setattr(
            "runners.tensorrt_fakes.FakeContext.report_to_profiler", lambda self: False
        )
        with runner:
            with pytest.raises(RunFailedError, match="no layer times"):
                runner.profile({"x": rows(2)})
            np.testing.assert_array_equal(runner.infer({"x": rows(2)})["y"], 2 * rows(2))

    def test_layers_of_an_engine_without_details_are_names(self):
        layers = read_layers(json.dumps({"Layers": ["a", "b"]}))
        assert [(layer.name, layer.dtype, layer.bytes) for layer in layers] == [
            ("a", None, None),
            ("b", None, None),
        ]

    def test_fused_layers_names_have_control_characters_between(self):
        text = json.dumps({"Layers": [{"Name": "a", "LayerType": "PluginV2", "Metadata": "@"}]})
        (layer,) = read_layers(text.replace("@", "[ONNX Layer: a]\x1e[ONNX Layer: b]"))
        assert layer.is_plugin

    def test_text_that_one_layer_spoils_is_asked_for_layer_by_layer(self, make, monkeypatch):
        runner, _ = make()
        whole = "runners.tensorrt_fakes.FakeInspector.get_engine_information"
        monkeypatch.setattr(whole, lambda self, form: '{"Layers": [{"Name": nan}]}')
        with runner:
            layers = runner.profile({"x": rows(2)}, runs=1)
        assert [layer.name for layer in layers if layer.is_plugin] == [PLUGIN_LAYER]

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": 3}', "{"])
    def test_other_text_has_no_layers(self, text):
        assert read_layers(text) == ()

    @pytest.mark.parametrize(
        "description, dtype",
        [
            ("Row major linear FP16 format", "float16"),
            ("Row major linear FP32", "float32"),
            ("Channel major FP16 format where channel % 8 == 0", "float16"),
            ("Half", "float16"),
            ("BFloat16", "bfloat16"),
            ("N/A due to dynamic shapes", None),
        ],
    )
    def test_types_as_versions_word_them(self, description, dtype):
        tensor = {"Name": "t", "Dimensions": [1, 8], "Format/Datatype": description}
        item = {"Name": "a", "LayerType": "PluginV3", "Outputs": [tensor]}
        (layer,) = read_layers(json.dumps({"Layers": [item]}))
        assert layer.dtype == dtype
        assert layer.is_plugin

    def test_layers_of_several_profiles_have_one_node(self):
        layers = read_layers(json.dumps({"Layers": ["a [profile 0]", "a [profile 12]", "b"]}))
        assert [layer.node for layer in layers] == ["a", "a", "b"]

    def test_extents_that_are_not_known(self):
        tensor = {"Name": "t", "Dimensions": [-1, 8], "Format/Datatype": "Half"}
        (layer,) = read_layers(json.dumps({"Layers": [{"Name": "a", "Outputs": [tensor]}]}))
        assert layer.outputs[0].shape is None
        assert layer.bytes is None

    def test_times_are_medians_of_sums(self):
        layers = read_layers(json.dumps({"Layers": default_layers()}))
        runs = [[("conv", 1.0), ("conv", 1.0)], [("conv", 5.0)], [("conv", 3.0), ("new", 2.0)]]
        timed = {layer.name: layer.milliseconds for layer in with_times(layers, runs)}
        assert timed == {"conv": 3.0, "reformat": None, PLUGIN_LAYER: None, "new": 2.0}


def test_it_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; "
        "import gspn2_deploy.runners.tensorrt_runner, gspn2_deploy.runners.golden_runner"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
