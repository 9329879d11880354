"""One table of tolerances, for the package and for its tests, the GPU kernels' included.

A comparison passes when both hold::

    |actual - reference| <= atol * scale(reference) + rtol * |reference|     for every element
    cosine(actual, reference) >= cosine

``scale`` is the reference's root mean square for whole models and its largest magnitude for single
ops, so that a model whose logits are small is held to the same standard as one whose logits are
large.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from gspn2_deploy.errors import UsageError


@dataclass(frozen=True)
class Tolerance:
    """How far two tensors may lie apart.

    Args:
        atol: Allowed error as a fraction of the reference's scale.
        rtol: Allowed error as a fraction of the element's own magnitude.
        cosine: The least cosine similarity of the flattened tensors.
        scale: What atol is a fraction of: ``rms`` or ``max`` of the reference's magnitudes.
        source: Where the figures come from, for reports.
    """

    atol: float
    rtol: float
    cosine: float
    scale: Literal["rms", "max"] = "rms"
    source: str = "table"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


# Whole models: PyTorch against another executor of the exported graph, both in that precision.
#
# Measured (docs/measurements.md) on nano, tiny, small and base with random weights (float32; the
# first two in the reduced precisions) and on the trained digits model: the largest error over all
# outputs by their rms, and the largest 1 - cosine, of onnxruntime against PyTorch or of PyTorch in
# that precision against its float32, whichever is larger.
#
#         error by rms     1 - cosine
# fp32    3.3e-6           3.2e-13
# fp16    6.5e-3           3.2e-6
# bf16    5.2e-2           1.4e-4
#
# The rows allow about 15 times that error for fp32, where another device sums in another order, and
# 2 to 3 times (6 to 14 times for 1 - cosine, which grows with the square) for fp16 and bf16: two
# executors that round at different places lie up to twice PyTorch's own spread apart. A mixed
# file's error is that of its float16 blocks; one whose blocks are bfloat16 goes by the row of bf16
# (`tolerance_row`).
MODEL_TOLERANCES: dict[str, Tolerance] = {
    "fp32": Tolerance(atol=5e-5, rtol=5e-5, cosine=1 - 1e-9),
    "fp16": Tolerance(atol=1.5e-2, rtol=5e-3, cosine=1 - 2e-5),
    "bf16": Tolerance(atol=1.5e-1, rtol=4e-2, cosine=1 - 2e-3),
    "mixed": Tolerance(atol=1.5e-2, rtol=5e-3, cosine=1 - 2e-5),
}

# One propagation op: an implementation against the float64 reference on the same inputs (already
# rounded to the dtype). State and sums are float32 in each dtype, so that atol covers their
# rounding and rtol that of the stored result: half a unit in the last place, 2^-11 and 2^-8 of its
# value. The bound hangs on the largest element: a scan carries the error of a large state to small
# ones.
OP_TOLERANCES: dict[str, Tolerance] = {
    "float32": Tolerance(atol=5e-6, rtol=1e-5, cosine=1 - 1e-9, scale="max"),
    "float16": Tolerance(atol=1e-5, rtol=2.0**-11 * 1.02, cosine=1 - 1e-6, scale="max"),
    "bfloat16": Tolerance(atol=1e-5, rtol=2.0**-8 * 1.02, cosine=1 - 1e-4, scale="max"),
}
# Gradients of the 16-bit dtypes go through a state h that was stored in 16 bits.
OP_GRADIENT_TOLERANCES: dict[str, Tolerance] = {
    "float32": Tolerance(atol=2e-5, rtol=1e-5, cosine=1 - 1e-8, scale="max"),
    "float16": Tolerance(atol=2e-3, rtol=2e-3, cosine=1 - 1e-5, scale="max"),
    "bfloat16": Tolerance(atol=2e-2, rtol=2e-2, cosine=1 - 1e-3, scale="max"),
}

PRECISIONS = tuple(MODEL_TOLERANCES)


def tolerance_row(precision: str, base: str) -> str:
    """The row that a file goes by.

    Args:
        precision: What the file calls itself, ``mixed`` included.
        base: The precision of everything that was not kept in fp32.
    """
    return "bf16" if base == "bf16" else precision


def model_tolerance(precision: str) -> Tolerance:
    """The tolerance of a whole model in ``fp32``, ``fp16``, ``bf16`` or ``mixed``.

    Raises:
        UsageError: No such precision.
    """
    if precision not in MODEL_TOLERANCES:
        raise UsageError("unknown precision", got=precision, expected=", ".join(PRECISIONS))
    return MODEL_TOLERANCES[precision]


def parse_override(text: str) -> tuple[str, Tolerance]:
    """Read ``PRECISION=ATOL[:RTOL[:COSINE]]``; what is left out stays as in the table.

    Args:
        text: For instance ``fp16=2e-2`` or ``fp16=2e-2:1e-2:0.9995``.

    Returns:
        The precision and its tolerance.

    Raises:
        UsageError: It cannot be read, or a figure makes no sense.
    """
    precision, separator, figures = text.partition("=")
    expected = "PRECISION=ATOL[:RTOL[:COSINE]], as in fp16=2e-2:1e-2:0.9995"
    if not separator:
        raise UsageError("a tolerance cannot be read", got=repr(text), expected=expected)
    base = model_tolerance(precision)
    try:
        values = [float(part) for part in figures.split(":")]
    except ValueError as error:
        raise UsageError("a tolerance cannot be read", got=repr(text), expected=expected) from error
    fields = dict(zip(("atol", "rtol", "cosine"), values, strict=False))
    sensible = (
        1 <= len(values) <= 3
        and 0 <= fields["atol"] < 1
        and 0 <= fields.get("rtol", 0) < 1
        and 0 < fields.get("cosine", 1) <= 1
    )
    if not sensible:
        raise UsageError(
            "a tolerance makes no sense",
            got=repr(text),
            expected=f"{expected}; atol and rtol from 0 to under 1, cosine over 0 to 1",
        )
    return precision, replace(
        base,
        atol=fields["atol"],
        rtol=fields.get("rtol", base.rtol),
        cosine=fields.get("cosine", base.cosine),
        source="given on the command line",
    )
