"""Exports that several tests look at."""

import pytest
from export_models import Propagate, seeded
from gspn2_deploy.export import ExportOptions, export_onnx
from gspn2_deploy.export.golden import GoldenSource

from gspn2_deploy import progress


@pytest.fixture(autouse=True)
def quiet():
    progress.set_quiet(True)
    yield
    progress.set_quiet(False)


@pytest.fixture(scope="session")
def model():
    return seeded(Propagate(chunk=4))


@pytest.fixture(scope="session")
def exported(model, tmp_path_factory):
    """A float32 export with free batch, height and width and golden samples; read only."""
    output = tmp_path_factory.mktemp("exported") / "model.onnx"
    options = ExportOptions(
        dynamic_size=True,
        golden=output.with_suffix(".npz"),
        golden_source=GoldenSource(count=3, seed=5),
    )
    return export_onnx(model, output, options)
