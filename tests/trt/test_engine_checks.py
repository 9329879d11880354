"""What contradicts a file among a built engine's layers."""

import pytest

from gspn2_deploy.build.engine_checks import (
    check_plugin_layers,
    check_precision,
    dtype_counts,
    merge_layers,
    misplaced_layers,
    untold_types,
)
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.runners.engine_layers import EngineLayer, EngineTensor


def layer(name, inputs, output, kind="CaskConvolution"):
    def tensors(types):
        return tuple(EngineTensor("t", dtype, None) for dtype in types)

    outputs = output.split() if output else [None]
    return EngineLayer(name, kind, tensors(inputs.split()), tensors(outputs))


def test_every_plugin_layer_must_be_there_in_its_type():
    layers = [layer("a", "float16", "float16"), layer("b [profile 1]", "float32", "float32")]
    assert check_plugin_layers(layers, {"a": "float16", "b": "float32"}) == ()
    with pytest.raises(EngineLibraryError, match="missing from the engine") as caught:
        check_plugin_layers(layers, {"a": "float16", "c": "float16"})
    assert caught.value.got == "c"
    with pytest.raises(EngineLibraryError, match="do not run in the type") as caught:
        check_plugin_layers(layers, {"a": "float32", "b": "float32"})
    assert caught.value.got == "a: float16"


def test_all_that_a_plugin_layer_gives_has_its_type():
    both = layer("a", "float16", "float16 float16")
    assert check_plugin_layers([both], {"a": "float16"}) == ()
    for given in ("float16 float32", "float32 float16"):
        with pytest.raises(EngineLibraryError, match="do not run in the type") as caught:
            check_plugin_layers([layer("a", "float16", given)], {"a": "float16"})
        assert caught.value.got == "a: float16 and float32"
    tensors = (EngineTensor("y", "float16", None), EngineTensor("z", None, None))
    assert check_plugin_layers([EngineLayer("a", outputs=tensors)], {"a": "float16"}) == ("a",)


def test_an_untold_type_is_not_guessed():
    layers = [layer("a", "", None)]
    assert check_plugin_layers(layers, {"a": "float16"}) == ("a",)
    assert dtype_counts([*layers, layer("b", "", "int32")]) == {"int32": 1}
    assert misplaced_layers(layers, "fp16") == []


def test_untold_types_are_told_apart_from_none_told():
    told, untold = layer("conv", "float16", "float16"), layer("a", "", None)
    assert untold_types([told], 0) is None
    assert "the type of 1 plugin layers: " in untold_types([told, untold], 1)
    assert "the type of any layer, 1 plugin layers among them" in untold_types([untold], 1)


def test_a_layer_counts_as_it_was_told_with_its_type():
    told, untold, bare = layer("a", "", "float16"), layer("a", "", None), layer("b", "", None, "")
    assert merge_layers([untold, told, bare]) == [told]
    assert merge_layers([told, untold]) == [told]
    assert merge_layers([untold, layer("c", "", None)]) == [untold, layer("c", "", None)]


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
