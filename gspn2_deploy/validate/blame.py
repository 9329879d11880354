"""Who is wrong: what the agreements between PyTorch, onnxruntime and an engine point at.

Three executors and what follows when they disagree:

=====================================  ============================================
onnxruntime and the engine             the suspect
=====================================  ============================================
agree, and differ from PyTorch         the export (or PyTorch is another model)
onnxruntime agrees with PyTorch        the engine: the plugin or TensorRT
the engine agrees with PyTorch         onnxruntime, or the op's body, which it alone runs
=====================================  ============================================

Where PyTorch itself answers NaN or Inf nothing can agree with it, and nobody else is to blame.
Which of the plugin and TensorRT it is, or of onnxruntime and the body, takes a look inside:
:mod:`gspn2_deploy.validate.bisect`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gspn2_deploy.runners.base import Kind

if TYPE_CHECKING:
    from gspn2_deploy.validate.report import Case

Pair = frozenset[str]


class Suspect(str, Enum):
    """What may be wrong."""

    ANOTHER_MODEL = "the reference, which is another model"
    EXPORT = "the export"
    ONNXRUNTIME = "onnxruntime"
    BODY = "the op's function body"
    ENGINE = "the plugin or TensorRT"
    PLUGIN = "the plugin"
    TENSORRT = "TensorRT"
    GOLDEN = "the recorded outputs"
    NOT_FINITE = "the inputs or the weights, for which the reference is not finite"


@dataclass(frozen=True)
class Blame:
    """A suspect, what speaks against it in one sentence, and the block that shows it."""

    suspect: Suspect
    because: str
    block: str | None = None

    def __str__(self) -> str:
        return self.suspect.value + (f" in {self.block}" if self.block else "")


def blame(
    reference: str,
    kinds: Mapping[str, Kind],
    cases: Sequence[Case],
    agreements: set[Pair],
    *,
    another_model: bool = False,
) -> tuple[Blame, ...]:
    """Say what the failures point at.

    Args:
        reference: The reference's name.
        kinds: What each candidate is, by name.
        cases: All cases.
        agreements: Pairs of failing candidates that agree with each other on some sample.
        another_model: Whether the reference is known not to be what was exported.

    Returns:
        The suspects, the likeliest first; nothing where nothing failed.
    """
    spoilt = [] if another_model else [case for case in cases if _reference_not_finite(case)]
    found = [_of_reference(reference, spoilt)] if spoilt else []
    cases = [case for case in cases if another_model or not _reference_not_finite(case)]
    failed = [name for name in kinds if any(_failed(case, name) for case in cases)]
    if not failed:
        return tuple(found)
    answered = {case.candidate for case in cases}
    sound = [name for name in kinds if name in answered and name not in failed]
    found += [_of_pair(reference, kinds, pair, another_model) for pair in _sorted(agreements)]
    together = {name for pair in agreements for name in pair}
    alone = [name for name in failed if name not in together]
    found += [_of_one(reference, kinds, name, sound, failed, another_model) for name in alone]
    return tuple(dict.fromkeys(found))


def _failed(case: Case, name: str) -> bool:
    return case.candidate == name and not case.passed


def _reference_not_finite(case: Case) -> bool:
    return any(key.startswith("reference_") for output in case.outputs for key in output.not_finite)


def _of_reference(reference: str, spoilt: Sequence[Case]) -> Blame:
    names = ", ".join(dict.fromkeys(case.sample for case in spoilt))
    return Blame(
        Suspect.NOT_FINITE,
        f"{reference} itself answers NaN or Inf to {names}, and nothing can agree with that: look "
        "for NaN or values that are too large in these inputs, and in the weights",
    )


def _sorted(agreements: set[Pair]) -> list[tuple[str, ...]]:
    return sorted(tuple(sorted(pair)) for pair in agreements)


def _of_pair(
    reference: str, kinds: Mapping[str, Kind], pair: tuple[str, ...], another_model: bool
) -> Blame:
    names = " and ".join(pair)
    executors = {kinds[name] for name in pair} <= {Kind.ONNXRUNTIME, Kind.ENGINE}
    if executors and not another_model:
        return Blame(
            Suspect.EXPORT,
            f"{names} agree with each other and not with {reference}: the file does not compute "
            "what PyTorch computes; export again, and report it if that does not help",
        )
    return Blame(
        Suspect.ANOTHER_MODEL,
        f"{names} agree with each other: {reference} is the odd one out; "
        "it is probably not the model that the file was exported from",
    )


def _of_one(
    reference: str,
    kinds: Mapping[str, Kind],
    name: str,
    sound: Sequence[str],
    failed: Sequence[str],
    another_model: bool,
) -> Blame:
    others = f"{', '.join(sound)} agrees with {reference}: look at {', '.join(failed)}"
    if kinds[name] is Kind.ENGINE:
        witness = any(kinds[other] is Kind.ONNXRUNTIME for other in sound)
        because = (
            f"{others}; onnxruntime computes the same file rightly, so it is the plugin or "
            "TensorRT (--bisect tells which)"
            if witness
            else f"{name} differs from every other (--bisect tells where)"
        )
        return Blame(Suspect.ENGINE, because)
    if kinds[name] is Kind.GOLDEN:
        return Blame(Suspect.GOLDEN, others if sound else f"{name} agrees with nothing else")
    if kinds[name] is Kind.ONNXRUNTIME:
        if any(kinds[other] is Kind.ENGINE for other in sound):
            alone = "; it alone runs the op's function body (--bisect tells whether that is wrong)"
            return Blame(Suspect.ONNXRUNTIME, others + alone)
        suspect = Suspect.ANOTHER_MODEL if another_model else Suspect.EXPORT
        return Blame(suspect, others if sound else f"{name} differs (--bisect tells where)")
    return Blame(Suspect.EXPORT, others if sound else f"{name} differs from {reference}")
