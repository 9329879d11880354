from __future__ import annotations

import pytest
from runtime.runtime_build import Build, configure, missing


@pytest.fixture(scope="session")
def build(tmp_path_factory) -> Build:
    """The runtime and its test programs, built as an embedder would: without nvcc."""
    if reason := missing():
        pytest.skip(reason)
    return configure(tmp_path_factory.mktemp("runtime"))
