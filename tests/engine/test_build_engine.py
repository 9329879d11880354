"""The way around a backend: what is written, and that nothing is when it goes wrong."""

from __future__ import annotations

import errno
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import pytest
from engine_models import conv_model, op_model
from gspn2_deploy.export.metadata import WEIGHTS_SHA256

from gspn2_deploy.build import backend as backend_module
from gspn2_deploy.build import build_engine, create_backend, parse_profile
from gspn2_deploy.build.backend import Backend, BuildRequest, BuiltEngine
from gspn2_deploy.errors import (
    BuildError,
    MissingDependencyError,
    OnnxFileError,
    OutputError,
    ShapeError,
    UsageError,
)
from gspn2_deploy.manifest import Manifest

FUSED = {"GspnChannelNorm_n": "GspnChannelNorm"}


class FakeBackend(Backend):
    """Writes a constant as the plan, after ``failure`` had its turn."""

    name: ClassVar[str] = "fake"
    extra: ClassVar[str] = "fake"
    failure: ClassVar[BaseException | None] = None
    request: ClassVar[BuildRequest | None] = None

    def version(self) -> str:
        return "1.0"

    def resolve_compute_capabilities(
        self, names: tuple[str, ...], dtypes: frozenset[str]
    ) -> tuple[str, ...]:
        return names or ("8.9",)

    def build(self, request: BuildRequest, progress: Any) -> BuiltEngine:
        FakeBackend.request = request
        request.plan_path.write_bytes(b"half")
        if self.failure is not None:
            raise self.failure
        request.plan_path.write_bytes(b"the whole plan")
        return BuiltEngine("1.0", "13", None, request.inputs, request.outputs, fused=FUSED)


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(backend_module._BACKENDS, "fake", (__name__, "FakeBackend"))
    monkeypatch.setattr(FakeBackend, "failure", None)


def fail_with(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    # The registry imports this module anew, by name.
    module = importlib.import_module(__name__)
    monkeypatch.setattr(module.FakeBackend, "failure", failure)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_altered_weights_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = conv_model(tmp_path / "model.onnx", metadata={WEIGHTS_SHA256: "0" * 64})
    build_engine(path, backend="fake")
    assert "the weights in model.onnx are not those that were exported" in caplog.text


def test_plan_and_manifest(onnx_file: Path):
    result = build_engine(onnx_file, backend="fake")
    assert result.plan_path == onnx_file.with_suffix(".plan")
    assert result.plan_path.read_bytes() == b"the whole plan"
    assert names(onnx_file.parent) == {"model.onnx", "model.plan", "model.plan.json"}
    manifest = Manifest.load(result.manifest_path)
    assert manifest == result.manifest
    manifest.verify(result.plan_path, onnx_path=onnx_file, library_version="1.0")
    assert manifest.compute_capabilities == ("8.9",)
    assert manifest.propagations == {"GspnProp2D": 1}
    assert manifest.fused == FUSED
    assert manifest.profiles == (parse_profile("images=1x3x16x16:8x3x16x16:64x3x16x16"),)
    assert manifest.inputs[0].shape == ("batch", 3, 16, 16)


def test_request(onnx_file: Path, tmp_path: Path):
    given = parse_profile("images=1x3x16x16")
    build_engine(
        onnx_file,
        tmp_path / "new" / "engine.bin",
        backend="fake",
        profiles=[given],
        compute_capabilities=["8.6"],
        workspace_mib=2,
    )
    module = importlib.import_module(__name__)
    request = module.FakeBackend.request
    assert request.profiles == (given,)
    assert request.compute_capabilities == ("8.6",)
    assert request.workspace_bytes == 2 << 20
    assert names(tmp_path / "new") == {"engine.bin", "engine.bin.json"}


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (BuildError("refused"), BuildError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), OutputError),
    ],
)
def test_nothing_is_left_when_it_fails(
    onnx_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    expected: type[BaseException],
):
    before = {"model.onnx": onnx_file.read_bytes(), "model.plan": b"old"}
    (onnx_file.parent / "model.plan").write_bytes(b"old")
    fail_with(monkeypatch, failure)
    with pytest.raises(expected):
        build_engine(onnx_file, backend="fake")
    assert {path.name: path.read_bytes() for path in onnx_file.parent.iterdir()} == before


