"""The table is sane, and overrides are read or refused."""

from __future__ import annotations

import pytest

from gspn2_deploy.errors import UsageError
from gspn2_deploy.spec import DTYPES
from gspn2_deploy.validate.tolerances import (
    MODEL_TOLERANCES,
    OP_GRADIENT_TOLERANCES,
    OP_TOLERANCES,
    model_tolerance,
    parse_override,
    tolerance_row,
)


def test_every_precision_and_dtype_has_a_row():
    assert set(MODEL_TOLERANCES) == {"fp32", "fp16", "bf16", "mixed"}
    assert set(OP_TOLERANCES) == set(OP_GRADIENT_TOLERANCES) == set(DTYPES)


@pytest.mark.parametrize("table", [MODEL_TOLERANCES, OP_TOLERANCES, OP_GRADIENT_TOLERANCES])
def test_fewer_bits_are_never_held_to_a_tighter_bound(table):
    exact, half, brain = list(table.values())[:3]
    assert exact.atol < half.atol <= brain.atol
    assert exact.rtol < half.rtol < brain.rtol
    assert exact.cosine > half.cosine > brain.cosine >= 0.99


def test_a_mixed_file_goes_by_the_precision_of_its_other_blocks():
    assert tolerance_row("fp16", "fp16") == "fp16"
    assert tolerance_row("mixed", "fp16") == "mixed"
    assert tolerance_row("mixed", "bf16") == "bf16"


def test_an_override_changes_only_what_it_names():
    precision, changed = parse_override("fp16=0.5")
    table = model_tolerance("fp16")
    assert precision == "fp16"
    assert (changed.atol, changed.rtol, changed.cosine) == (0.5, table.rtol, table.cosine)
    assert changed.source == "given on the command line"
    _, full = parse_override("bf16=0.5:0.25:0.75")
    assert (full.atol, full.rtol, full.cosine) == (0.5, 0.25, 0.75)


@pytest.mark.parametrize(
    "text",
    [
        "fp16",
        "fp16=",
        "fp16=a",
        "fp8=1e-2",
        "=0.1",
        "fp16=1:2:3:4",
        "fp16=-1",
        "fp16=nan",
        "fp16=2",
        "fp16=0.1:0.1:0",
        "fp16=0.1:0.1:1.1",
    ],
)
def test_overrides_that_make_no_sense(text):
    with pytest.raises(UsageError):
        parse_override(text)
