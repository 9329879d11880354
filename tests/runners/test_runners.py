"""Every runner: what it computes, what it refuses, and how it says so."""

from __future__ import annotations

import builtins
import sys

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from runners.small_models import TwoHeads, images, specs, torch_runner, write_onnx
from torch import nn

from gspn2_deploy.errors import (
    DtypeError,
    GoldenFileError,
    InputError,
    MissingDependencyError,
    OnnxFileError,
    PlatformError,
    ShapeError,
    UsageError,
)
from gspn2_deploy.runners.golden_runner import GoldenRunner, Recording
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner, Optimization
from gspn2_deploy.runners.torch_runner import TorchRunner, to_array, to_tensor


@pytest.fixture
def file(tmp_path):
    return write_onnx(tmp_path / "model.onnx")


def golden(count: int = 2) -> GoldenRunner:
    with torch_runner() as runner:
        batches = [{"images": images(seed=seed)} for seed in range(count)]
        return GoldenRunner([Recording(batch, runner.infer(batch)) for batch in batches])


class TestBase:
    def test_a_runner_must_be_entered(self):
        with pytest.raises(RuntimeError, match="use `with`"):
            torch_runner().infer({"images": images()})

    def test_it_cannot_be_used_after_leaving(self, file):
        with OnnxRuntimeRunner(file) as runner:
            runner.infer({"images": images()})
        with pytest.raises(RuntimeError, match="use `with`"):
            runner.infer({"images": images()})

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({}, "names do not fit"),
            ({"image": images()}, "names do not fit"),
            ({"images": images(), "more": images()}, "names do not fit"),
            ({"images": images()[:, :1]}, "shape that does not fit"),
            ({"images": images()[0]}, "shape that does not fit"),
            ({"images": images()[:0]}, "is empty"),
        ],
    )
    def test_inputs_that_do_not_fit(self, inputs, message):
        with torch_runner() as runner, pytest.raises(ShapeError, match=message):
            runner.infer(inputs)

    def test_another_dtype_is_told_apart_from_another_shape(self):
        wide = images().astype(np.float64)
        with torch_runner() as runner, pytest.raises(DtypeError, match="another dtype") as caught:
            runner.infer({"images": wide})
        assert (caught.value.got, caught.value.expected) == ("float64", "float32")
        assert "array.astype" in str(caught.value)
        assert caught.value.exit_code == 2

    def test_a_named_extent_is_equal_everywhere(self):
        both = (*specs(), specs()[0].__class__("mask", "float32", ("batch",)))

        class Masked(nn.Module):
            def forward(self, batch, mask):
                return batch.mean((1, 2, 3)) * mask

        with TorchRunner(Masked(), both, ["y"]) as runner:
            mask = np.ones(3, np.float32)
            assert runner.infer({"images": images(3), "mask": mask})["y"].shape == (3,)
            with pytest.raises(ShapeError, match="batch = 3"):
                runner.infer({"images": images(3), "mask": mask[:2]})

    def test_non_contiguous_inputs_are_the_same_inputs(self, file):
        values = images(4)
        with OnnxRuntimeRunner(file) as runner:
            strided = runner.infer({"images": values[::2]})
            copied = runner.infer({"images": values[::2].copy()})
        np.testing.assert_array_equal(strided["logits"], copied["logits"])


