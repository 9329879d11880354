"""The installed package, used by an application that knows nothing else: examples/classify."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from runtime.runtime_build import CLASSIFY, run
from runtime.runtime_plans import ONNX_SHA256, write_manifest

from gspn2_deploy.bundle import write_bundle
from gspn2_deploy.golden import GoldenSample, GoldenSamples
from gspn2_deploy.validate.compare import compare_output
from gspn2_deploy.validate.tolerances import MODEL_TOLERANCES

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


@pytest.fixture
def pretended(build, classify, tmp_path):
    """Run the application on a pretended machine, whose engine doubles ten pixels."""
    bundle = write_pretended_bundle(tmp_path)
    env = os.environ | {"LD_LIBRARY_PATH": str(build.folder / "tests/pretend")}

    def call(*arguments, code=0):
        result = run(classify, bundle, *arguments, check=False, env=env)
        assert result.returncode == code, result.stdout + result.stderr
        return result

    call.bundle, call.folder = bundle, tmp_path
    return call


def write_pretended_bundle(folder):
    """A bundle for that machine; its golden samples are what its engine answers."""
    plan, plugin = folder / "nano.plan", folder / "libgspn2_tensorrt.so"
    plan.write_bytes(b"a plan")
    plugin.write_bytes(b"\x7fELF initLibGspn2Plugins")
    write_manifest(plan, compute_capabilities=("9.0",))
    images = np.random.default_rng(0).uniform(-2, 2, (9, 1, 8, 8)).astype(np.float32)
    scores = {"scores": 2 * images.reshape(9, -1)[:, :10]}
    golden = folder / "nano.golden.npz"
    sample = GoldenSample({"images": images}, scores, scores)
    GoldenSamples((sample,), ONNX_SHA256, "cd" * 32, "nano", "fp32").save(golden)
    write_bundle(plan, folder / "bundle", golden=golden, plugin=plugin)
    return folder / "bundle"


def check_golden(call, bundle, folder, precision="fp32"):
    """Feed the application a bundle's golden inputs, and hold its scores against the outputs."""
    golden = GoldenSamples.load(next(Path(bundle).glob("*.npz")))
    for index, sample in enumerate(golden.samples):
        ((_, images),) = sample.inputs.items()
        ((name, expected),) = sample.outputs.items()
        np.save(folder / "golden.npy", images)
        printed = call(folder / "golden.npy", "--dump-scores", folder / "scores").stdout
        scores = np.fromfile(folder / "scores", np.float32).reshape(expected.shape)
        result = compare_output(name, expected, scores, MODEL_TOLERANCES[precision])
        assert result.passed, f"sample {index}: {result.failures}"
        classes = [int(line.split()[1]) for line in printed.splitlines()]
        assert classes == scores.argmax(axis=1).tolist()


def test_the_golden_samples_come_out(pretended):
    check_golden(pretended, pretended.bundle, pretended.folder)


def test_probabilities_are_the_softmax_of_the_scores(pretended, digits):
    images = np.load(digits / "images.npy")
    lines = pretended(digits / "images.npy", "--top-k", "10").stdout.splitlines()
    assert len(lines) == 360
    scores = 2 * images.reshape(360, -1)[:, :10].astype(np.float64)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    for line, expected in zip(lines, shares, strict=True):
        words = line.split()[1:]
        found = {int(words[i]): float(words[i + 1]) for i in range(0, 20, 2)}
        assert [found[k] for k in range(10)] == pytest.approx(expected.tolist(), abs=6e-5)
        printed = [float(word) for word in words[1::2]]
        assert printed == sorted(printed, reverse=True)


def test_batches_do_not_change_the_answers(pretended, digits):
    whole = pretended(digits / "images.npy").stdout
    for batch in ("1", "7", "64", "1000"):
        assert pretended(digits / "images.npy", "--batch", batch).stdout == whole
    images = sorted(digits.glob("*.pgm"))
    answers = pretended(*NORMALISE, *images).stdout.splitlines()
    assert [line.split()[1] for line in answers] == [line.split()[1] for line in whole.splitlines()]


def test_expected_classes_are_counted(pretended, digits, tmp_path):
    images = np.load(digits / "images.npy")
    classes = (images.reshape(360, -1)[:, :10]).argmax(axis=1)
    expect = tmp_path / "labels.txt"
    expect.write_text("\n".join(map(str, classes)))
    result = pretended(digits / "images.npy", "--expect", expect)
    assert result.stdout.endswith("360 of 360 images have the expected class\n")
    classes[5] += 1
    expect.write_text("\n".join(map(str, classes)))
    result = pretended(digits / "images.npy", "--expect", expect, code=1)
    assert "359 of 360" in result.stdout
    expect.write_text("1 2 3")
    result = pretended(digits / "images.npy", "--expect", expect, code=2)
    assert "holds 3 classes, expected 360" in result.stderr


def test_what_the_engine_cannot_take_is_said(pretended, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((1, 1, 8, 9), np.float32))
    result = pretended(tmp_path / "wide.npy", code=3)
    assert 'the shape of the input "images" does not fit' in result.stderr
    np.save(tmp_path / "nan.npy", np.full((1, 1, 8, 8), np.nan, np.float32))
    assert "hold NaN" in pretended(tmp_path / "nan.npy", code=3).stderr


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
def test_the_golden_samples_come_out_on_a_gpu(classify, digits_bundle, tmp_path):
    where = ("--tensorrt", folder) if (folder := os.environ.get("TENSORRT_LIB_DIR")) else ()
    check_golden(
        lambda *arguments: run(classify, digits_bundle, *where, *arguments), digits_bundle, tmp_path
    )


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
