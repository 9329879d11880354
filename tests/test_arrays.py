"""NumPy's files: what is read, and what a damaged or harmful one is said to be."""

import numpy as np
import pytest

from gspn2_deploy.arrays import read_npy, read_npz

READERS = {".npz": read_npz, ".npy": read_npy}


def test_arrays_are_read(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "a.npz", first=values, second=values + 1)
    np.save(tmp_path / "a.npy", values)
    arrays = read_npz(tmp_path / "a.npz")
    assert list(arrays) == ["first", "second"]
    np.testing.assert_array_equal(arrays["second"], values + 1)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), values)


@pytest.mark.parametrize("ending", READERS)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive", b"\x93NUMPY cut"])
def test_damaged_files_have_a_reason(tmp_path, ending, content):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\S") as refused:
        READERS[ending](path)
    assert "allow_pickle" not in str(refused.value)


@pytest.mark.parametrize("ending", READERS)
def test_a_missing_file_is_told_apart(tmp_path, ending):
    with pytest.raises(FileNotFoundError):
        READERS[ending](tmp_path / f"a{ending}")


def test_objects_and_archives_in_an_npy_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ValueError, match="neither plain arrays"):
        read_npy(tmp_path / "objects.npy")
    with (tmp_path / "several.npy").open("wb") as stream:
        np.savez(stream, a=np.ones(1))
    with pytest.raises(ValueError, match="several arrays"):
        read_npy(tmp_path / "several.npy")


def test_a_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(1))
    with pytest.raises(ValueError, match="one array without a name"):
        read_npz(tmp_path / "a.npy")