class TestTorch:
    def test_eval_mode_without_gradients(self):
        class Noisy(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale = nn.Parameter(torch.ones(1))
                self.drop = nn.Dropout(0.5)

            def forward(self, x):
                assert not torch.is_grad_enabled()
                return self.drop(x) * self.scale

        with TorchRunner(Noisy().train(), specs(), ["y"]) as runner:
            np.testing.assert_array_equal(runner.infer({"images": images()})["y"], images())

    @pytest.mark.parametrize(
        "device, error, words",
        [("banana", UsageError, "no such device"), ("cuda:97", PlatformError, "sees no GPU")],
    )
    def test_a_device_that_is_not_there(self, device, error, words):
        runner = TorchRunner(TwoHeads(), specs(), ("logits", "aux"), device=device)
        with pytest.raises(error, match=words), runner:
            pass

    def test_float32_is_float32_on_a_gpu_too(self):
        seen = []

        class Asking(TwoHeads):
            def forward(self, x):
                backends = torch.backends
                seen.append((backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32))
                return super().forward(x)

        with torch_runner(Asking()) as runner:
            runner.infer({"images": images()})
        assert seen == [(False, False)]
        assert torch.backends.cudnn.allow_tf32  # as it was

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_dtypes_round_trip(self, dtype):
        values = images(dtype=dtype)
        assert values.dtype.name == dtype
        back = to_array(to_tensor(values))
        assert back.dtype == values.dtype
        np.testing.assert_array_equal(back.view(np.uint8), values.view(np.uint8))

    def test_arrays_are_not_shared_with_tensors(self):
        values = images()
        to_tensor(values).zero_()
        assert values.any()

    def test_outputs_by_name_from_a_mapping(self):
        class Named(nn.Module):
            def forward(self, x):
                return {"b": x, "a": 2 * x}

        with TorchRunner(Named(), specs(), ["a", "b"]) as runner:
            result = runner.infer({"images": images()})
        np.testing.assert_array_equal(result["a"], 2 * result["b"])

    def test_another_number_of_outputs(self):
        with (
            TorchRunner(TwoHeads(), specs(), ["logits"]) as runner,
            pytest.raises(ShapeError, match="another number of outputs"),
        ):
            runner.infer({"images": images()})

    def test_nested_outputs_are_named_in_order(self):
        class Nested(nn.Module):
            def forward(self, x):
                return {"pair": (x, [2 * x])}

        with TorchRunner(Nested(), specs(), ["one", "two"]) as runner:
            result = runner.infer({"images": images()})
        np.testing.assert_array_equal(result["two"], 2 * result["one"])

    def test_a_runner_that_gives_other_outputs_than_it_announced(self, file):
        class Broken(OnnxRuntimeRunner):
            def infer_impl(self, inputs):
                return {"logits": super().infer_impl(inputs)["logits"]}

        with Broken(file) as runner, pytest.raises(ShapeError, match="not those that were"):
            runner.infer({"images": images()})

    def test_a_users_model_that_raises(self):
        class Picky(nn.Module):
            def forward(self, x):
                return x.reshape(5, 7)

        with (
            TorchRunner(Picky(), specs(), ["y"]) as runner,
            pytest.raises(InputError, match=r"failed on images \(3, 2, 4, 6\)"),
        ):
            runner.infer({"images": images()})

    def test_a_layer_without_an_implementation(self):
        class Absent(nn.Module):
            def forward(self, x):
                raise NotImplementedError("no kernel for 'Half'")

        with (
            TorchRunner(Absent(), specs(), ["y"]) as runner,
            pytest.raises(PlatformError, match="no kernel for 'Half'"),
        ):
            runner.infer({"images": images()})


class TestOnnxRuntime:
    @pytest.mark.parametrize("optimization", list(Optimization))
    def test_it_computes_what_torch_computes(self, file, optimization):
        inputs = {"images": images()}
        with OnnxRuntimeRunner(file, optimization=optimization) as runner, torch_runner() as torch_:
            assert runner.input_specs == specs()
            assert set(runner.output_names) == {"logits", "aux"}
            actual, expected = runner.infer(inputs), torch_.infer(inputs)
            assert runner.describe()["providers"] == ["CPUExecutionProvider"]
            assert runner.describe()["optimization"] == optimization.value
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=1e-6)

    def test_bfloat16_runs_widened_and_says_so(self, tmp_path):
        path = write_onnx(tmp_path / "bf16.onnx", dtype="bfloat16")
        inputs = {"images": images(dtype="bfloat16")}
        with OnnxRuntimeRunner(path) as runner, torch_runner(dtype="bfloat16") as torch_:
            actual, expected = runner.infer(inputs), torch_.infer(inputs)
            assert "widened" in runner.describe()["arithmetic"]
        assert actual["logits"].dtype == ml_dtypes.bfloat16
        np.testing.assert_allclose(
            actual["logits"].astype(np.float32),
            expected["logits"].astype(np.float32),
            rtol=0.02,
            atol=0.02,
        )

    def test_bfloat16_inside_constants_functions_and_subgraphs_is_widened(self, tmp_path):
        kind = TensorProto.BFLOAT16
        half = numpy_helper.from_array(np.array([0.5], ml_dtypes.bfloat16))
        body = [
            helper.make_node("Constant", [], ["half"], value=half),
            helper.make_node("Cast", ["x"], ["low"], to=kind),
            helper.make_node("Mul", ["low", "half"], ["scaled"]),
            helper.make_node("Cast", ["scaled"], ["y"], to=TensorProto.FLOAT),
        ]
        opset = [helper.make_opsetid("", 20)]
        function = helper.make_function("own", "Half", ["x"], ["y"], body, opset)
        branch = helper.make_graph(
            [
                helper.make_node("Cast", ["called"], ["low_y"], to=kind),
                helper.make_node("Cast", ["low_y"], ["branch_y"], to=TensorProto.FLOAT),
            ],
            "branch",
            [],
            [helper.make_tensor_value_info("branch_y", TensorProto.FLOAT, None)],
        )
        condition = numpy_helper.from_array(np.array(True), "always")
        nodes = [
            helper.make_node("Half", ["x"], ["called"], domain="own"),
            helper.make_node("If", ["always"], ["y"], then_branch=branch, else_branch=branch),
        ]
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], [condition])
        model = helper.make_model(
            graph,
            functions=[function],
            opset_imports=[*opset, helper.make_opsetid("own", 1)],
            ir_version=10,
        )
        onnx.save(model, tmp_path / "inner.onnx")
        with OnnxRuntimeRunner(tmp_path / "inner.onnx") as runner:
            got = runner.infer({"x": np.array([1.0, 3.0], np.float32)})["y"]
            assert "widened" in runner.describe()["arithmetic"]
        np.testing.assert_array_equal(got, np.array([0.5, 1.5], np.float32))

    def test_a_missing_file(self, tmp_path):
        with (
            pytest.raises(OnnxFileError, match="does not exist"),
            OnnxRuntimeRunner(tmp_path / "x"),
        ):
            pass

    @pytest.mark.parametrize("keep", [0, 1, 40, -10])
    def test_a_truncated_file(self, file, keep):
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(OnnxFileError, match="not a valid ONNX model"), OnnxRuntimeRunner(file):
            pass

    @pytest.mark.parametrize("damage", ["missing", "truncated"])
    def test_damaged_external_data(self, tmp_path, damage):
        path = tmp_path / "model.onnx"
        onnx.save(
            onnx.load(write_onnx(tmp_path / "whole.onnx")),
            path,
            save_as_external_data=True,
            location="model.data",
            size_threshold=60,  # counts Python's header: the axes (16 bytes) stay inside
        )
        with OnnxRuntimeRunner(path) as runner:
            runner.infer({"images": images()})
        data = tmp_path / "model.data"
        data.unlink() if damage == "missing" else data.write_bytes(data.read_bytes()[:8])
        with pytest.raises(OnnxFileError, match="external data"), OnnxRuntimeRunner(path):
            pass

    def test_an_operator_nobody_knows(self, tmp_path):
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
        node = helper.make_node("GspnProp2D", ["x"], ["y"], domain="gspn2")
        model = helper.make_model(
            helper.make_graph([node], "g", [value], [result]),
            opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("gspn2", 1)],
            ir_version=10,
        )
        onnx.save(model, tmp_path / "bodyless.onnx")
        with (
            pytest.raises(OnnxFileError, match="GspnProp2D"),
            OnnxRuntimeRunner(tmp_path / "bodyless.onnx"),
        ):
            pass

    def test_a_provider_that_this_build_lacks(self, file):
        runner = OnnxRuntimeRunner(file, providers=["TensorrtRtxOrSoExecutionProvider"])
        with pytest.raises(MissingDependencyError, match="onnxruntime-gpu"), runner:
            pass

    def test_onnxruntime_is_not_installed(self, file, monkeypatch):
        real = builtins.__import__

        def fail(name, *args, **kwargs):
            if name == "onnxruntime":
                raise ImportError("No module named 'onnxruntime'")
            return real(name, *args, **kwargs)

        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
        monkeypatch.setattr(builtins, "__import__", fail)
        with (
            pytest.raises(
                MissingDependencyError, match=r"pip install 'gspn2-deploy\[onnxruntime\]'"
            ),
            OnnxRuntimeRunner(file),
        ):
            pass

    def test_failure_while_running(self, tmp_path):
        path = tmp_path / "fixed.onnx"
        shape = numpy_helper.from_array(np.array([3, 8]), "shape")
        graph = helper.make_graph(
            [helper.make_node("Reshape", ["x", "shape"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [shape],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, path)
        with OnnxRuntimeRunner(path) as runner:
            runner.infer({"x": np.ones((3, 8), np.float32)})
            with pytest.raises(PlatformError, match="failed while running"):
                runner.infer({"x": np.ones((2, 8), np.float32)})


class TestGolden:
    def test_playback_of_exactly_what_was_recorded(self):
        with golden() as runner, torch_runner() as live:
            for inputs in ({"images": images(seed=seed)} for seed in range(2)):
                np.testing.assert_array_equal(
                    runner.infer(inputs)["logits"], live.infer(inputs)["logits"]
                )
            other = {"images": images(seed=99)}
            assert not runner.can_run(other)
            with pytest.raises(GoldenFileError, match="not recorded"):
                runner.infer(other)

    def test_the_recording_cannot_be_changed_through_a_result(self):
        with golden() as runner:
            inputs = {"images": images(seed=0)}
            runner.infer(inputs)["logits"][:] = 0
            assert runner.infer(inputs)["logits"].any()

    def test_nothing_recorded(self):
        with pytest.raises(GoldenFileError, match="no golden sample"):
            GoldenRunner([])
        with pytest.raises(GoldenFileError, match="no golden sample"):
            GoldenRunner([Recording({"images": images()}, {})])

    def test_recordings_of_different_names(self):
        values = {"images": images()}
        with pytest.raises(GoldenFileError, match="different names"):
            GoldenRunner([Recording(values, {"a": images()}), Recording(values, {"b": images()})])
