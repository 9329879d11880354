"""Bundles: a plan and everything that a machine needs to run it and to prove that it does.

A folder, or a ``.tar`` of one, of plain files beside each other::

    nano.plan  nano.plan.json      the plan and its manifest
    libgspn2_tensorrt.so           the plugin, and the libraries that it needs
    nano.golden.npz                recorded inputs and PyTorch's outputs
    onnx.json                      what the ONNX file said of itself
    bundle.json                    every file with its size and SHA-256

``libgspn2_runtime`` opens the folder; ``gspn2-deploy verify`` proves it.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gspn2_deploy import __version__
from gspn2_deploy.errors import InputError, OutputError, UsageError
from gspn2_deploy.files import sha256_of, staged_output
from gspn2_deploy.manifest import Manifest, manifest_path

KIND = "gspn2-deploy bundle"
SCHEMA = 1
BUNDLE_FILE = "bundle.json"
METADATA_FILE = "onnx.json"
KERNELS_LIBRARY = "libgspn2_kernels.so"
TAR_SUFFIX = ".tar"
_OTHER_ARCHIVES = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip")

_ELF = b"\x7fELF"
_PLUGIN_SYMBOL = b"initLibGspn2Plugins"
# TensorRT's own entry points of a plugin library, which say for which it was built. In the table of
# names each stands between two zero bytes.
_OLD_ENTRY, _NEW_ENTRY = b"\0getPluginCreators\0", b"\0getCreators\0"
_NEW_ENTRY_MAJOR = 10
# What the manifest knows of the ONNX file.
_DESCRIBED = (
    *("onnx_file", "onnx_sha256", "external_data_sha256"),
    *("inputs", "outputs", "precision", "propagations", "metadata"),
)
_AGAIN = "write the bundle again with gspn2-deploy bundle"


class BundleError(InputError):
    """A bundle is missing, not a bundle, or of an unknown schema."""


@dataclass(frozen=True)
class FileEntry:
    """A file's size in bytes and its hexadecimal SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """What ``bundle.json`` says. Every name is that of a file beside it.

    Args:
        plan: The plan.
        manifest: The plan's manifest.
        plugin: The plugin library; None for plans that need none.
        libraries: Libraries that the plugin needs, in the order to open them.
        golden: The golden samples.
        onnx_metadata: What the ONNX file said of itself.
        files: All of these, with sizes and hashes.
        package_version: The version of gspn2-deploy that wrote it.
        created: When, in ISO 8601, UTC.
    """

    plan: str
    manifest: str
    plugin: str | None
    libraries: tuple[str, ...]
    golden: str
    onnx_metadata: str
    files: Mapping[str, FileEntry]
    package_version: str
    created: str

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``bundle.json``."""
        return {"kind": KIND, "schema": SCHEMA, **asdict(self), "libraries": list(self.libraries)}

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read ``bundle.json``; the files that it names are not looked at.

        Raises:
            BundleError: It is missing, damaged, of an unknown schema, or names a file elsewhere.
        """
        path = folder / BUNDLE_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read", got=error, hint=_AGAIN) from error
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise BundleError(f"{path} is not a bundle's list of files", expected=KIND)
        if content.get("schema") != SCHEMA:
            raise BundleError(
                f"{path} has an unknown schema",
                got=content.get("schema"),
                expected=SCHEMA,
                hint="use the version of gspn2-deploy that wrote it "
                f"({content.get('package_version', 'not named')})",
            )
        try:
            return _from_dict(content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{path} is damaged", got=f"{type(error).__name__}: {error}", hint=_AGAIN
            ) from error

    def problems(self, folder: Path) -> tuple[str, ...]:
        """Hold the folder against the list: missing, altered and unlisted files, each named."""
        found = []
        for name, entry in self.files.items():
            path = folder / name
            if path.is_symlink() or not path.is_file():
                found.append(f"{name} is missing")
            elif (size := path.stat().st_size) != entry.bytes:
                how = "truncated" if size < entry.bytes else "altered"
                found.append(f"{name} is {how}: {size} bytes, listed with {entry.bytes}")
            elif sha256_of(path) != entry.sha256:
                found.append(f"{name} is altered: its SHA-256 differs from the listed one")
        listed = {BUNDLE_FILE, *self.files}
        found += [
            f"{path.name} is not listed"
            for path in sorted(folder.iterdir())
            if path.name not in listed
        ]
        return tuple(found)


def write_bundle(
    plan: Path,
    output: Path,
    *,
    golden: Path,
    plugin: Path | None = None,
    libraries: Sequence[Path] = (),
) -> Bundle:
    """Write a bundle, whole or not at all.

    Args:
        plan: The plan; its manifest lies beside it.
        output: A folder that does not exist or is empty, or a file that ends in ``.tar``.
        golden: Golden samples of the ONNX file that the plan was built from.
        plugin: The TensorRT plugin library; needed by the plans of the backend tensorrt.
        libraries: Libraries that the plugin needs; its kernel library is found by itself where it
            lies beside the plugin or up to two folders above.

    Returns:
        What was written.

    Raises:
        ManifestError: The plan is not the one that its manifest names.
        GoldenFileError: The golden file is damaged.
        UsageError: Files that do not belong together, or an output that is in use.
        OutputError: The output cannot be written.
    """
    from gspn2_deploy.golden import GoldenSamples

    manifest = Manifest.load(manifest_path(plan))
    manifest.verify(plan)
    samples = GoldenSamples.load(golden)
    if samples.onnx_sha256 != manifest.onnx_sha256:
        raise UsageError(
            "the golden samples belong to another ONNX file than the plan",
            got=f"{golden}: ONNX file {samples.onnx_sha256}",
            expected=f"{manifest.onnx_file}: {manifest.onnx_sha256}",
            hint="pass the golden file that was exported together with that ONNX file",
        )
    needed = _plugin_files(manifest, plugin, libraries)
    sources = [plan, manifest_path(plan), *needed, golden]
    names = [path.name for path in sources]
    if len({*names, BUNDLE_FILE, METADATA_FILE}) != len(names) + 2:
        raise UsageError("two files of the bundle would have the same name", got=", ".join(names))
    if output.suffix == TAR_SUFFIX:
        with tempfile.TemporaryDirectory() as scratch, staged_output(output) as staging:
            bundle = _fill(Path(scratch), manifest, sources, plugin)
            _pack(Path(scratch), staging / output.name, output.stem)
        return bundle
    return _write_folder(output, manifest, sources, plugin)


def _write_folder(
    output: Path, manifest: Manifest, sources: Sequence[Path], plugin: Path | None
) -> Bundle:
    if output.suffix in _OTHER_ARCHIVES:
        raise UsageError(
            "a bundle is a folder or a .tar", got=output, hint="compress the .tar afterwards"
        )
    existed = output.exists()
    if existed and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(
            "the output exists already",
            got=output,
            expected="a new or empty folder, or a name that ends in .tar",
            hint="remove it, or choose another name",
        )
    try:
        with staged_output(output / BUNDLE_FILE) as staging:
            return _fill(staging, manifest, sources, plugin)
    except BaseException:
        if not existed and output.is_dir() and not any(output.iterdir()):
            output.rmdir()
        raise


def _plugin_files(
    manifest: Manifest, plugin: Path | None, libraries: Sequence[Path]
) -> tuple[Path, ...]:
    """Return the plugin and what it needs: the plugin first, then libraries in opening order."""
    carried = manifest.options.get("embed_plugin") is True
    if plugin is not None and carried:
        raise UsageError(
            "the plan carries its plugin: another one beside it would not be used",
            got=plugin,
            hint="leave --plugin out",
        )
    if plugin is None:
        if manifest.backend == "tensorrt" and any(manifest.propagations.values()) and not carried:
            raise UsageError(
                "the plan needs the TensorRT plugin",
                got=f"no --plugin for {manifest.plan_file}",
                expected="--plugin libgspn2_tensorrt.so",
            )
        if libraries:
            raise UsageError("libraries belong to a plugin", got=", ".join(map(str, libraries)))
        return ()
    content = _read_library(plugin)
    if _PLUGIN_SYMBOL not in content:
        raise UsageError("the plugin is another library", got=plugin, expected="gspn2's plugin")
    _check_plugin_version(plugin, content, manifest.backend_version)
    chosen = tuple(libraries)
    if KERNELS_LIBRARY.encode() in content and KERNELS_LIBRARY not in {p.name for p in chosen}:
        chosen = (_find_kernels(plugin), *chosen)
    for library in chosen:
        _read_library(library)
    return (plugin, *chosen)


def _check_plugin_version(plugin: Path, content: bytes, version: str) -> None:
    """Refuse a plugin for TensorRT 8 beside a plan of 10, and the reverse, without loading it."""
    old, new = _OLD_ENTRY in content, _NEW_ENTRY in content
    wants_new = int(version.partition(".")[0] or 0) >= _NEW_ENTRY_MAJOR
    if old != new and new != wants_new:
        raise UsageError(
            "the plugin is built for another TensorRT than the plan",
            got=f"{plugin}, for TensorRT {'10 or later' if new else '8 or 9'}",
            expected=f"the build for TensorRT {version}",
            hint="name the one in the folder of that version",
        )


def _find_kernels(plugin: Path) -> Path:
    places = [folder / KERNELS_LIBRARY for folder in list(plugin.resolve().parents)[:3]]
    for place in places:
        if place.is_file():
            return place
    raise UsageError(
        f"the plugin needs {KERNELS_LIBRARY}, which is not near it",
        got=plugin,
        expected=" or ".join(map(str, places)),
        hint=f"name it: --library PATH/{KERNELS_LIBRARY}",
    )


def _read_library(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError("a library cannot be read", got=error) from error
    if not content.startswith(_ELF):
        raise UsageError("a library is not one", got=path, expected="a shared library (ELF)")
    return content


def _fill(folder: Path, manifest: Manifest, sources: Sequence[Path], plugin: Path | None) -> Bundle:
    for source in sources:
        shutil.copyfile(source, folder / source.name)
    facts = manifest.to_dict()
    text = json.dumps({name: facts[name] for name in _DESCRIBED}, indent=2)
    (folder / METADATA_FILE).write_text(text + "\n", encoding="utf-8")
    names = sorted(path.name for path in folder.iterdir())
    files = {
        name: FileEntry((folder / name).stat().st_size, sha256_of(folder / name)) for name in names
    }
    plan, beside, *others, golden = sources
    bundle = Bundle(
        plan=plan.name,
        manifest=beside.name,
        plugin=plugin.name if plugin is not None else None,
        libraries=tuple(path.name for path in others if path != plugin),
        golden=golden.name,
        onnx_metadata=METADATA_FILE,
        files=files,
        package_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    # What was copied is what was checked before: nothing changed underneath.
    manifest.verify(folder / plan.name)
    listing = json.dumps(bundle.to_dict(), indent=2)
    (folder / BUNDLE_FILE).write_text(listing + "\n", encoding="utf-8")
    return bundle


def _pack(folder: Path, target: Path, top: str) -> None:
    """Write a tar whose bytes depend on nothing but the files."""
    with tarfile.open(target, "w") as archive:
        for path in sorted(folder.iterdir()):
            info = tarfile.TarInfo(f"{top}/{path.name}")
            info.size = path.stat().st_size
            info.mode = 0o644
            with path.open("rb") as stream:
                archive.addfile(info, stream)


@contextmanager
def opened_bundle(path: Path) -> Iterator[Path]:
    """Yield a bundle's folder; a tar is unpacked into a temporary one.

    Raises:
        BundleError: There is none, or the tar is damaged or holds what a bundle does not.
        OutputError: There is no room to unpack it.
    """
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise BundleError("the bundle does not exist", got=path)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _unpack(path, Path(scratch))
        except (tarfile.TarError, EOFError) as error:
            raise BundleError(
                f"{path} cannot be unpacked",
                got=error,
                expected="a folder or .tar written by gspn2-deploy bundle",
                hint="copy it again",
            ) from error
        except OSError as error:
            raise OutputError(
                f"{path} cannot be unpacked", got=error, hint="free space in the temporary folder"
            ) from error
        yield Path(scratch)


def _unpack(path: Path, folder: Path) -> None:
    """Unpack by hand: plain files of one folder, and nothing that a tar could do beside."""
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            parts = member.name.split("/")
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None or len(parts) != 2 or not all(map(_is_plain, parts)):
                raise tarfile.TarError(f"{member.name!r} is not a file of a bundle")
            if (folder / parts[1]).exists():
                raise tarfile.TarError(f"{member.name!r} is there twice")
            with (folder / parts[1]).open("wb") as target:
                shutil.copyfileobj(stream, target)


def _is_plain(name: Any) -> bool:
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not any(character in name for character in "/\\\0")
    )


def _from_dict(content: Mapping[str, Any]) -> Bundle:
    files = {}
    for name, entry in content["files"].items():
        if not isinstance(entry["bytes"], int) or not isinstance(entry["sha256"], str):
            raise TypeError(f"the entry of {name} is {entry!r}")
        files[name] = FileEntry(entry["bytes"], entry["sha256"])
    named = [content[key] for key in ("plan", "manifest", "golden", "onnx_metadata")]
    named += [] if content["plugin"] is None else [content["plugin"]]
    named += content["libraries"]
    for name in [*named, *files]:
        if not _is_plain(name) or name not in files:
            raise ValueError(f"{name!r} is not a listed file of the bundle")
    values = {key: content[key] for key in Bundle.__dataclass_fields__}
    return Bundle(**{**values, "libraries": tuple(content["libraries"]), "files": files})