def test_folder_that_nobody_may_write_to(onnx_file: Path):
    # Not even root makes a folder there.
    with pytest.raises(OutputError, match=r"permission denied|read-only"):
        build_engine(onnx_file, Path("/sys/gspn2/m.plan"), backend="fake")


def test_output_below_a_file(onnx_file: Path):
    with pytest.raises(OutputError):
        build_engine(onnx_file, onnx_file / "m.plan", backend="fake")


def test_output_is_a_folder(onnx_file: Path, tmp_path: Path):
    (tmp_path / "m.plan").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        build_engine(onnx_file, tmp_path / "m.plan", backend="fake")
    assert names(tmp_path) == {"model.onnx", "m.plan"}


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_output_over_the_input(tmp_path: Path, name: str):
    path = conv_model(tmp_path / "model.onnx", external=True)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(UsageError, match="would replace"):
        build_engine(path, tmp_path / name, backend="fake")
    assert (tmp_path / name).read_bytes() == before


def test_profile_that_contradicts_the_file(onnx_file: Path):
    with pytest.raises(ShapeError):
        build_engine(onnx_file, backend="fake", profiles=[parse_profile("images=1x3x8x8")])
    assert names(onnx_file.parent) == {"model.onnx"}


@pytest.mark.parametrize(
    ("path_of", "said"),
    [
        (lambda folder: conv_model(folder / "m.onnx", body=False), "lacks the function bodies"),
        (lambda folder: op_model(folder / "m.onnx", "Relu"), "was not written by gspn2-deploy"),
        (
            lambda folder: conv_model(folder / "m.onnx", metadata={"gspn2.op_counts": "{}"}),
            "does not hold the propagations",
        ),
    ],
    ids=["lost body", "foreign", "other ops"],
)
def test_stale_and_foreign_files(tmp_path: Path, path_of: Any, said: str):
    with pytest.raises(OnnxFileError, match=said):
        build_engine(path_of(tmp_path), backend="fake")
    assert names(tmp_path) == {"m.onnx"}


def test_parted_from_its_weights(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", external=True)
    data = tmp_path / "m.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(OnnxFileError, match="do not belong"):
        build_engine(path, backend="fake")


def test_missing_file(tmp_path: Path):
    with pytest.raises(OnnxFileError, match="does not exist"):
        build_engine(tmp_path / "absent.onnx", backend="fake")


@pytest.mark.parametrize(
    "metadata", [{"gspn2.base_precision": "bf16"}, {"gspn2.precision": "bf16"}]
)
def test_the_backend_hears_of_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: dict[str, str]
):
    path = conv_model(tmp_path / "m.onnx", metadata=metadata)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UsageError, match="no bfloat16"):
        build_engine(path, compute_capabilities=["7.5"])


def test_corrupt_file(onnx_file: Path):
    onnx_file.write_bytes(onnx_file.read_bytes()[:-50])
    with pytest.raises(OnnxFileError):
        build_engine(onnx_file, backend="fake")


def test_workspace_of_nothing(onnx_file: Path):
    with pytest.raises(UsageError, match="workspace"):
        build_engine(onnx_file, backend="fake", workspace_mib=0)


def test_unknown_backend(onnx_file: Path):
    with pytest.raises(UsageError, match="no such backend"):
        build_engine(onnx_file, backend="openvino")


def test_library_not_installed(onnx_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not create_backend("tensorrt-rtx").is_available()
    with pytest.raises(MissingDependencyError, match=r"gspn2-deploy\[tensorrt-rtx\]"):
        build_engine(onnx_file, backend="tensorrt-rtx")
    assert names(onnx_file.parent) == {"model.onnx"}
