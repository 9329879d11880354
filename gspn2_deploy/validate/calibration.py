"""A tolerance measured on the model itself: how far PyTorch lies from PyTorch in less precision.

Two executors of one float16 graph round at different places, so each strays from the exact result
by about what PyTorch strays when it goes from float32 to float16. That spread, on the same inputs,
is what can be asked of this model and no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gspn2_deploy.errors import ValidationFailedError
from gspn2_deploy.runners.base import Runner
from gspn2_deploy.validate.compare import Errors, compare_outputs
from gspn2_deploy.validate.samples import Sample
from gspn2_deploy.validate.tolerances import MODEL_TOLERANCES, Tolerance

# Both executors stray, which makes two spreads; their sum again may be worst on an element or an
# image that the calibration has not seen, hence twice that.
SPREAD_FACTOR = 4.0
# No calibration allows more than this many times the table's error: a model that float16 ruins
# must fail, however consistently it is ruined.
CEILING_FACTOR = 2.0


@dataclass(frozen=True)
class Calibration:
    """What was measured and what follows from it.

    Args:
        tolerance: What to apply.
        spread: Largest error of the reduced precision as a fraction of the output's root mean
            square.
        cosine: Smallest cosine similarity of the two precisions.
        at_ceiling: Whether the ceiling, not the measurement, decided.
    """

    tolerance: Tolerance
    spread: float
    cosine: float
    at_ceiling: bool


def calibrate(
    full: Runner, reduced: Runner, samples: Iterable[Sample], table: Tolerance
) -> Calibration:
    """Measure the spread and turn it into a tolerance.

    Args:
        full: The model in float32.
        reduced: The same model in the precision to be calibrated.
        samples: Inputs in the reduced runner's dtypes.
        table: The table's tolerance of that precision: the ceiling hangs on it.

    Returns:
        The tolerance, never tighter than the table's for float32 and never wider than
        ``CEILING_FACTOR`` times ``table``.

    Raises:
        ValidationFailedError: The reduced precision gives NaN or Inf, or nothing was measured.
    """
    errors: list[Errors] = []
    for sample in samples:
        exact = full.infer(
            {
                spec.name: sample.inputs[spec.name].astype(np.dtype(spec.dtype))
                for spec in full.input_specs
            }
        )
        rounded = {
            name: value.astype(exact[name].dtype)
            for name, value in reduced.infer(sample.inputs).items()
        }
        for output in compare_outputs(exact, rounded, table):
            if output.not_finite or output.errors is None:
                raise ValidationFailedError(
                    f"calibration: PyTorch's own {output.name!r} cannot be compared in "
                    "reduced precision",
                    got="; ".join(output.failures),
                    hint="keep the blocks that overflow in fp32 (a mixed export)",
                )
            errors.append(output.errors)
    if not errors:
        raise ValidationFailedError("calibration: there was no sample to measure on")
    spread = max(item.max_scaled for item in errors)
    cosine = min(-1.0 if item.cosine is None else item.cosine for item in errors)
    return _bounded(spread, cosine, table)


def _bounded(spread: float, cosine: float, table: Tolerance) -> Calibration:
    floor = MODEL_TOLERANCES["fp32"]
    # 1 - cosine grows with the square of the error.
    atol, loss = spread * SPREAD_FACTOR, (1 - cosine) * SPREAD_FACTOR**2
    most_atol, most_loss = table.atol * CEILING_FACTOR, (1 - table.cosine) * CEILING_FACTOR**2
    tolerance = Tolerance(
        atol=float(np.clip(atol, floor.atol, most_atol)),
        rtol=min(table.rtol, max(atol, floor.rtol)),
        cosine=1 - float(np.clip(loss, 1 - floor.cosine, most_loss)),
        source=(
            f"calibrated: {SPREAD_FACTOR:g}x PyTorch's own spread of {spread:.2e}, "
            f"at most {CEILING_FACTOR:g}x the table"
        ),
    )
    return Calibration(tolerance, spread, cosine, atol > most_atol or loss > most_loss)
