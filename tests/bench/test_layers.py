"""What bounds an engine, from layers and times that are known."""

import json

import pytest

from gspn2_deploy.bench.layers import group_of, report_layers
from gspn2_deploy.runners.engine_layers import EngineLayer, EngineTensor

MIB = 1 << 20


def layer(name, kind, milliseconds, mib=None):
    shape = None if mib is None else (mib * MIB // 8,)
    tensors = (EngineTensor("t", "float32", shape),)
    return EngineLayer(name, kind, tensors, tensors, milliseconds)


LAYERS = [
    layer("conv1", "CaskConvolution", 2.0, 1),
    layer("reformat", "Reformat", 1.0, 100),
    layer("block.prop2d", "PluginV2", 1.0, 50),
    layer("idle", "Reformat", None),
]


def test_shares_and_groups():
    report = report_layers(LAYERS, copy_bytes_per_second=1e12)
    assert report.milliseconds == 4.0
    assert [item.name for item in report.layers] == ["conv1", "reformat", "block.prop2d"]
    assert report.groups == {"convolution": 2.0, "reformat and copy": 1.0, "propagation": 1.0}
    assert report.propagation_share == 0.25
    assert report.layers[1].of_copy == pytest.approx(100 * MIB / 1e-3 / 1e12)
    json.dumps(report.as_dict(), allow_nan=False)


def test_what_bounds_it():
    slow_memory = report_layers(LAYERS[1:3], copy_bytes_per_second=1.1e11)
    assert "memory bounds it" in slow_memory.bound
    fast_memory = report_layers(LAYERS, copy_bytes_per_second=1e13)
    assert "convolution takes 50% of the layers' time in 1 layers" in fast_memory.bound
    assert "not memory" in fast_memory.bound
    assert fast_memory.bound.endswith("the propagation's share is 25%")
    assert report_layers([], 1e12).bound == "no layer ran"


def test_shapes_that_are_not_told_leave_the_bandwidth_out():
    report = report_layers([layer("a", "CaskConvolution", 1.0)], 1e12)
    assert report.layers[0].of_copy is None
    assert report.bound == (
        "convolution takes 100% of the layers' time in 1 layers; the propagation's share is 0%"
    )


@pytest.mark.parametrize(
    "name, kind, group",
    [
        ("a", "PluginV3", "propagation"),
        ("GspnChannelNorm_a", "PluginV2", "norm and depthwise, by the plugin"),
        ("GspnDepthwise_a", "PluginV3", "norm and depthwise, by the plugin"),
        ("GspnDepthwiseNorm_a", "PluginV2", "norm and depthwise, by the plugin"),
        ("GspnDepthwise_a", "CaskConvolution", "convolution"),
        ("a", "CaskGemmConvolution", "convolution"),
        ("a", "CaskGemmMatrixMultiply", "matrix product"),
        ("a", "Reformat", "reformat and copy"),
        ("a", "NoOp", "reformat and copy"),
        ("a", "Myelin", "fused by TensorRT"),
        ("a", "PointWiseV2", "elementwise and reduction"),
        ("a", "TopK", "other"),
        ("Reformatting CopyNode for Input Tensor 0 to conv", "", "reformat and copy"),
        ("{ForeignNode[a...b]}", "", "fused by TensorRT"),
    ],
)
def test_groups_by_kind_or_name(name, kind, group):
    assert group_of(EngineLayer(name, kind)) == group
