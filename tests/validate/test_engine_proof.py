"""What an engine proves by itself, where the ONNX file is not at hand."""

from gspn2_deploy.runners.engine_layers import EngineLayer, EngineTensor
from gspn2_deploy.validate.engine_proof import prove_counts

COUNTS = {"GspnProp2D": 2}


def layer(name, kind="PluginV2", dtype="float16", milliseconds=0.1):
    tensors = (EngineTensor("t", dtype, (1,)),)
    return EngineLayer(name, kind, tensors, tensors, milliseconds)


BLOCKS = [layer("a.prop2d"), layer("b.prop2d")]
FUSED = [layer("GspnChannelNorm_norm"), layer("GspnDepthwise_conv")]


def test_what_stands_for_standard_ops_counts_for_no_propagation():
    assert not prove_counts([*BLOCKS, *FUSED], COUNTS, "fp16").failures
    proof = prove_counts([BLOCKS[0], *FUSED], COUNTS, "fp16")
    assert proof.failures == ("no plugin layer in the engine: 1 of 2",)
    assert [plugin.name for plugin in proof.plugins] == ["a.prop2d"]


def test_types_and_layers_that_did_not_run():
    proof = prove_counts([layer("a.prop2d", dtype="float32"), BLOCKS[1]], COUNTS, "fp16")
    assert proof.failures == (
        "a plugin layer ran in another type: a.prop2d in float32 instead of float16",
    )
    proof = prove_counts([layer("a.prop2d", milliseconds=None), BLOCKS[1]], COUNTS, "fp16")
    assert proof.failures == ("a plugin layer did not run: a.prop2d",)
