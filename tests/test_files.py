"""Output is whole or absent."""

import errno
import os
from pathlib import Path

import pytest

from gspn2_deploy.errors import OutputError
from gspn2_deploy.files import sha256_of, staged_output, write_json


def test_targets_and_companions_move_together(tmp_path):
    target = tmp_path / "out" / "model.onnx"
    with staged_output(target) as staging:
        (staging / "model.onnx").write_bytes(b"model")
        (staging / "model.onnx.data").write_bytes(b"weights")
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "model.onnx",
        "model.onnx.data",
    ]


def test_a_failure_leaves_the_old_file(tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), staged_output(target) as staging:
        (staging / "model.onnx").write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_unwritten_target_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="was not written"), staged_output(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_found_before_the_work(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "name").mkdir()
    for target in (tmp_path / "name", Path()):
        with pytest.raises(OutputError, match="is a folder"), staged_output(target):
            pytest.fail("the work began")
    assert list(tmp_path.iterdir()) == [tmp_path / "name"]


def test_what_is_no_plain_file_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="no plain file"):
        write_json(pipe, {})
    assert pipe.is_fifo()


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_json(tmp_path / "file" / "name", {})


def test_a_full_disk(tmp_path):
    target = tmp_path / "name"
    with pytest.raises(OutputError, match="the disk is full"), staged_output(target) as staging:
        (staging / "name").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="the disk is full"), staged_output(target) as staging:
        # As shutil.copyfile says it: the source first.
        full = (errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere/input", None)
        raise OSError(*full, str(staging / "name"))
    assert list(tmp_path.iterdir()) == []


def test_other_os_errors_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError), staged_output(tmp_path / "name"):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(PermissionError), staged_output(tmp_path / "name"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/input")


def test_a_place_where_no_file_can_be_made(monkeypatch, tmp_path):
    def refuse(**_):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(OutputError, match="no file can be made there"):
        write_json(tmp_path / "name", {})


def test_json_without_numbers_that_json_lacks(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"error": 0.5})
    assert path.read_text() == '{\n  "error": 0.5\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"error": float("nan")})
    assert list(tmp_path.iterdir()) == [path]
    assert "0.5" in path.read_text()


def test_sha256(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert sha256_of(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
