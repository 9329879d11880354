"""The TensorRT for RTX backend: targets without the library, builds with it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from engine_models import (
    baked_batch_model,
    conv_model,
    mixed_types_model,
    op_model,
    request_for,
)
from onnx import TensorProto

from gspn2_deploy.build import build_engine, create_backend, parse_profile
from gspn2_deploy.build.tensorrt_rtx import (
    DEFAULT_COMPUTE_CAPABILITIES,
    TensorRTRTXBackend,
    normalise_compute_capability,
)
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.errors import UsageError
from gspn2_deploy.manifest import Profile
from gspn2_deploy.progress import Step

ADA = ["8.9"]
FP32 = frozenset({"float32"})


@pytest.mark.parametrize("name", ["8.9", "89", "sm89", "sm_89", "SM_89", " 8.9 "])
def test_spellings(name: str):
    assert normalise_compute_capability(name) == "8.9"


def test_two_digit_major():
    assert normalise_compute_capability("sm_120") == "12.0"


def test_default_targets_leave_turing_out():
    backend = TensorRTRTXBackend()
    assert backend.resolve_compute_capabilities((), FP32) == DEFAULT_COMPUTE_CAPABILITIES
    assert "7.5" not in DEFAULT_COMPUTE_CAPABILITIES


def test_targets_are_sorted_and_each_once():
    backend = TensorRTRTXBackend()
    assert backend.resolve_compute_capabilities(("12.0", "8.6", "sm_86"), FP32) == ("8.6", "12.0")


@pytest.mark.parametrize("name", ["9.0", "sm_90", "100"])
def test_data_centre_gpus_are_refused_with_the_reason(name: str):
    with pytest.raises(UsageError, match="data-centre"):
        TensorRTRTXBackend().resolve_compute_capabilities(("8.9", name), FP32)


@pytest.mark.parametrize("name", ["8.8", "ada", "", "8"])
def test_unknown_target(name: str):
    with pytest.raises(UsageError, match="no such compute capability"):
        TensorRTRTXBackend().resolve_compute_capabilities((name,), FP32)


def test_turing_has_no_bfloat16():
    with pytest.raises(UsageError, match="no bfloat16"):
        TensorRTRTXBackend().resolve_compute_capabilities(("7.5",), frozenset({"bfloat16"}))


def test_turing_beside_others_is_warned_of(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, "gspn2_deploy")
    targets = TensorRTRTXBackend().resolve_compute_capabilities(("7.5", "8.9"), FP32)
    assert targets == ("7.5", "8.9")
    assert "plan of its own" in caplog.text


@pytest.mark.tensorrt
@pytest.mark.parametrize(
    ("dtype", "name", "precision"),
    [(TensorProto.FLOAT, "float32", "fp32"), (TensorProto.FLOAT16, "float16", "fp16")],
)
def test_build(tmp_path: Path, dtype: int, name: str, precision: str):
    path = conv_model(tmp_path / "m.onnx", dtype=dtype, metadata={"key": "value"})
    result = build_engine(path, compute_capabilities=ADA)
    manifest = result.manifest
    manifest.verify(result.plan_path, onnx_path=path)
    assert manifest.plan_bytes > 10_000
    assert manifest.precision == precision
    assert manifest.metadata["key"] == "value"
    # conv, relu, add, pool, flatten
    assert manifest.layer_dtypes[name] == 5
    assert not set(manifest.layer_dtypes) - {name, "int32", "int64"}
    assert manifest.backend_version.count(".") == 3
    assert manifest.backend_version == create_backend("tensorrt-rtx").version()
    assert manifest.activation_bytes is not None
    assert manifest.activation_bytes > 0
    assert any("not run" in sentence or "or run" in sentence for sentence in manifest.unproven)


@pytest.mark.tensorrt
def test_one_plan_serves_several_targets(tmp_path: Path, onnx_file: Path):
    plans = {
        targets: build_engine(
            onnx_file, tmp_path / f"{len(targets)}.plan", compute_capabilities=targets
        ).plan_path
        for targets in (("8.9",), ("8.9", "12.0"))
    }
    one, two = (path.read_bytes() for path in plans.values())
    # The plan lists its targets in clear; nothing else says so without a GPU.
    assert b"sm89" in one
    assert b"sm120" not in one
    assert b"sm89" in two
    assert b"sm120" in two
    # Ahead of time nothing is compiled for a GPU: a second target costs no second program.
    assert abs(len(two) - len(one)) < len(one) // 20


@pytest.mark.tensorrt
def test_fixed_shapes_need_no_profile(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", batch=1)
    assert build_engine(path).manifest.profiles == ()


@pytest.mark.tensorrt
def test_dynamic_size_and_two_profiles(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", size="edge")
    profiles = [
        parse_profile("images=1x3x8x8:1x3x16x16:2x3x32x32"),
        parse_profile("images=4x3x8x8"),
    ]
    assert build_engine(path, profiles=profiles).manifest.profiles == tuple(profiles)


@pytest.mark.tensorrt
def test_external_data(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", external=True)
    result = build_engine(path, tmp_path / "elsewhere" / "m.plan")
    assert set(result.manifest.external_data_sha256) == {"m.onnx.data"}
    result.manifest.verify(result.plan_path, onnx_path=path)


@pytest.mark.tensorrt
def test_progress(onnx_file: Path):
    backend = create_backend("tensorrt-rtx")
    seen: list[tuple[float | None, str | None]] = []

    class Recorder:
        def update(self, *, fraction: float | None = None, detail: str | None = None) -> None:
            seen.append((fraction, detail))

    request = request_for(onnx_file, (parse_profile("images=1x3x16x16"),))
    backend.build(request, Recorder())  # type: ignore[arg-type]
    assert seen[0] == (0.0, "Building engine")
    assert "compiling the network" in {detail for _, detail in seen}
    fractions = [fraction for fraction, _ in seen if fraction is not None]
    assert fractions == sorted(fractions)


def refused(path: Path, *profiles: Profile) -> EngineLibraryError:
    """Let the backend build a file that no check of ours has seen."""
    with pytest.raises(EngineLibraryError) as raised:
        create_backend("tensorrt-rtx").build(request_for(path, profiles), Step())
    assert not path.with_suffix(".plan").exists()
    return raised.value


BATCH = parse_profile("x=1x3x16x16:2x3x16x16:4x3x16x16")


@pytest.mark.tensorrt
def test_lost_body(tmp_path: Path):
    error = refused(conv_model(tmp_path / "m.onnx", body=False))
    assert error.problem == "the file has lost the body of GspnProp2D"
    assert any("Plugin not found" in line for line in error.raw)


@pytest.mark.tensorrt
def test_unknown_op(tmp_path: Path):
    assert refused(op_model(tmp_path / "m.onnx", "Sharpen")).problem.endswith("no op Sharpen")


@pytest.mark.tensorrt
def test_unsupported_op(tmp_path: Path):
    error = refused(op_model(tmp_path / "m.onnx", "Det", output_rank=2))
    assert "does not support Det" in error.problem


@pytest.mark.tensorrt
def test_mixed_types(tmp_path: Path):
    assert "mixes number formats" in refused(mixed_types_model(tmp_path / "m.onnx")).problem


@pytest.mark.tensorrt
def test_baked_batch(tmp_path: Path):
    path = baked_batch_model(tmp_path / "m.onnx")
    error = refused(path, parse_profile("x=1x3x4:4x3x4:8x3x4"))
    assert "fixes a shape that the profile varies" in error.problem


@pytest.mark.tensorrt
def test_no_profile_for_a_dynamic_input(onnx_file: Path):
    assert "no profile" in refused(onnx_file).problem


@pytest.mark.tensorrt
def test_damaged_file(onnx_file: Path):
    request = request_for(onnx_file)
    onnx_file.write_bytes(onnx_file.read_bytes()[:-100])
    with pytest.raises(EngineLibraryError, match="ONNX file is damaged"):
        create_backend("tensorrt-rtx").build(request, Step())


@pytest.mark.tensorrt
def test_a_type_that_the_library_narrows_is_noticed(tmp_path: Path):
    # It takes float64 for float32 without a word.
    path = op_model(tmp_path / "m.onnx", "Relu", dtype=TensorProto.DOUBLE)
    assert "inputs are not those" in refused(path, BATCH).problem


@pytest.mark.tensorrt
def test_a_target_without_the_number_format(tmp_path: Path):
    path = op_model(tmp_path / "m.onnx", "Relu", dtype=TensorProto.BFLOAT16)
    request = replace(request_for(path, (BATCH,)), compute_capabilities=("7.5",))
    with pytest.raises(EngineLibraryError, match="sm75 lacks a number format"):
        create_backend("tensorrt-rtx").build(request, Step())


@pytest.mark.tensorrt
def test_workspace_too_small(onnx_file: Path):
    profile = parse_profile("images=512x3x16x16")
    with pytest.raises(EngineLibraryError, match="workspace limit"):
        build_engine(onnx_file, workspace_mib=1, profiles=[profile])
    assert [path.name for path in onnx_file.parent.iterdir()] == ["model.onnx"]


@pytest.mark.tensorrt
@pytest.mark.parametrize("stated", ["fp16", "bf16", "mixed"])
def test_precision_that_is_not_the_files(tmp_path: Path, stated: str):
    path = conv_model(tmp_path / "m.onnx", metadata={"gspn2.precision": stated})
    with pytest.raises(EngineLibraryError, match=f"does not compute in {stated}"):
        build_engine(path, compute_capabilities=ADA)


@pytest.mark.tensorrt
def test_reduced_layers_in_an_fp32_file(tmp_path: Path):
    path = conv_model(
        tmp_path / "m.onnx", dtype=TensorProto.FLOAT16, metadata={"gspn2.precision": "fp32"}
    )
    with pytest.raises(EngineLibraryError, match="does not compute in fp32"):
        build_engine(path, compute_capabilities=ADA)
