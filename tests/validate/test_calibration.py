"""The calibrated tolerance follows the model's own spread and stops at its ceiling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runners.small_models import TwoHeads, images, torch_runner
from torch import nn

from gspn2_deploy.errors import ValidationFailedError
from gspn2_deploy.validate.calibration import CEILING_FACTOR, SPREAD_FACTOR, calibrate
from gspn2_deploy.validate.samples import Sample
from gspn2_deploy.validate.tolerances import MODEL_TOLERANCES

TABLE = MODEL_TOLERANCES["fp16"]


class Noisy(nn.Module):
    """TwoHeads, with an error of the given size wherever it computes in half precision."""

    def __init__(self, error):
        super().__init__()
        self.heads = TwoHeads()
        self.error = error

    def forward(self, x):
        logits, aux = self.heads(x)
        if x.dtype == torch.float16:
            sign = torch.where(torch.arange(logits.shape[1]) % 2 == 0, 1, -1)
            rms = logits.float().square().mean().sqrt()
            logits = (logits.float() + sign * self.error * rms).half()
        return logits, aux


def calibrated(error, count=2):
    samples = [
        Sample(f"{seed}", {"images": images(8, dtype="float16", seed=seed)})
        for seed in range(count)
    ]
    with torch_runner(Noisy(error)) as full, torch_runner(Noisy(error), "float16") as reduced:
        return calibrate(full, reduced, samples, TABLE)


def test_it_follows_the_spread():
    result = calibrated(0.002)
    assert 0.002 <= result.spread < 0.004
    assert result.tolerance.atol == pytest.approx(SPREAD_FACTOR * result.spread)
    assert 1 - result.tolerance.cosine == pytest.approx(SPREAD_FACTOR**2 * (1 - result.cosine))
    assert not result.at_ceiling
    assert "calibrated" in result.tolerance.source


def test_a_precise_model_is_held_to_more_than_the_table():
    result = calibrated(0.0)
    assert MODEL_TOLERANCES["fp32"].atol <= result.tolerance.atol < TABLE.atol
    assert result.tolerance.cosine > TABLE.cosine


def test_a_ruined_model_stops_at_the_ceiling():
    result = calibrated(0.9)
    assert result.at_ceiling
    assert result.tolerance.atol == pytest.approx(CEILING_FACTOR * TABLE.atol)
    assert 1 - result.tolerance.cosine == pytest.approx(CEILING_FACTOR**2 * (1 - TABLE.cosine))


@pytest.mark.parametrize("error", [np.nan, np.inf])
def test_overflow_is_a_failure(error):
    with pytest.raises(ValidationFailedError, match="reduced precision"):
        calibrated(error)


def test_nothing_to_measure_on_is_a_failure():
    with pytest.raises(ValidationFailedError, match="no sample"):
        calibrated(0.01, count=0)
