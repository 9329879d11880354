"""The committed digits model is what its log says, and its propagation matters."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gspn2_deploy.models import count_parameters, model_from_checkpoint
from gspn2_deploy.models.mixer import Gspn2Mixer

FOLDER = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def record():
    return json.loads((FOLDER / "training.json").read_text())


@pytest.fixture
def model():
    return model_from_checkpoint(FOLDER / "nano-digits.safetensors")


def heldout_accuracy(model):
    with np.load(FOLDER / "heldout.npz") as arrays:
        images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    assert images.shape == (360, 1, 8, 8)
    with torch.inference_mode():
        return (model(images).argmax(1) == labels).double().mean().item()


def test_the_checkpoint_reaches_the_logged_accuracy(model, record):
    assert (FOLDER / "nano-digits.safetensors").stat().st_size < 2_000_000
    assert count_parameters(model) == record["parameters"]
    assert json.loads(model.config.to_json()) == record["model"]
    # One image of slack: another CPU's rounding may tip one.
    assert heldout_accuracy(model) == pytest.approx(record["accuracy"]["heldout"], abs=1.5 / 360)
    assert heldout_accuracy(model) > 0.98


def test_the_predictions_depend_on_the_propagation(model, record):
    for module in model.modules():
        if isinstance(module, Gspn2Mixer):
            torch.nn.init.zeros_(module.from_proxy.weight)
    # Were it not so, comparing this model's outputs would prove little of the operator.
    assert heldout_accuracy(model) < record["accuracy"]["heldout"] - 0.03


def test_training_runs_and_writes_every_file(tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    subprocess.run(
        [sys.executable, FOLDER / "train.py", "--epochs", "1", "--out", tmp_path],
        check=True,
        capture_output=True,
        timeout=120,
    )
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["history"][0]["loss"] < 2.31  # ln 10: better than guessing
    with np.load(tmp_path / "heldout.npz") as made, np.load(FOLDER / "heldout.npz") as kept:
        assert made.files == kept.files  # not the bytes: zlib's differ between Python builds
        assert all(np.array_equal(made[name], kept[name]) for name in kept.files)
    written = model_from_checkpoint(tmp_path / "nano-digits.safetensors")
    assert heldout_accuracy(written) == pytest.approx(record["accuracy"]["heldout"], abs=1e-5)
    assert "accuracy" in (tmp_path / "training.log").read_text()
