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
    rows,
)

from gspn2_deploy.errors import (
    DtypeError,
    ShapeError,
)
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.engine_layers import read_layers, with_times
from gspn2_deploy.runners.plan_errors import (
    DeviceBufferError,
    RunFailedError,
)


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
