"""Dependencies point one way: cli -> (export, build, ...) -> (runners, models) -> ops -> the rest.

Imports inside functions count: they are late for speed, not to reach around this.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "gspn2_deploy"
TIERS = (  # each may import from itself and from those before it
    {"ops"},
    {"models", "runners"},
    {"build", "validate", "bench", "export", "bundle", "verify"},
    {"cli"},
)
PLACED = set().union(*TIERS)


def sources():
    """Every module of the package by the name of its part: a folder, or a file beside those."""
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        yield path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py"), path
    for path in sorted((ROOT / "export").rglob("*.py")):
        yield "export", path


def imported(path):
    """The parts of the package that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}."))


SOURCES = [pair for pair in sources() if pair[0] != "__main__"]


def test_every_part_is_there():
    assert {part for part, _ in SOURCES} >= PLACED


@pytest.mark.parametrize(
    ("part", "path"), SOURCES, ids=[str(path.relative_to(ROOT)) for _, path in SOURCES]
)
def test_no_module_imports_from_above(part, path):
    tier = next((index for index, tier in enumerate(TIERS) if part in tier), -1)
    above = set().union(*TIERS[tier + 1 :])
    assert set(imported(path)) & above == set()
