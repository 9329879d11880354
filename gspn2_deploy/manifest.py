"""The manifest beside a plan: what it was built from, for what, and how to know it again.

A plan is executable code: whoever loads one checks its manifest first. The manifest is a JSON
file named like the plan with ``.json`` behind it (``nano.plan`` and ``nano.plan.json``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gspn2_deploy.errors import InputError
from gspn2_deploy.files import sha256_of

SCHEMA = 1
KIND = "gspn2-deploy plan manifest"

_AMPERE = (8, 0)
_LATER_FIELDS = ("fused",)  # that manifests of this schema may lack: they are None there


class ManifestError(InputError):
    """A manifest is missing, damaged, of an unknown schema, or its plan is not the one it names.

    Args:
        problem: What is wrong, in one sentence.
        mismatches: Each difference between the manifest and what was found.
        hint: How to mend it.
    """

    def __init__(
        self, problem: str, mismatches: tuple[str, ...] = (), hint: str | None = None
    ) -> None:
        self.mismatches = mismatches
        super().__init__(problem, got="\n            ".join(mismatches) or None, hint=hint)


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model.

    Args:
        name: The tensor's name.
        dtype: NumPy's name of the element type, or ``bfloat16``.
        shape: Extents; a name (or None where it has none) for a dynamic one.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    @property
    def dynamic_axes(self) -> tuple[int, ...]:
        """The axes whose extent is not fixed."""
        return tuple(axis for axis, extent in enumerate(self.shape) if not isinstance(extent, int))

    def __str__(self) -> str:
        extents = ", ".join("?" if extent is None else str(extent) for extent in self.shape)
        return f"{self.name}: {self.dtype} ({extents})"


@dataclass(frozen=True)
class ShapeRange:
    """The extents of one input that one profile covers: smallest, tuned for, largest."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __str__(self) -> str:
        return ":".join(
            "x".join(str(extent) for extent in shape) for shape in (self.min, self.opt, self.max)
        )


Profile = Mapping[str, ShapeRange]


