"""What TensorRT for RTX makes of exported files, on a machine without a GPU."""

import pytest
import torch
from export_models import FourScans, Pair, Propagate, seeded
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
pytestmark = pytest.mark.tensorrt


def parse(path):
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse_from_file(str(path))
    errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    assert parsed, errors
    return builder, network, logger


def loops(network):
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    return sum(kind == trt.LayerType.TRIP_LIMIT for kind in kinds)


def test_every_body_becomes_two_loops(exported):
    _, network, _ = parse(exported.summary.path)
    assert loops(network) == 2
    assert network.get_output(0).shape == (-1, 2, -1, -1)


@pytest.mark.parametrize(
    "model, scans",
    [
        (seeded(Pair(Propagate("softmax"), Propagate("none", skip=False, merge=False))), 4),
        (seeded(Pair(Propagate(skip=False), Propagate(merge=False))), 4),
        (seeded(FourScans()), 4),
    ],
    ids=["modes", "optional", "line-scans"],
)
def test_mixed_variants_parse(tmp_path, model, scans):
    export_onnx(model, tmp_path / "a.onnx")
    assert loops(parse(tmp_path / "a.onnx")[1]) == scans


@pytest.mark.parametrize("base", ["fp32", "fp16", "bf16"])
def test_builds(tmp_path, base):
    model = seeded(Propagate(chunk=4))
    options = ExportOptions(precision=PrecisionPlan(base), dynamic_size=True)
    export_onnx(model, tmp_path / "a.onnx", options)
    builder, network, _ = parse(tmp_path / "a.onnx")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    profile.set_shape("images", (1, 3, 1, 1), (2, 3, 16, 16), (4, 3, 64, 64))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    assert plan.nbytes > 0
    assert torch.is_grad_enabled()  # the export left torch as it found it
