"""Writing and reading bundles."""

import io
import json
import os
import tarfile

import pytest
from bundle_parts import golden
from click.testing import CliRunner

from gspn2_deploy.bundle import Bundle, BundleError, opened_bundle, write_bundle
from gspn2_deploy.cli.app import app
from gspn2_deploy.errors import OutputError, UsageError
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import ManifestError

NAMES = {
    *("nano.plan", "nano.plan.json", "libgspn2_tensorrt.so", "libgspn2_kernels.so"),
    *("nano.golden.npz", "onnx.json"),
}


def write(parts, output, **changes):
    options = {"golden": parts.golden, "plugin": parts.plugin} | changes
    return write_bundle(parts.plan, output, **options)


@pytest.mark.parametrize("name", ["out", "deep/out", "out.tar"])
def test_round_trip(parts, tmp_path, name):
    output = tmp_path / name
    written = write(parts, output)
    with opened_bundle(output) as folder:
        read = Bundle.load(folder)
        assert read == written
        assert set(read.files) == NAMES
        assert {path.name for path in folder.iterdir()} == {*NAMES, "bundle.json"}
        assert read.problems(folder) == ()
        assert (folder / read.plan).read_bytes() == parts.plan.read_bytes()
        assert (folder / read.plugin).read_bytes() == parts.plugin.read_bytes()
        assert read.libraries == ("libgspn2_kernels.so",)
        facts = json.loads((folder / read.onnx_metadata).read_text())
        assert facts["propagations"] == {"GspnProp2D": 3}
        assert facts["metadata"]["gspn2.precision"] == "fp32"


def test_tars_are_reproducible_but_for_the_date(parts, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(parts, tmp_path / name / "out.tar")
    paths = [tmp_path / name / "out.tar" for name in ("a", "b")]
    with tarfile.open(paths[0]) as first, tarfile.open(paths[1]) as second:
        for left, right in zip(first, second, strict=True):
            assert (left.name, left.mtime, left.uid) == (right.name, 0, 0)


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "unlisted", "link"])
@pytest.mark.parametrize("name", sorted(NAMES))
def test_damage_is_named(parts, tmp_path, damage, name):
    folder = tmp_path / "out"
    bundle = write(parts, folder)
    path = folder / name
    content = path.read_bytes()
    if damage == "unlisted":
        name = f"{name}.extra"
        (folder / name).write_bytes(content)
    else:
        path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "altered":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "link":
        path.symlink_to(parts.plan)
    (problem,) = bundle.problems(folder)
    word = {"unlisted": "not listed", "link": "missing"}.get(damage, damage)
    assert problem.startswith(f"{name} is {word}")


def test_plans_without_propagations_need_no_plugin(parts, tmp_path):
    with pytest.raises(UsageError, match="needs the TensorRT plugin"):
        write(parts, tmp_path / "out", plugin=None)
    parts.manifest(backend="tensorrt-rtx")
    bundle = write(parts, tmp_path / "out", plugin=None)
    assert bundle.plugin is None
    assert set(bundle.files) == NAMES - {"libgspn2_tensorrt.so", "libgspn2_kernels.so"}
    with pytest.raises(UsageError, match="belong to a plugin"):
        write(parts, tmp_path / "other", plugin=None, libraries=[parts.kernels])


def test_plans_that_carry_their_plugin_need_none(parts, tmp_path):
    parts.manifest(options={"embed_plugin": True})
    with pytest.raises(UsageError, match="carries its plugin"):
        write(parts, tmp_path / "out")
    assert write(parts, tmp_path / "out", plugin=None).plugin is None


@pytest.mark.parametrize(
    "version, entry, words",
    [
        ("8.6.0", b"getPluginCreators", None),
        ("10.3.0", b"getCreators", None),
        ("8.6.0", b"getCreators", "for TensorRT 10 or later"),
        ("10.3.0", b"getPluginCreators", "for TensorRT 8 or 9"),
    ],
)
def test_a_plugin_for_another_tensorrt_is_refused(parts, tmp_path, version, entry, words):
    parts.manifest(backend_version=version)
    parts.plugin.write_bytes(parts.plugin.read_bytes() + b"\0" + entry + b"\0")
    if words is None:
        assert write(parts, tmp_path / "out").plugin == parts.plugin.name
        return
    with pytest.raises(UsageError, match="built for another TensorRT") as caught:
        write(parts, tmp_path / "out")
    assert words in str(caught.value)
    assert f"the build for TensorRT {version}" in str(caught.value)


