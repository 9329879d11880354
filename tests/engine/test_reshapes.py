from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_models import conv_model, request_for
from pyramid_model import pyramid_model

from gspn2_deploy.build import create_backend, parse_profile
from gspn2_deploy.build.reshapes import with_own_extents
from gspn2_deploy.progress import Step


def rewritten(path: Path) -> onnx.ModelProto:
    content = with_own_extents(path)
    assert content is not None
    return onnx.load_from_string(content)


def test_every_reshape_of_a_derived_extent_is_rewritten(tmp_path: Path):
    model = rewritten(pyramid_model(tmp_path / "m.onnx"))
    reshapes = [node for node in model.graph.node if node.op_type == "Reshape"]
    assert len(reshapes) == 9
    assert all(node.input[1] == f"{node.output[0]}_own_extents" for node in reshapes)
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 33, 47), (3, 3, 1, 5)])
def test_it_computes_the_same(tmp_path: Path, shape: tuple[int, ...]):
    runtime = pytest.importorskip("onnxruntime")
    path = pyramid_model(tmp_path / "m.onnx")
    inputs = {"images": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    contents = (path.read_bytes(), rewritten(path).SerializeToString())
    before, after = (
        runtime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, inputs)[0]
        for content in contents
    )
    assert before.shape[2] == (shape[2] + 7) // 8
    np.testing.assert_array_equal(before, after)


def test_fixed_sizes_are_left_alone(onnx_file: Path):
    assert with_own_extents(onnx_file) is None


def test_unannotated_reshapes_are_left_alone(tmp_path: Path):
    path = pyramid_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    del model.graph.value_info[:]
    onnx.save(model, path)
    assert with_own_extents(path) is None


def test_an_extent_that_is_not_the_tensors_own_is_left_alone(tmp_path: Path):
    path = pyramid_model(tmp_path / "m.onnx", levels=1)
    model = onnx.load(path)
    for item in model.graph.value_info:
        if item.name in ("lam1", "w1", "u1"):
            item.type.tensor_type.shape.dim[-1].dim_param = "another"
    onnx.save(model, path)
    assert with_own_extents(path) is None


def test_old_opsets_are_left_alone(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    next(item for item in model.opset_import if not item.domain).version = 14
    onnx.save(model, path)
    assert with_own_extents(path) is None


@pytest.mark.tensorrt
def test_free_sizes_build(tmp_path: Path):
    """As the file stands, the library recurses until its process dies."""
    path = pyramid_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    profile = parse_profile("images=1x3x32x32:1x3x64x64:2x3x128x96")
    request = request_for(path, (profile,))
    create_backend("tensorrt-rtx").build(request, Step())
    assert request.plan_path.stat().st_size > 10_000
