"""The installed package, used by an application that knows nothing else: examples/classify."""

import os
import sys

import numpy as np
import pytest
from runtime_build import CLASSIFY, run

pytestmark = pytest.mark.tensorrt

NORMALISE = ("--mean", "0.305", "--std", "0.376")


@pytest.fixture(scope="module")
def prefix(build, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", build.folder, "--prefix", folder)
    return folder


@pytest.fixture(scope="module")
def classify(prefix, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classify")
    run(
        *("cmake", "-S", CLASSIFY, "-B", folder, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}"),
        "-DCMAKE_CXX_FLAGS=-Werror",
    )
    run("cmake", "--build", folder)
    return folder / "classify"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    run(sys.executable, CLASSIFY / "make_images.py", folder)
    return folder


def dumped(classify, target, *arguments):
    run(classify, "no-bundle", *arguments, "--dump-input", target)
    return np.fromfile(target, dtype=np.float32)


def test_images_are_fed_as_the_model_was_trained_on_them(classify, digits, tmp_path):
    expected = np.load(digits / "images.npy")
    images = sorted(digits.glob("*.pgm"))
    assert len(images) == len(expected) == 360
    fed = dumped(classify, tmp_path / "pgm", *NORMALISE, *images)
    np.testing.assert_array_equal(fed, expected.ravel())
    fed = dumped(classify, tmp_path / "npy", digits / "images.npy")
    np.testing.assert_array_equal(fed, expected.ravel())


def test_colours_become_channels(classify, tmp_path):
    gray = np.random.default_rng(0).integers(0, 65536, (3, 5, 3), dtype=np.uint16)
    deep, shallow = tmp_path / "deep.ppm", tmp_path / "shallow.ppm"
    deep.write_bytes(b"P6 # a comment\n5\t3\n65535\n" + gray.astype(">u2").tobytes())
    shallow.write_bytes(b"P6\n5 3\n255\n" + (gray >> 8).astype(np.uint8).tobytes())
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])
    options = ("--mean", "0.1,0.2,0.3", "--std", "0.5,0.6,0.7")
    for path, values in ((deep, gray / 65535), (shallow, (gray >> 8) / 255)):
        expected = ((values - mean) / std).astype(np.float32).transpose(2, 0, 1)
        np.testing.assert_array_equal(
            dumped(classify, tmp_path / "fed", *options, path), expected.ravel()
        )


def refused(classify, *arguments):
    result = run(classify, *arguments, check=False)
    assert result.returncode == 2, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    "content, words",
    [
        (b"P5\n8 8\n16\n" + b"0" * 63, "truncated"),
        (b"P5\n8 0\n16\n", "damaged header"),
        (b"P5\n8 8\n65536\n", "damaged header"),
        (b"P5\n99999999999999999999 8\n1\n", "damaged header"),
        (b"P5", "not a binary PGM"),
        (b"\x89PNG", "not a binary PGM"),
        (b"", "not a binary PGM"),
    ],
    ids=str,
)
def test_damaged_images_are_refused(classify, tmp_path, content, words):
    path = tmp_path / "image.pgm"
    path.write_bytes(content)
    assert words in refused(classify, "no-bundle", path)


def test_damaged_arrays_are_refused(classify, tmp_path):
    path = tmp_path / "array.npy"
    for array, words in (
        (np.zeros((1, 1, 8, 8)), "must be little-endian float32"),
        (np.zeros((1, 2, 8, 8), np.float32, order="F"), "C order"),
        (np.zeros((8, 8), np.float32), "expected (N, C, H, W)"),
        (np.zeros((0, 1, 8, 8), np.float32), "out of range"),
    ):
        np.save(path, array)
        assert words in refused(classify, "no-bundle", path)
    np.save(path, np.zeros((2, 1, 8, 8), np.float32))
    content = path.read_bytes()
    for length in (3, 11, 40, len(content) - 1):
        path.write_bytes(content[:length])
        assert "array.npy" in refused(classify, "no-bundle", path)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "no bundle was named"),
        (("bundle",), "no file was named"),
        (("bundle", "--top-k"), "needs a value"),
        (("bundle", "--top-k", "0", "x"), "expected a whole number"),
        (("bundle", "--batch", "-1", "x"), "expected a whole number"),
        (("bundle", "--std", "0", "x"), "numbers over 0"),
        (("bundle", "--mean", "1,x", "x"), "separated by commas"),
        (("bundle", "--nonesuch", "1", "x"), "no such option"),
        (("bundle", "absent.pgm"), "cannot be read"),
    ],
    ids=str,
)
def test_wrong_usage_is_refused(classify, arguments, words):
    assert words in refused(classify, *arguments)


def test_errors_of_the_runtime_are_printed(classify, digits, tmp_path):
    result = run(classify, tmp_path, digits / "000.pgm", check=False)
    assert result.returncode == 3
    assert "bundle.json: No such file or directory" in result.stderr
    assert "fix:" in result.stderr


PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(consumer LANGUAGES CXX)
find_package(gspn2 0.1 REQUIRED COMPONENTS {components})
message(STATUS "8.6 is ${{GSPN2_PLUGIN_8_6}}, all are ${{GSPN2_PLUGINS}}")
"""


def configure_project(folder, prefix, components):
    (folder / "CMakeLists.txt").write_text(PROJECT.format(components=components))
    command = ("cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    return run(*command, check=False)


def test_the_package_names_the_plugins(prefix, tmp_path):
    library = prefix / "lib/tensorrt-8.6/libgspn2_tensorrt.so"
    library.parent.mkdir()
    library.write_bytes(b"")
    try:
        result = configure_project(tmp_path, prefix, "runtime")
    finally:
        library.unlink()
        library.parent.rmdir()
    assert result.returncode == 0, result.stderr
    assert f"8.6 is {library}, all are {library}" in result.stdout


def test_the_package_says_which_component_is_missing(prefix, tmp_path):
    result = configure_project(tmp_path, prefix, "kernels")
    assert result.returncode != 0
    assert 'no component "kernels"' in result.stderr


@pytest.fixture
def digits_bundle():
    """A bundle of examples/digits in fp32 that was built for the GPU of this machine."""
    bundle = os.environ.get("GSPN2_DIGITS_BUNDLE")
    if not bundle:
        pytest.skip("GSPN2_DIGITS_BUNDLE names no bundle of examples/digits")
    return bundle


@pytest.mark.gpu
def test_sessions_on_a_gpu(build, digits_bundle):
    folder = os.environ.get("TENSORRT_LIB_DIR")
    result = build.program("gpu_sessions", digits_bundle, *([folder] if folder else []))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ok ") == 4


@pytest.mark.gpu
def test_held_out_digits_are_classified(classify, digits, digits_bundle):
    """The same classes as PyTorch, whose count of right ones training.json has: 357 of 360."""
    where = ("--tensorrt", folder) if (folder := os.environ.get("TENSORRT_LIB_DIR")) else ()
    images = sorted(digits.glob("*.pgm"))
    options = (*NORMALISE, *where, "--expect", digits / "labels.txt")
    command = (classify, digits_bundle, *options, *images)
    result = run(*command, check=False)
    assert result.returncode == 1, result.stderr  # three are wrong
    assert "357 of 360 images have the expected class" in result.stdout
    arrays = run(classify, digits_bundle, *where, "--batch", "7", digits / "images.npy").stdout
    from_images = [line.split()[1] for line in result.stdout.splitlines()[:-1]]
    assert [line.split()[1] for line in arrays.splitlines()] == from_images
