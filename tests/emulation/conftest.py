"""The emulated libraries, one for each choice of paths, and a fresh seed per run."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import emulated
import pytest
import torch

SEED = int(os.environ.get("GSPN2_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
FULL = os.environ.get("GSPN2_EMULATION_FULL", "0") != "0"

SMALL_MULTIPROCESSORS = 12
CHOICES = ("generic", "fastest", "old")

Opener = Callable[[str], ctypes.CDLL]


def pytest_report_header() -> list[str]:
    return [f"emulation: GSPN2_TEST_SEED={SEED}, GSPN2_EMULATION_FULL={int(FULL)}"]


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed for the data and one for the scheduler, which a failure's header repeats."""
    torch.manual_seed(SEED)
    monkeypatch.setenv(emulated.SEED_VARIABLE, str(SEED))


@pytest.fixture(scope="session")
def built() -> Path:
    """The emulated library's file; skips where there is nothing to build it with."""
    missing = emulated.missing_tools()
    if missing and emulated.LIBRARY_VARIABLE not in os.environ:
        pytest.skip(f"the emulation needs {' and '.join(missing)}")
    return emulated.build()


@pytest.fixture(scope="session")
def opener(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """From a choice to its library.

    One of CHOICES: the paths, or "old", the fastest on a device of 8.0. Besides, the fastest on a
    device of 9.0 that has one cluster of more than eight blocks at once ("one"), none ("none"), or
    does not say ("untold"), and on one of a few multiprocessors ("small").
    """
    large = {"one": 1, "none": 0, "untold": -2}
    folder = tmp_path_factory.mktemp("emulated")
    opened: dict[str, ctypes.CDLL] = {}

    def open_choice(choice: str) -> ctypes.CDLL:
        if choice not in opened:
            paths = choice if choice in ("generic", "fastest") else "fastest"
            capability = "8.0" if choice == "old" else "9.0"
            clusters = large.get(choice, -1)
            smaller = {"multiprocessors": SMALL_MULTIPROCESSORS} if choice == "small" else {}
            opened[choice] = emulated.open_copy(
                built, folder, paths, capability, clusters, **smaller
            )
        return opened[choice]

    return open_choice


@pytest.fixture(params=CHOICES)
def library(request: pytest.FixtureRequest, opener: Opener) -> ctypes.CDLL:
    return opener(request.param)


@pytest.fixture(params=["0", "1"], ids=["one after the other", "side by side"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the directions of maps that are not on chip run, where both ways are possible."""
    monkeypatch.setenv("GSPN2_SIDE_BY_SIDE", request.param)
