"""A package is found by whichever distribution brings it."""

import pytest

from gspn2_deploy.packages import distribution_of, version_of


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Returns install(name, version): what importlib.metadata finds afterwards."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])

    def install(name, version):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )

    return install


@pytest.mark.parametrize(
    ("package", "distribution"),
    [
        ("numpy", "numpy"),
        ("onnxruntime", "onnxruntime-gpu"),
        ("tensorrt", "tensorrt-cu12"),
        ("tensorrt", "tensorrt-bindings"),
        ("tensorrt-rtx", "tensorrt-rtx-cu13-bindings"),
    ],
)
def test_a_package_by_its_distributions(install, package, distribution):
    assert version_of(package) is None
    install(distribution, "1.2.3")
    assert version_of(package) == "1.2.3"
    assert distribution_of(package).metadata["Name"] == distribution


def test_the_gpu_build_comes_first(install):
    install("onnxruntime", "1.0")
    install("onnxruntime-gpu", "2.0")
    assert version_of("onnxruntime") == "2.0"
