"""A small exported model, for every test of this folder."""

from __future__ import annotations

import pytest
import torch
from gspn2_deploy.export import ExportOptions, PrecisionPlan, export_onnx

from gspn2_deploy.models import create_model, save_checkpoint

MODEL_ARGUMENTS = {"depths": [1, 2], "widths": [8, 12], "chunks": [2, 0], "image_size": [16, 16]}


@pytest.fixture(scope="session")
def three_blocks(tmp_path_factory):
    """A model of three propagations: its checkpoint, ONNX files by precision, golden data."""
    folder = tmp_path_factory.mktemp("three-blocks")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the maps are tiny: more threads only wait for one another
    torch.manual_seed(5)
    model = create_model("nano", **MODEL_ARGUMENTS).eval()
    with torch.no_grad():  # outputs that depend on every block, as after training
        model.head.weight.mul_(20)
        for name, value in model.named_parameters():
            if name.endswith("from_proxy.weight"):
                value.mul_(10)
    save_checkpoint(model, folder / "model.safetensors")
    for precision in ("fp32", "fp16", "bf16"):
        options = ExportOptions(
            precision=PrecisionPlan(precision), golden=folder / f"{precision}.npz"
        )
        export_onnx(model, folder / f"{precision}.onnx", options)
    yield folder
    torch.set_num_threads(threads)
