"""Golden sample files: what they hold, and what is refused."""

import io

import numpy as np
import pytest
import torch
from export_models import Propagate, seeded
from gspn2_deploy.export import ExportOptions, GoldenSource, PrecisionPlan, export_onnx
from gspn2_deploy.export.golden import record
from gspn2_deploy.export.precision import prepare_model

from gspn2_deploy.errors import GoldenFileError, InputError, ValidationFailedError
from gspn2_deploy.golden import GoldenSample, GoldenSamples


def test_what_export_recorded(model, exported):
    golden = GoldenSamples.load(exported.golden)
    assert len(golden.samples) == 3
    assert golden.onnx_sha256 == exported.sha256
    assert (golden.precision, golden.seed, golden.model) == ("fp32", 5, "Propagate")
    shapes = {sample.inputs["images"].shape for sample in golden.samples}
    assert len(shapes) == 3  # the free axes take several extents
    for sample in golden.samples:
        with torch.no_grad():
            expected = model(torch.from_numpy(sample.inputs["images"])).numpy()
        np.testing.assert_allclose(sample.outputs["output"], expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(sample.reference["output"], expected, rtol=1e-6, atol=1e-6)


def test_reduced_precision_keeps_a_float32_reference(tmp_path):
    model = seeded(Propagate())
    plan = PrecisionPlan("bf16", io_dtype="precision")
    images = np.random.default_rng(0).standard_normal((5, 3, 6, 7), dtype=np.float32)
    np.save(tmp_path / "images.npy", images)
    golden = tmp_path / "elsewhere" / "a.npz"
    source = GoldenSource(inputs=tmp_path / "images.npy")
    options = ExportOptions(precision=plan, golden=golden, golden_source=source)
    export_onnx(model, tmp_path / "a.onnx", options)
    loaded = GoldenSamples.load(golden)
    assert loaded.seed is None
    assert loaded.dtypes == {
        "input": {"images": "bfloat16"},
        "output": {"output": "bfloat16"},
        "reference": {"output": "float32"},
    }
    (sample,) = loaded.samples
    rounded = torch.from_numpy(images).bfloat16()
    assert np.array_equal(sample.inputs["images"].astype(np.float32), rounded.float().numpy())
    with torch.no_grad():
        exact = model(rounded.float()).numpy()
    np.testing.assert_allclose(sample.reference["output"], exact, rtol=1e-6, atol=1e-6)
    difference = np.abs(sample.outputs["output"].astype(np.float32) - exact).max()
    assert 0 < difference < 0.2 * np.abs(exact).max()


def test_a_round_trip_keeps_every_type(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    sample = GoldenSample(
        {"a/b": np.arange(3, dtype=np.int64), "c": np.ones((2, 0), np.float16)},
        {"y": np.array([1.5, -3.0], ml_dtypes.bfloat16)},
        {"y": np.array([1.5, -3.0], np.float32)},
    )
    path = tmp_path / "a.npz"
    GoldenSamples((sample,), "x", "y", "m", "bf16").save(path)
    (loaded,) = GoldenSamples.load(path).samples
    for part in ("inputs", "outputs", "reference"):
        for name, value in getattr(sample, part).items():
            assert getattr(loaded, part)[name].dtype == value.dtype
            assert np.array_equal(getattr(loaded, part)[name], value)


def test_samples_must_agree():
    one = GoldenSample({"x": np.zeros(1)}, {"y": np.zeros(1)}, {"y": np.zeros(1)})
    other = GoldenSample({"z": np.zeros(1)}, {"y": np.zeros(1)}, {"y": np.zeros(1)})
    for samples in ((), (one, other), (GoldenSample({"x": np.zeros(1)}, {}, {}),)):
        with pytest.raises(GoldenFileError):
            GoldenSamples(samples, "x", "y", "m", "fp32")


def test_missing_truncated_and_foreign(exported, tmp_path):
    with pytest.raises(GoldenFileError, match="does not exist"):
        GoldenSamples.load(tmp_path / "absent.npz")
    content = exported.golden.read_bytes()
    foreign = io.BytesIO()
    np.savez(foreign, images=np.zeros(3))
    plain = io.BytesIO()
    np.save(plain, np.zeros(3))
    cases = [b"", b"text", content[:100], content[:-40], foreign.getvalue(), plain.getvalue()]
    for index, case in enumerate(cases):
        path = tmp_path / f"{index}.npz"
        path.write_bytes(case)
        with pytest.raises(GoldenFileError):
            GoldenSamples.load(path)


def test_an_array_is_gone(exported, tmp_path):
    with np.load(exported.golden) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "1/output/output"}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(GoldenFileError, match="is damaged"):
        GoldenSamples.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "name, shape, value, error",
    [
        ("images", (2, 4, 6, 7), 0.0, InputError),
        ("images", (2, 3, 8, 9), 0.0, InputError),  # PyTorch takes it, the file does not
        ("other", (2, 3, 6, 7), 0.0, InputError),
        ("images", (2, 3, 6, 7), np.nan, ValidationFailedError),
        ("images", (2, 3, 6, 7), 3e38, ValidationFailedError),  # the outputs are infinite
    ],
)
def test_inputs_that_do_not_fit(model, tmp_path, name, shape, value, error):
    np.savez(tmp_path / "in.npz", **{name: np.full(shape, value, np.float32)})
    golden = tmp_path / "a.npz"
    options = ExportOptions(golden=golden, golden_source=GoldenSource(inputs=tmp_path / "in.npz"))
    with pytest.raises(error):
        export_onnx(model, tmp_path / "a.onnx", options)
    assert not golden.exists()
    assert not (tmp_path / "a.onnx").exists()


def test_no_sample_is_an_error(model, exported):
    prepared = prepare_model(model, PrecisionPlan())
    example = {"images": torch.zeros(2, 3, 6, 7)}
    with pytest.raises(GoldenFileError, match="no golden sample"):
        record(model, prepared, exported.summary, "x", example, GoldenSource(count=0))
