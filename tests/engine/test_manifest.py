from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import (
    Manifest,
    ManifestError,
    ShapeRange,
    TensorInfo,
    manifest_path,
)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "nano.plan"
    path.write_bytes(b"a plan" * 100)
    return path


@pytest.fixture
def manifest(plan: Path) -> Manifest:
    onnx = plan.with_name("nano.onnx")
    onnx.write_bytes(b"a model")
    data = plan.with_name("nano.onnx.data")
    data.write_bytes(b"weights")
    made = Manifest(
        plan_file=plan.name,
        plan_bytes=plan.stat().st_size,
        plan_sha256=sha256_of(plan),
        onnx_file=onnx.name,
        onnx_sha256=sha256_of(onnx),
        external_data_sha256={data.name: sha256_of(data)},
        backend="tensorrt-rtx",
        backend_version="1.7.1.116",
        package_version="0.1.0",
        cuda_version="13",
        driver_version=None,
        compute_capabilities=("8.9", "12.0"),
        profiles=({"images": ShapeRange((1, 3), (8, 3), (64, 3))},),
        inputs=(TensorInfo("images", "float32", ("batch", 3)),),
        outputs=(TensorInfo("logits", "float32", (None, 10)),),
        precision="fp32",
        layer_dtypes={"float32": 12},
        propagations={"GspnProp2D": 4},
        activation_bytes=1024,
        metadata={"gspn2.model": "nano"},
        unproven=("not run",),
        build_seconds=1.5,
        host="Linux x86_64",
        created="2026-01-02T03:04:05+00:00",
        engine_dtypes={"float32": 9},
        gpu="NVIDIA H200",
        plugin_sha256="0" * 64,
        workspace_bytes=1 << 20,
        timing_cache="/cache/timing/0.cache",
        options={"weights": "fixed", "tactic_sources": ["cudnn"]},
        fused={"GspnDepthwise_a": "GspnDepthwise"},
    )
    made.save(manifest_path(plan))
    return made


def edit(plan: Path, **changes: object) -> None:
    path = manifest_path(plan)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_lies_beside_the_plan(plan: Path):
    assert manifest_path(plan) == plan.with_name("nano.plan.json")


def test_roundtrip(plan: Path, manifest: Manifest):
    assert Manifest.load(manifest_path(plan)) == manifest


def test_sound_plan_verifies(plan: Path, manifest: Manifest):
    manifest.verify(
        plan,
        library_version="1.7.1.116",
        compute_capability="8.9",
        onnx_path=plan.with_name("nano.onnx"),
    )


def test_missing_plan(plan: Path, manifest: Manifest):
    plan.unlink()
    with pytest.raises(ManifestError, match="is missing"):
        manifest.verify(plan)


def test_truncated_plan(plan: Path, manifest: Manifest):
    plan.write_bytes(plan.read_bytes()[:-1])
    with pytest.raises(ManifestError, match="truncated: 599 bytes"):
        manifest.verify(plan)


def test_altered_plan_of_the_same_size(plan: Path, manifest: Manifest):
    plan.write_bytes(b"A" + plan.read_bytes()[1:])
    with pytest.raises(ManifestError, match="altered"):
        manifest.verify(plan)


def test_every_mismatch_is_named(plan: Path, manifest: Manifest):
    plan.write_bytes(plan.read_bytes() + b"x")
    plan.with_name("nano.onnx.data").write_bytes(b"other")
    with pytest.raises(ManifestError) as raised:
        manifest.verify(
            plan,
            library_version="1.6.0",
            compute_capability="7.5",
            onnx_path=plan.with_name("nano.onnx"),
        )
    plan_part, version, capability, data = raised.value.mismatches
    assert "altered" in plan_part
    assert "1.6.0" in version
    assert "1.7.1.116" in version
    assert "7.5" in capability
    assert "nano.onnx.data" in data
    assert raised.value.exit_code == 2


def portable(manifest: Manifest, **options: object) -> Manifest:
    return replace(manifest, backend="tensorrt", backend_version="10.3.0", options=options)


