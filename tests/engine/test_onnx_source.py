from __future__ import annotations

from pathlib import Path

import pytest
from engine_models import conv_model
from onnx import TensorProto

from gspn2_deploy.build.onnx_source import read_onnx
from gspn2_deploy.errors import OnnxFileError
from gspn2_deploy.files import sha256_of


def test_interface(tmp_path: Path):
    path = conv_model(
        tmp_path / "m.onnx",
        dtype=TensorProto.FLOAT16,
        metadata={"gspn2.precision": "fp16", "author": "x"},
    )
    source = read_onnx(path)
    assert [str(tensor) for tensor in source.inputs] == ["images: float16 (batch, 3, 16, 16)"]
    assert [str(tensor) for tensor in source.outputs] == ["logits: float16 (batch, 4)"]
    assert source.dtypes == {"float16"}
    assert source.propagations == {"GspnProp2D": 1}
    assert source.precision == "fp16"
    assert source.metadata["author"] == "x"
    assert source.digests() == (sha256_of(path), {})


def test_external_data_is_hashed_too(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", external=True)
    data = tmp_path / "m.onnx.data"
    source = read_onnx(path)
    assert source.files() == (path, data)
    assert source.digests()[1] == {"m.onnx.data": sha256_of(data)}


def test_missing_external_data(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", external=True)
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(OnnxFileError, match=r"weights of m\.onnx are missing"):
        read_onnx(path)


def test_truncated_external_data(tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", external=True)
    data = tmp_path / "m.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(OnnxFileError, match=r"weights of m\.onnx are truncated"):
        read_onnx(path)


def test_missing_file(tmp_path: Path):
    with pytest.raises(OnnxFileError, match="cannot read"):
        read_onnx(tmp_path / "absent.onnx")


def test_folder(tmp_path: Path):
    with pytest.raises(OnnxFileError, match="cannot read"):
        read_onnx(tmp_path)


def test_truncated_file(onnx_file: Path):
    onnx_file.write_bytes(onnx_file.read_bytes()[:-100])
    with pytest.raises(OnnxFileError, match="damaged"):
        read_onnx(onnx_file)


def test_other_content(tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_text("not an ONNX file")
    with pytest.raises(OnnxFileError, match="damaged"):
        read_onnx(path)


def test_empty_file(tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    with pytest.raises(OnnxFileError, match="holds no model"):
        read_onnx(path)
