"""Proof that two executors of one model compute the same: comparison, tolerances, verdict."""

from gspn2_deploy.validate.compare import OutputComparison, compare_output, compare_outputs
from gspn2_deploy.validate.tolerances import (
    MODEL_TOLERANCES,
    OP_GRADIENT_TOLERANCES,
    OP_TOLERANCES,
    Tolerance,
)

__all__ = [
    "MODEL_TOLERANCES",
    "OP_GRADIENT_TOLERANCES",
    "OP_TOLERANCES",
    "OutputComparison",
    "Tolerance",
    "compare_output",
    "compare_outputs",
]
