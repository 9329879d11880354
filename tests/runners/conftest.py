"""A runner on stand-ins, and the machine below it."""

import pytest
from runners.tensorrt_fakes import install, write_plan

from gspn2_deploy.runners.tensorrt_runner import TensorRTRunner


@pytest.fixture
def make(monkeypatch, tmp_path):
    """Install the stand-ins; returns a function that gives (runner, machine)."""

    def make(dtype="float32", *, engine=None, device=0, graph=False, **changes):
        machine = install(monkeypatch, engine, dtype=dtype)
        path = write_plan(tmp_path / "m.plan", dtype, **changes)
        return TensorRTRunner(path, device=device, graph=graph), machine

    return make