def test_the_kernel_library_is_found_or_asked_for(parts, tmp_path):
    elsewhere = tmp_path / "elsewhere" / parts.kernels.name
    elsewhere.parent.mkdir()
    parts.kernels.rename(elsewhere)
    with pytest.raises(UsageError, match="--library"):
        write(parts, tmp_path / "out")
    bundle = write(parts, tmp_path / "out", libraries=[elsewhere])
    assert bundle.files[parts.kernels.name].sha256 == sha256_of(elsewhere)
    parts.plugin.write_bytes(b"\x7fELF initLibGspn2Plugins")  # linked statically
    assert write(parts, tmp_path / "static").libraries == ()


def refuse(parts, tmp_path, error, match, **changes):
    output = changes.pop("output", tmp_path / "out")
    with pytest.raises(error, match=match):
        write(parts, output, **changes)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".partial-*"))


def test_files_that_do_not_belong_together_are_refused(parts, tmp_path):
    foreign = golden(tmp_path / "foreign.npz", onnx_sha256="00" * 32)
    refuse(parts, tmp_path, UsageError, "another ONNX file", golden=foreign)
    parts.plugin.write_bytes(b"\x7fELF something else")
    refuse(parts, tmp_path, UsageError, "another library")
    parts.plugin.write_bytes(b"initLibGspn2Plugins")
    refuse(parts, tmp_path, UsageError, "a library is not one")
    refuse(parts, tmp_path, UsageError, "cannot be read", plugin=tmp_path / "absent.so")
    named = golden(tmp_path / "nano.plan")
    parts.plugin.write_bytes(b"\x7fELF initLibGspn2Plugins")
    refuse(parts, tmp_path, UsageError, "the same name", golden=named)
    parts.plan.write_bytes(b"another plan" * 50)
    refuse(parts, tmp_path, ManifestError, "does not match its manifest")


def test_no_folder_is_named_like_an_archive(parts, tmp_path):
    for name in ("out.tar.gz", "out.zip"):
        with pytest.raises(UsageError, match="is a folder or a"):
            write(parts, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_outputs_in_use_are_left_alone(parts, tmp_path):
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "mine").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        write(parts, occupied)
    assert [path.name for path in occupied.iterdir()] == ["mine"]
    with pytest.raises(UsageError, match="exists already"):
        write(parts, parts.plan)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_places_are_refused_for_users(parts, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="permission denied"):
        write(parts, closed / "out")


@pytest.mark.parametrize("name", ["out", "out.tar"])
def test_unwritable_places_are_refused(parts, tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a part of the path is a file|a file stands"):
        write(parts, tmp_path / "file" / name)


@pytest.mark.parametrize("name", ["out", "out.tar"])
def test_a_failure_leaves_nothing(parts, tmp_path, name, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gspn2_deploy.bundle.shutil.copyfile", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        write(parts, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "a photograph"}, "not a bundle's list"),
        ({"schema": 2}, "unknown schema"),
        ({"plan": "other.plan"}, "not a listed file"),
        ({"plan": None}, "not a listed file"),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "not a listed file"),
        ({"files": {"nano.plan": {"bytes": "1", "sha256": ""}}}, "damaged"),
        ({"files": []}, "damaged"),
        ({"libraries": None}, "damaged"),
    ],
    ids=str,
)
def test_damaged_lists_are_refused(parts, tmp_path, change, message):
    folder = tmp_path / "out"
    bundle = write(parts, folder)
    (folder / "bundle.json").write_text(json.dumps(bundle.to_dict() | change))
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


def test_missing_bundles_are_refused(tmp_path):
    with pytest.raises(BundleError, match="does not exist"), opened_bundle(tmp_path / "absent"):
        pass
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.load(tmp_path)


def member(name, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, 4 if kind == tarfile.REGTYPE else 0, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("../x/evil")],
        [member("/evil")],
        [member("evil")],
        [member("out/..")],
        [member("out/link", tarfile.SYMTYPE)],
        [member("out/link", tarfile.LNKTYPE)],
        [member("out/device", tarfile.CHRTYPE)],
        [member("out/a"), member("out/a")],
    ],
    ids=lambda members: "+".join(f"{item.name} {item.type.decode()}" for item in members),
)
def test_hostile_tars_are_refused(tmp_path, members):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        for item in members:
            archive.addfile(item, io.BytesIO(b"evil"))
    with pytest.raises(BundleError, match="cannot be unpacked"), opened_bundle(path):
        pass


def test_truncated_tars_are_refused(parts, tmp_path):
    path = tmp_path / "out.tar"
    write(parts, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(BundleError, match="cannot be unpacked"), opened_bundle(path):
        pass
    path.write_bytes(b"not a tar")
    with pytest.raises(BundleError, match="cannot be unpacked"), opened_bundle(path):
        pass


def test_command(parts, tmp_path):
    arguments = ["bundle", parts.plan, "--plugin", parts.plugin, "--golden", parts.golden]
    arguments = [*map(str, arguments), "--output", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert set(json.loads(result.stdout)["files"]) == NAMES
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
