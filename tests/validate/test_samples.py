"""Inputs: seeded, of the right shapes, and refused when they do not fit the file."""

from __future__ import annotations

import numpy as np
import pytest
from runners.small_models import specs

from gspn2_deploy.errors import InputError, ShapeError, UsageError
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.validate.samples import data_samples, random_samples

FIXED = (TensorInfo("images", "float32", (2, 3, 16, 24)),)


def shapes(samples):
    return [sample.shapes["images"] for sample in samples]


def test_a_fixed_file_gets_its_own_shape():
    assert shapes(random_samples(FIXED, count=2)) == [(2, 3, 16, 24)] * 2


def test_a_dynamic_file_gets_several_batches_and_a_non_square_size():
    found = shapes(random_samples(specs(), default_size=(32, 32), count=1))
    assert found == [(1, 2, 32, 32), (3, 2, 32, 32), (1, 2, 41, 48), (3, 2, 41, 48)]


def test_given_batches_and_sizes_are_combined():
    found = shapes(random_samples(specs(), batches=(1, 5), sizes=((8, 9),), count=1))
    assert found == [(1, 2, 8, 9), (5, 2, 8, 9)]


def test_samples_are_seeded_and_differ():
    def first(seed):
        return [s.inputs["images"] for s in random_samples(FIXED, seed=seed, count=2)]

    np.testing.assert_array_equal(first(1)[0], first(1)[0])
    assert not np.array_equal(first(1)[0], first(1)[1])
    assert not np.array_equal(first(1)[0], first(2)[0])
    assert not np.array_equal(first(1)[0][0], first(1)[0][1])  # the items of a batch


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_samples_have_the_files_dtype(dtype):
    sample = next(random_samples(specs(dtype), count=1))
    assert sample.inputs["images"].dtype.name == dtype
    assert np.isfinite(sample.inputs["images"].astype(np.float32)).all()


@pytest.mark.parametrize("arguments", [{"batches": (3,)}, {"sizes": ((16, 16),)}])
def test_a_shape_that_the_file_fixes_otherwise(arguments):
    with pytest.raises(ShapeError, match="fixes axis"):
        list(random_samples(FIXED, **arguments))


@pytest.mark.parametrize(
    "spec",
    [
        TensorInfo("ids", "int64", ("batch", 4)),
        TensorInfo("tokens", "float32", ("batch", "length", 8)),
    ],
)
def test_what_cannot_be_invented_is_asked_for(spec):
    with pytest.raises(UsageError, match="--data"):
        list(random_samples((spec,)))


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return write


def test_data_is_cut_into_batches_and_keeps_its_places(npz):
    values = np.random.default_rng(0).standard_normal((5, 2, 4, 4)).astype(np.float32)
    path = npz(images=values, labels=np.arange(5, dtype=np.uint8))
    found = data_samples(path, specs(), batch=2)
    assert [(s.first, s.shapes["images"][0]) for s in found] == [(0, 2), (2, 2), (4, 1)]
    np.testing.assert_array_equal(np.concatenate([s.inputs["images"] for s in found]), values)
    np.testing.assert_array_equal(np.concatenate([s.labels for s in found]), np.arange(5))


def test_float32_data_is_cast_to_the_files_dtype(npz):
    path = npz(images=np.ones((1, 2, 4, 4), np.float32))
    assert data_samples(path, specs("float16"))[0].inputs["images"].dtype == np.float16


def test_a_fixed_batch_divides_the_data(npz):
    fixed = specs(batch=2)
    assert len(data_samples(npz(images=np.ones((4, 2, 4, 4), np.float32)), fixed)) == 2
    with pytest.raises(ShapeError, match="not a multiple"):
        data_samples(npz(images=np.ones((3, 2, 4, 4), np.float32)), fixed)


@pytest.mark.parametrize(
    ("arrays", "kind", "message"),
    [
        ({"image": np.ones((1, 2, 4, 4))}, InputError, "does not hold the model's inputs"),
        ({}, InputError, "does not hold the model's inputs"),
        ({"images": np.ones((0, 2, 4, 4))}, ShapeError, "at least 1"),
        ({"images": np.float32(1)}, ShapeError, "at least 1"),
        ({"images": np.ones((2, 2, 4, 4)), "labels": np.arange(3)}, ShapeError, "same number"),
        ({"images": np.ones((2, 2, 4, 4)), "labels": np.ones(2)}, ShapeError, "one integer"),
        ({"images": np.ones((2, 2, 4, 4)), "labels": np.ones((2, 1), int)}, ShapeError, "integer"),
    ],
)
def test_data_that_does_not_fit(npz, arrays, kind, message):
    with pytest.raises(kind, match=message):
        data_samples(npz(**arrays), specs())


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no archive", b"no archive at all"])
def test_data_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "broken.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="does not exist" if content is None else "cannot be read"):
        data_samples(path, specs())


def test_pickled_data_is_refused(npz):
    with pytest.raises(InputError, match="cannot be read") as refused:
        data_samples(npz(images=np.array([object()])), specs())
    assert "allow_pickle" not in str(refused.value)  # no advice to run what the file holds
