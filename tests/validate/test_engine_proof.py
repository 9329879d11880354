"""What an engine proves of its plugin layers, with the ONNX file at hand and without."""

from types import SimpleNamespace

import pytest

from gspn2_deploy.runners.engine_layers import EngineLayer, EngineTensor
from gspn2_deploy.validate.engine_proof import (
    EngineProof,
    PluginKind,
    PluginNode,
    prove_counts,
    prove_plugins,
)

NORM, CONV, BOTH = "GspnChannelNorm_norm", "GspnDepthwise_conv", "GspnDepthwiseNorm_conv"
NAMED = {name: name.partition("_")[0] for name in (NORM, CONV, BOTH)}
NODES = [PluginNode(name, "GspnProp2D", "float16") for name in ("a.prop2d", "b.prop2d")]


def manifest(fused=None, propagations=2, precision="fp16"):
    """The part of a manifest that a proof reads."""
    counts = {"GspnProp2D": propagations, "GspnLineScan": 0}
    return SimpleNamespace(fused=fused, propagations=counts, precision=precision)


def layer(name, kind="PluginV2", dtype="float16", milliseconds=0.1):
    tensors = (EngineTensor("t", dtype, (1,)),)
    return EngineLayer(name, kind, tensors, tensors, milliseconds)


BLOCKS = [layer("a.prop2d"), layer("b.prop2d")]
FUSED = [layer(name) for name in NAMED]
REST = [layer("the rest", "CaskConvolution", milliseconds=0.5)]


@pytest.fixture(params=["file", "counts"])
def prove(request):
    """Returns prove(layers, manifest): with the ONNX file, and by the manifest alone."""
    if request.param == "counts":
        return prove_counts
    return lambda layers, manifest: prove_plugins(layers, NODES, manifest)


def test_every_plugin_layer_is_counted_by_its_op(prove):
    proof = prove([*REST, *BLOCKS, *FUSED], manifest(NAMED))
    assert not proof.failures + proof.unproven
    assert [item.op_type for item in proof.plugins] == ["GspnProp2D"] * 2 + list(NAMED.values())
    assert {item.name for item in proof.propagations} == {"a.prop2d", "b.prop2d"}
    assert [item.kind for item in proof.plugins] == [PluginKind.PROPAGATION] * 2 + [
        PluginKind.FUSED
    ] * 3
    assert proof.summary == (
        "2 GspnProp2D, 1 GspnChannelNorm, 1 GspnDepthwise, 1 GspnDepthwiseNorm ran, float16; "
        "50% of the layers' time in the plugin"
    )


def test_an_older_manifest_leaves_the_engine_to_say_what_was_fused(prove):
    proof = prove([*BLOCKS, *FUSED], manifest(None))
    assert not proof.failures
    assert {item.name: item.op_type for item in proof.plugins[2:]} == NAMED


def test_what_the_manifest_names_must_be_there(prove):
    proof = prove([*BLOCKS, *FUSED[:2]], manifest(NAMED))
    assert proof.failures == (f"no plugin layer in the engine: {BOTH}",)
    assert "0 of 1 GspnDepthwiseNorm ran" in proof.summary


def test_what_is_there_must_be_named(prove):
    proof = prove([*BLOCKS, *FUSED], manifest({NORM: NAMED[NORM], CONV: NAMED[CONV]}))
    assert proof.failures == (f"a plugin layer that the manifest does not name: {BOTH}",)


@pytest.mark.parametrize("fused", [NAMED, None], ids=["named", "older"])
def test_a_fused_layer_that_did_not_run_or_in_another_type(prove, fused):
    wide, idle = layer(CONV, dtype="float32"), layer(NORM, milliseconds=None)
    proof = prove([*BLOCKS, idle, wide, FUSED[2]], manifest(fused))
    assert proof.failures == (
        f"a plugin layer did not run: {NORM}",
        f"a plugin layer ran in another type: {CONV} in float32 instead of float16",
    )
    assert "0 of 1 GspnChannelNorm" in proof.summary
    assert "ran, 3 in float16, 1 in float32;" in proof.summary


def test_of_a_mixed_file_the_types_are_told_and_not_held(prove):
    proof = prove([*BLOCKS, layer(CONV, dtype="float32")], manifest(None, precision="mixed"))
    assert not proof.failures
    assert proof.plugins[-1].dtype == "float32"


def test_a_fused_layer_that_the_plugin_does_not_run(prove):
    proof = prove([*BLOCKS, *FUSED[1:], layer(NORM, kind="Myelin")], manifest(NAMED))
    assert proof.failures == (f"a fused layer is no plugin layer: {NORM}",)


def test_kinds_that_tensorrt_does_not_tell(prove):
    blocks = [EngineLayer(name, milliseconds=0.1) for name in ("a.prop2d", "b.prop2d")]
    quiet = [EngineLayer(name, milliseconds=0.1) for name in NAMED]
    if prove is prove_counts:
        blocks = BLOCKS  # without the file their kind alone tells propagations
    proof = prove([*blocks, *quiet], manifest(NAMED))
    assert not proof.failures
    assert proof.unproven


def test_what_stands_for_standard_ops_counts_for_no_propagation():
    proof = prove_counts([BLOCKS[0], *FUSED], manifest(NAMED))
    assert proof.failures == ("no plugin layer in the engine: 1 of 2",)
    assert [plugin.name for plugin in proof.propagations] == ["a.prop2d"]


def test_types_and_layers_that_did_not_run():
    proof = prove_counts([layer("a.prop2d", dtype="float32"), BLOCKS[1]], manifest())
    assert proof.failures == (
        "a plugin layer ran in another type: a.prop2d in float32 instead of float16",
    )
    proof = prove_counts([layer("a.prop2d", milliseconds=None), BLOCKS[1]], manifest())
    assert proof.failures == ("a plugin layer did not run: a.prop2d",)
    assert proof.summary.startswith("1 of 2 GspnProp2D ran, float16;")


def test_several_ops_that_no_file_tells_apart():
    both = manifest()
    both.propagations = {"GspnProp2D": 1, "GspnLineScan": 1}
    assert prove_counts(BLOCKS, both).summary.startswith("2 propagations ran, float16;")


def test_nothing_to_count():
    assert EngineProof((), 0, 0.0).summary.startswith("no plugin layers ran;")