@pytest.mark.parametrize(
    ("version", "fixed", "compatible"),
    [
        ("10.3.0", True, True),
        ("10.3.0.26", False, True),
        ("10.16.1", False, True),
        ("10.2.0", False, False),
        ("9.3.0", False, False),
        ("11.1.0", False, False),  # another major version has another interface for plugins
    ],
)
def test_versions_that_run_a_plan(manifest: Manifest, version: str, fixed: bool, compatible: bool):
    assert portable(manifest).accepts_version(version) is fixed
    assert portable(manifest, version_compatible=True).accepts_version(version) is compatible


@pytest.mark.parametrize(
    ("capability", "fixed", "ampere_plus"),
    [("8.9", True, True), ("8.0", False, True), ("10.3", False, True), ("7.5", False, False)],
)
def test_gpus_that_run_a_plan(manifest: Manifest, capability: str, fixed: bool, ampere_plus: bool):
    assert portable(manifest).accepts_gpu(capability) is fixed
    wide = portable(manifest, hardware_compatibility="ampere-plus")
    assert wide.accepts_gpu(capability) is ampere_plus


def test_portable_plans_verify(plan: Path, manifest: Manifest):
    wide = portable(manifest, version_compatible=True, hardware_compatibility="ampere-plus")
    wide.verify(plan, library_version="10.9.0", compute_capability="9.0")
    with pytest.raises(ManifestError) as raised:
        wide.verify(plan, library_version="10.2.0", compute_capability="7.5")
    version, capability = raised.value.mismatches
    assert version.endswith("the plan needs 10.3.0 or a later one of that major version")
    assert "7.5" in capability


def test_a_stripped_plan_does_not_run_as_it_is(plan: Path, manifest: Manifest):
    stripped = portable(manifest, weights="stripped")
    stripped.verify(plan)
    with pytest.raises(ManifestError, match=r"weights were left out: they are in nano\.onnx"):
        stripped.verify(plan, library_version="10.3.0")


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ({}, False),
        ({"embed_plugin": True}, True),
        ({"version_compatible": True}, True),
        ({"version_compatible": True, "exclude_lean_runtime": True}, False),
    ],
)
def test_plans_that_carry_libraries(manifest: Manifest, options: dict[str, object], holds: bool):
    assert portable(manifest, **options).holds_host_code is holds


def test_missing_manifest(plan: Path):
    with pytest.raises(ManifestError, match="is missing"):
        Manifest.load(manifest_path(plan))


def test_newer_schema_is_refused(plan: Path, manifest: Manifest):
    edit(plan, schema=2, package_version="9.0")
    with pytest.raises(ManifestError, match=r"unknown manifest schema(.|\n)*schema 2(.|\n)*9\.0"):
        Manifest.load(manifest_path(plan))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "other"}', "\x00"])
def test_not_a_manifest(plan: Path, text: str):
    manifest_path(plan).write_text(text)
    with pytest.raises(ManifestError):
        Manifest.load(manifest_path(plan))


def test_a_manifest_of_before_fused_layers_were_named(plan: Path, manifest: Manifest):
    path = manifest_path(plan)
    content = json.loads(path.read_text())
    del content["fused"]
    path.write_text(json.dumps(content))
    older = Manifest.load(path)
    assert older == replace(manifest, fused=None)
    older.save(path)
    assert Manifest.load(path) == older


@pytest.mark.parametrize(
    "name", [field.name for field in fields(Manifest) if field.name != "fused"]
)
def test_a_lost_field_is_noticed(plan: Path, manifest: Manifest, name: str):
    path = manifest_path(plan)
    content = json.loads(path.read_text())
    del content[name]
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError):
        Manifest.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"plan_sha256": 7},
        {"plan_bytes": "many"},
        {"profiles": [{"images": {"min": ["a"], "opt": [1], "max": [1]}}]},
        {"profiles": [{"images": {"least": [1]}}]},
        {"inputs": [{"name": 1}]},
        {"metadata": []},
        {"surplus": 1},
        {"options": []},
        {"engine_dtypes": None},
        {"fused": ["GspnDepthwise_a"]},
        {"fused": {"GspnDepthwise_a": 1}},
    ],
)
def test_damaged_fields(plan: Path, manifest: Manifest, changes: dict[str, object]):
    edit(plan, **changes)
    with pytest.raises(ManifestError, match="damaged"):
        Manifest.load(manifest_path(plan))


def test_equality_sees_every_field(manifest: Manifest):
    assert replace(manifest, created="later") != manifest
