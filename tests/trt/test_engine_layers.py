"""What is read from the engine inspector, and what contradicts a file's precision."""

import json

import pytest

from gspn2_deploy.build.engine_layers import (
    EngineLayer,
    check_plugin_layers,
    check_precision,
    dtype_counts,
    misplaced_layers,
    read_layers,
)
from gspn2_deploy.build.translate import EngineLibraryError


def inspector_text(description, name="a", kind="PluginV2"):
    tensor = {"Name": "t", "Location": "Device", "Format/Datatype": description}
    layer = {"Name": name, "LayerType": kind, "Inputs": [tensor, tensor], "Outputs": [tensor]}
    return json.dumps({"Layers": [layer, "Reformatting CopyNode"], "Bindings": ["images"]})


@pytest.mark.parametrize(
    "description, dtype",
    [
        ("Row major linear FP16 format", "float16"),
        ("Row major linear FP32", "float32"),
        ("Channel major FP16 format where channel % 8 == 0", "float16"),
        ("Two wide channel vectorized row major FP16 format", "float16"),
        ("Half", "float16"),
        ("BFloat16", "bfloat16"),
        ("Row major linear INT32", "int32"),
        ("N/A due to dynamic shapes: Float", "float32"),
    ],
)
def test_types_are_read(description, dtype):
    layers = read_layers(inspector_text(description))
    assert layers == [EngineLayer("a", "PluginV2", (dtype, dtype), (dtype,))]
    assert dtype_counts(layers) == {dtype: 1}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"Layers": ["a", "b"]}'])
def test_what_tells_nothing_gives_nothing(text):
    assert read_layers(text) == []


def test_an_untold_type_is_not_guessed():
    layers = read_layers(inspector_text("N/A due to dynamic shapes"))
    assert layers == [EngineLayer("a", "PluginV2", (), ())]
    assert dtype_counts(layers) == {}
    assert check_plugin_layers(layers, {"a": "float16"}) == ("a",)


def test_the_profile_is_no_part_of_a_name():
    (layer,) = read_layers(inspector_text("Half", name="block/prop [profile 2]"))
    assert layer.name == "block/prop"


def layer(name, inputs, output, kind="CaskConvolution"):
    return EngineLayer(name, kind, tuple(inputs.split()), (output,))


def test_every_plugin_layer_must_be_there_in_its_type():
    layers = [layer("a", "float16", "float16"), layer("b", "float32", "float32")]
    assert check_plugin_layers(layers, {"a": "float16", "b": "float32"}) == ()
    with pytest.raises(EngineLibraryError, match="missing from the engine") as caught:
        check_plugin_layers(layers, {"a": "float16", "c": "float16"})
    assert caught.value.got == "c"
    with pytest.raises(EngineLibraryError, match="do not run in the type") as caught:
        check_plugin_layers(layers, {"a": "float32", "b": "float32"})
    assert caught.value.got == "a: float16"


def test_a_float32_engine_has_no_reduced_layer():
    layers = [layer("a", "float32", "float32"), layer("shape", "int32", "int64", "Shape")]
    assert misplaced_layers(layers, "fp32") == []
    half = layer("b", "float16", "float32", "Reformat")
    assert misplaced_layers([*layers, half], "fp32") == [half]


@pytest.mark.parametrize("precision, dtype", [("fp16", "float16"), ("bf16", "bfloat16")])
def test_a_reduced_engine_multiplies_in_the_reduced_type(precision, dtype):
    sound = [
        layer("a", dtype, dtype),
        layer("cast behind it", dtype, "float32"),
        layer("cast before it", "float32", dtype, "gemm"),
        layer("norm", "float32", "float32", "Reduce"),
    ]
    assert misplaced_layers(sound, precision) == []
    for kind in ("CaskConvolution", "CaskGemmMatrixMultiply", "CudaDepthwiseConvolution", "gemm"):
        wide = layer("w", "float32 float32", "float32", kind)
        assert misplaced_layers([*sound, wide], precision) == [wide]


def test_a_mixed_engine_and_an_unstated_precision_tell_nothing():
    layers = [layer("a", "float16", "float16"), layer("b", "float32", "float32")]
    assert misplaced_layers(layers, "mixed") == []
    assert misplaced_layers(layers, None) == []


def test_an_error_names_the_first_few():
    layers = [layer(f"conv{index}", "float32", "float32") for index in range(7)]
    with pytest.raises(EngineLibraryError, match="do not run in fp16") as caught:
        check_precision(layers, "fp16")
    assert "conv4 (CaskConvolution): float32 -> float32; and 2 more" in str(caught.value.got)