@dataclass(frozen=True)
class Manifest:
    """What a plan is.

    Args:
        plan_file: The plan's file name.
        plan_bytes: The plan's size in bytes.
        plan_sha256: Hexadecimal SHA-256 of the plan.
        onnx_file: The ONNX file's name.
        onnx_sha256: Hexadecimal SHA-256 of the ONNX file.
        external_data_sha256: The same by name for the files that hold its weights, if any.
        backend: The backend's name.
        backend_version: The version of the library that built the plan. A plan runs with exactly
            this version, a version-compatible one with later ones of the same major version too.
        package_version: The version of gspn2-deploy.
        cuda_version: The CUDA version that the library was made for, if known.
        driver_version: The CUDA version of the machine's driver; None without a GPU.
        compute_capabilities: The GPU architectures that the plan was built for, as in ``8.9``; a
            plan for Ampere and newer GPUs runs on later ones too.
        profiles: The optimisation profiles; empty when every shape is fixed.
        inputs: The inputs, in order.
        outputs: The outputs, in order.
        precision: The precision baked into the file, if it says so.
        layer_dtypes: How many layers of the network give each element type.
        propagations: Propagation ops in the ONNX file by op type.
        activation_bytes: GPU memory for activations at the largest profile, if known.
        metadata: The ONNX file's own metadata.
        unproven: What could not be checked on the machine that built the plan.
        build_seconds: How long the build took.
        host: The operating system and processor that built it.
        created: When, in ISO 8601, UTC.
        engine_dtypes: How many layers of the built engine give each element type, where the
            library tells.
        gpu: The GPU that the plan was built on; None where none was needed.
        plugin_sha256: Hexadecimal SHA-256 of the plugin library that it was built with, if any.
        workspace_bytes: The limit on a layer's scratch memory, if one was set.
        timing_cache: Where the times that were measured were kept, if they were.
        options: The other options of the build, as
            :meth:`gspn2_deploy.build.options.BuildOptions.to_dict` returns them.
        fused: The op type by the name of each plugin layer that stands for standard ops of the
            file; None where the build did not say yet.
    """

    plan_file: str
    plan_bytes: int
    plan_sha256: str
    onnx_file: str
    onnx_sha256: str
    external_data_sha256: Mapping[str, str]
    backend: str
    backend_version: str
    package_version: str
    cuda_version: str | None
    driver_version: str | None
    compute_capabilities: tuple[str, ...]
    profiles: tuple[Profile, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    precision: str | None
    layer_dtypes: Mapping[str, int]
    propagations: Mapping[str, int]
    activation_bytes: int | None
    metadata: Mapping[str, str]
    unproven: tuple[str, ...]
    build_seconds: float
    host: str
    created: str
    engine_dtypes: Mapping[str, int] = field(default_factory=dict)
    gpu: str | None = None
    plugin_sha256: str | None = None
    workspace_bytes: int | None = None
    timing_cache: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    fused: Mapping[str, str] | None = None
    schema: int = field(default=SCHEMA)

    @property
    def version_compatible(self) -> bool:
        """Whether later versions of the library can run the plan."""
        return self.options.get("version_compatible") is True

    @property
    def holds_host_code(self) -> bool:
        """Whether the plan carries libraries that the host runs: a runtime, or the plugin.

        TensorRT loads such a plan only where ``engine_host_code_allowed`` is set.
        """
        embedded = self.options.get("embed_plugin") is True
        lean = self.version_compatible and self.options.get("exclude_lean_runtime") is not True
        return embedded or lean

    @property
    def is_stripped(self) -> bool:
        """Whether the plan's weights were left out."""
        return self.options.get("weights") == "stripped"

    def accepts_version(self, version: str) -> bool:
        """Whether the plan runs with a version of its library."""
        if version == self.backend_version:
            return True
        if not self.version_compatible:
            return False
        found, built = _numbers(version), _numbers(self.backend_version)
        return found[:1] == built[:1] and found >= built

    def accepts_gpu(self, compute_capability: str) -> bool:
        """Whether the plan runs on a GPU of that compute capability, as in ``8.9``."""
        if compute_capability in self.compute_capabilities:
            return True
        is_ampere_plus = self.options.get("hardware_compatibility") == "ampere-plus"
        return is_ampere_plus and _numbers(compute_capability) >= _AMPERE

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON-ready values."""
        values = {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}
        return {"kind": KIND, "schema": values.pop("schema"), **values}

    def save(self, path: Path) -> None:
        """Write the manifest. The caller stages it together with the plan."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            ManifestError: The file is missing, damaged, not a manifest, or of an unknown schema.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            plan = path.with_suffix("")
            if not plan.exists():
                raise ManifestError(
                    f"there is no {plan}, and its manifest is missing too",
                    hint=f"check the path; it is looked for from {Path.cwd()}",
                ) from None
            raise ManifestError(
                f"the manifest {path} is missing",
                hint="keep the plan and its manifest together, or build the plan again",
            ) from None
        except (OSError, ValueError) as error:
            raise ManifestError(
                f"the manifest {path} cannot be read", (str(error),), "build the plan again"
            ) from error
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise ManifestError(f"{path} is not a plan's manifest", hint="build the plan again")
        if content.get("schema") != SCHEMA:
            raise ManifestError(
                f"{path} has an unknown manifest schema",
                (f"schema {content.get('schema')!r}, this version reads {SCHEMA}",),
                "use the version of gspn2-deploy that built the plan "
                f"({content.get('package_version', 'not named')}), or build the plan again",
            )
        try:
            return _from_dict(content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ManifestError(
                f"the manifest {path} is damaged",
                (f"{type(error).__name__}: {error}",),
                "build the plan again",
            ) from error

    def verify(
        self,
        plan_path: Path,
        *,
        library_version: str | None = None,
        compute_capability: str | None = None,
        onnx_path: Path | None = None,
    ) -> None:
        """Check a plan, and optionally where it is to run, against this manifest.

        Args:
            plan_path: The plan.
            library_version: The version of the library that is to load it.
            compute_capability: The GPU that is to run it, as in ``8.9``.
            onnx_path: The ONNX file that it is said to come from.

        Raises:
            ManifestError: Names every mismatch.
        """
        found = self._plan_mismatches(plan_path)
        if library_version is not None and not self.accepts_version(library_version):
            later = " or a later one of that major version" if self.version_compatible else ""
            found.append(
                f"{self.backend} is {library_version}, the plan needs {self.backend_version}{later}"
            )
        if compute_capability is not None and not self.accepts_gpu(compute_capability):
            found.append(
                f"the GPU has compute capability {compute_capability}, the plan was built for "
                + ", ".join(self.compute_capabilities)
            )
        if library_version is not None and self.is_stripped:
            found.append(f"the plan's weights were left out: they are in {self.onnx_file}")
        if onnx_path is not None:
            found += self._onnx_mismatches(onnx_path)
        if found:
            raise ManifestError(
                f"{plan_path} does not match its manifest",
                tuple(found),
                "build the plan again on the versions and for the GPU that will run it",
            )

    def _plan_mismatches(self, plan_path: Path) -> list[str]:
        if not plan_path.is_file():
            return [f"the plan {plan_path} is missing"]
        size = plan_path.stat().st_size
        if size != self.plan_bytes:
            how = "truncated" if size < self.plan_bytes else "altered"
            return [f"the plan is {how}: {size} bytes, the manifest says {self.plan_bytes}"]
        if sha256_of(plan_path) != self.plan_sha256:
            return ["the plan is altered: its SHA-256 differs from the manifest's"]
        return []

    def _onnx_mismatches(self, onnx_path: Path) -> list[str]:
        expected = {onnx_path: self.onnx_sha256}
        for name, digest in self.external_data_sha256.items():
            expected[onnx_path.parent / name] = digest
        found = []
        for path, digest in expected.items():
            if not path.is_file():
                found.append(f"{path} is missing")
            elif sha256_of(path) != digest:
                found.append(f"{path} is not the file that the plan was built from")
        return found


def manifest_path(plan_path: Path) -> Path:
    """Return where a plan's manifest lies."""
    return plan_path.with_name(plan_path.name + ".json")


def _numbers(version: str) -> tuple[int, ...]:
    """``10.3.0`` as (10, 3, 0): the leading numbers, for comparing."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _plain(value: Any) -> Any:
    if isinstance(value, (TensorInfo, ShapeRange)):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _from_dict(content: dict[str, Any]) -> Manifest:
    # Those that have a default when a manifest is made are in its file all the same.
    content = {**dict.fromkeys(_LATER_FIELDS), **content}
    values = {name: content[name] for name in Manifest.__dataclass_fields__}
    if unknown := content.keys() - values.keys() - {"kind"}:
        raise KeyError(*sorted(unknown))
    values["profiles"] = tuple(
        {name: _shape_range(shapes) for name, shapes in profile.items()}
        for profile in values["profiles"]
    )
    for name in ("inputs", "outputs"):
        values[name] = tuple(_tensor_info(item) for item in values[name])
    for name in ("compute_capabilities", "unproven"):
        values[name] = tuple(_typed(item, str, name) for item in values[name])
    for name in ("plan_file", "plan_sha256", "onnx_sha256", "backend", "backend_version"):
        _typed(values[name], str, name)
    _typed(values["plan_bytes"], int, "plan_bytes")
    for name in (
        "external_data_sha256",
        "metadata",
        "layer_dtypes",
        "propagations",
        "engine_dtypes",
        "options",
    ):
        _typed(values[name], dict, name)
    if values["fused"] is not None:
        for op_type in _typed(values["fused"], dict, "fused").values():
            _typed(op_type, str, "fused")
    return Manifest(**values)


def _shape_range(shapes: dict[str, Any]) -> ShapeRange:
    ranges = {
        name: tuple(_typed(extent, int, name) for extent in shape) for name, shape in shapes.items()
    }
    return ShapeRange(**ranges)


def _tensor_info(item: dict[str, Any]) -> TensorInfo:
    return TensorInfo(_typed(item["name"], str, "name"), str(item["dtype"]), tuple(item["shape"]))


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}, expected {kind.__name__}")
    return value
