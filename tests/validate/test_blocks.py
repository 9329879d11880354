"""Marked files and propagations alone compute what the file computes."""

import numpy as np
import onnx
import pytest
from gspn2_deploy.export.check import check_onnx

from gspn2_deploy.errors import OnnxFileError
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner
from gspn2_deploy.validate.blocks import (
    alone_inputs,
    alone_output,
    read_blocks,
    values_of,
    write_alone,
    write_marked,
)

INPUTS = {"images": np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)}


def test_blocks_are_named_after_their_modules(three_blocks):
    blocks = read_blocks(three_blocks / "fp32.onnx")
    assert [block.name for block in blocks] == [
        "stages.0.blocks.0.mixer.prop2d",
        "stages.1.blocks.0.mixer.prop2d",
        "stages.1.blocks.1.mixer.prop2d",
    ]
    assert list(blocks[0].inputs) == ["x", "lam", "w", "u", "d", "m"]
    assert blocks[0].attributes == {"normalize": "sigmoid", "chunk": 2}
    assert set(blocks[0].constants) == {"m"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_marks_change_nothing_and_blocks_run_alone(three_blocks, tmp_path, precision):
    path = three_blocks / f"{precision}.onnx"
    blocks = read_blocks(path)
    marked = write_marked(path, blocks, tmp_path / "marked.onnx")
    assert len(check_onnx(marked).outputs) == 1 + 3 * 6
    with OnnxRuntimeRunner(path) as plain, OnnxRuntimeRunner(marked) as more:
        expected, found = plain.infer(INPUTS), more.infer(INPUTS)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0.05, atol=0.05)
    values = values_of(blocks, INPUTS, found)
    alone = write_alone(path, blocks, values, tmp_path / "alone.onnx")
    check_onnx(alone)
    with OnnxRuntimeRunner(alone) as runner:
        outputs = runner.infer(alone_inputs(blocks, values))
    for block in blocks:
        expected = values[block.name].output
        assert outputs[alone_output(block)].dtype == expected.dtype
        np.testing.assert_allclose(
            outputs[alone_output(block)].astype(np.float32),
            expected.astype(np.float32),
            rtol=0.05,
            atol=0.05,
        )


def test_external_weights_stay_where_they_are_found(three_blocks, tmp_path):
    path = tmp_path / "external" / "model.onnx"
    path.parent.mkdir()
    model = onnx.load(three_blocks / "fp32.onnx")
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=4096)
    (tmp_path / "other").mkdir()
    blocks = read_blocks(path)
    marked = write_marked(path, blocks, tmp_path / "other" / "marked.onnx")
    with OnnxRuntimeRunner(marked) as runner:
        assert len(runner.infer(INPUTS)) == 1 + 3 * 6


def test_types_that_the_file_leaves_out_are_inferred(three_blocks, tmp_path):
    model = onnx.load(three_blocks / "fp32.onnx")
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "bare.onnx")
    blocks = read_blocks(tmp_path / "bare.onnx")
    marked = write_marked(tmp_path / "bare.onnx", blocks, tmp_path / "marked.onnx")
    with OnnxRuntimeRunner(marked) as runner:
        assert len(runner.infer(INPUTS)) == 1 + 3 * 6


def test_a_file_without_bodies_is_refused(three_blocks, tmp_path):
    model = onnx.load(three_blocks / "fp32.onnx")
    del model.functions[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(OnnxFileError, match="no function body"):
        read_blocks(tmp_path / "bare.onnx")


def test_a_file_without_propagations_is_refused(three_blocks, tmp_path):
    model = onnx.load(three_blocks / "fp32.onnx")
    kept = [node for node in model.graph.node if not node.domain]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, tmp_path / "none.onnx")
    with pytest.raises(OnnxFileError, match="cannot be looked at one by one"):
        read_blocks(tmp_path / "none.onnx")
