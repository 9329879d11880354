"""Models that PyTorch wrapped, to compile them or to spread them, through the Python API."""

import pytest
import torch
from torch import nn

from gspn2_deploy.bench.run import BenchRequest, run_benchmark
from gspn2_deploy.bench.timing import Effort
from gspn2_deploy.models import model_from_checkpoint
from gspn2_deploy.validate.onnx_file import Request, validate_file

# PyTorch's own use of what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Untouchable(nn.DataParallel):
    """Fails where anybody runs the wrapper instead of the model inside."""

    def forward(self, *_):
        raise AssertionError("the wrapper ran")


def never(*_):
    raise AssertionError("it was compiled")


WRAPPERS = {
    "compiled": lambda model: torch.compile(model, backend=never),
    "parallel": Untouchable,
    "both": lambda model: torch.compile(Untouchable(model), backend=never),
}


@pytest.fixture(params=WRAPPERS)
def wrapped(request, three_blocks):
    return WRAPPERS[request.param](model_from_checkpoint(three_blocks / "model.safetensors"))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_validation_is_of_the_model_inside(three_blocks, wrapped, precision):
    file = three_blocks / f"{precision}.onnx"
    report = validate_file(Request(file, wrapped, samples=1, bisect=True))
    assert report.passed, report.verdict
    assert [item.first_bad for item in report.bisections] == [None]


def test_measured_is_the_model_inside(three_blocks, wrapped):
    request = BenchRequest(
        three_blocks / "fp32.onnx", wrapped, onnxruntime=False, effort=Effort(0, 1, 0.0)
    )
    (row,) = run_benchmark(request).rows
    assert (row.subject, row.error) == ("pytorch eager", None)
    assert row.description["compile_mode"] is None


def test_a_model_with_a_compiled_part_is_no_other_model(three_blocks):
    model = model_from_checkpoint(three_blocks / "model.safetensors")
    model.stages[0] = torch.compile(model.stages[0], backend="eager")
    report = validate_file(Request(three_blocks / "fp32.onnx", model, samples=1))
    assert report.passed, report.verdict
