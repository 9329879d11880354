"""Builds the emulated kernel library and opens it.

The library reads which paths it may take, and which device it reports, at its first call. So each
choice gets a copy of the file, which the loader treats as a library of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gspn2_deploy.ops import cuda

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "emulation"
LIBRARY_VARIABLE = "GSPN2_EMULATION_LIBRARY"  # a library that is already built
SEED_VARIABLE = "GSPN2_EMULATION_SEED"
_NAME = "libgspn2_kernels_emulated.so"
_KERNEL = re.compile(r"(?:void )?gspn2::(?:\(anonymous namespace\)::)?(\w+)")


class BuildError(RuntimeError):
    """The library does not compile."""


def missing_tools() -> list[str]:
    """What a build would need and this machine lacks."""
    return [tool for tool in ("g++", "cmake") if _find(tool) is None]


def build(options: tuple[str, ...] = (), folder: str = "emulation") -> Path:
    """The library, built where its sources have changed.

    Raises:
        BuildError: With the compiler's output.
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    if named and not options:
        return Path(named)
    target = ROOT / "build" / folder
    target.mkdir(parents=True, exist_ok=True)
    cmake, ninja = _find("cmake"), _find("ninja")
    assert cmake is not None
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    configure = [cmake, "-S", str(SOURCE), "-B", str(target), *generator, *options]
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (configure, [cmake, "--build", str(target), "--parallel", "2"]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return target / _NAME


def open_copy(
    built: Path,
    folder: Path,
    paths: str,
    capability: str = "9.0",
    large_clusters: int = -1,
    multiprocessors: int = 132,
) -> ctypes.CDLL:
    """A library of its own that takes `paths` on a device of `capability`.

    The device says that it has so many clusters of more than eight blocks at once; -1: an H200's;
    -2: it fails to say. It says, too, how many multiprocessors it has.
    """
    name = f"{paths}-{capability}-{large_clusters}-{multiprocessors}.so"
    shutil.copy(built, folder / name)
    with environment(
        **{
            cuda.LIBRARY_VARIABLE: str(folder / name),
            "GSPN2_KERNELS_PATHS": paths,
            "GSPN2_EMULATION_CC": capability,
            "GSPN2_EMULATION_LARGE_CLUSTERS": str(large_clusters),
            "GSPN2_EMULATION_MULTIPROCESSORS": str(multiprocessors),
        }
    ):
        library = cuda.load_library.__wrapped__()
        _declare(library)
        # The environment is read here.
        values = (ctypes.c_float * 16)()
        pointers = [ctypes.addressof(values) + 16 * i for i in range(4)]
        problem = cuda.Problem(1, 1, 1, 1, 1, 0, 0, 0)
        pointers[2] = ctypes.addressof(values) + 32  # three affinities
        pointers[3] = ctypes.addressof(values) + 48
        status = library.gspn2_line_scan(problem, 0, *pointers, None, 0, None)
        assert status == 0, library.gspn2_last_error()
    return library


def take_kernels(library: ctypes.CDLL) -> list[str]:
    """The instances launched since the last call, as C++ names them."""
    return list(library.gspn2_emulation_take_kernels().decode().splitlines())


def take_templates(library: ctypes.CDLL) -> list[str]:
    """Their templates' names."""
    return [kernel_template(name) for name in take_kernels(library)]


def has_wide_pieces(instance: str) -> bool:
    """Whether a horizontal strip scan's pieces are wide: its configuration's last argument."""
    return "ColumnConfig" in instance and "true>" in instance


def take_clusters(library: ctypes.CDLL) -> list[int]:
    """How many blocks the clusters had of each launch since the last call."""
    return [int(size) for size in library.gspn2_emulation_take_clusters().decode().split()]


def kernel_template(instance: str) -> str:
    """``void gspn2::scanKernel<float, ...>`` -> ``scanKernel``."""
    match = _KERNEL.match(instance)
    assert match is not None, instance
    return match[1]


def compiled_kernels(built: Path) -> set[str]:
    """The kernels' instances in the library, by its symbols."""
    listing = subprocess.run(
        ["nm", "-DC", "--defined-only", str(built)], capture_output=True, text=True, check=True
    )
    names = (line.split(" ", 2)[2] for line in listing.stdout.splitlines())
    return {
        name.rsplit("(", 1)[0]
        for name in names
        if re.match(r"(?:void )?gspn2::\w+Kernel[<(]", name)
    }


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def by_directions(side_by_side: bool = False) -> contextlib.AbstractContextManager[None]:
    """While this stands, GspnProp2D takes a launch for each direction of any map.

    One after the other, or side by side where that is possible.
    """
    # A form of maps on chip that there is not.
    return environment(GSPN2_ONCHIP_PLAN="3,1,0", GSPN2_SIDE_BY_SIDE=str(int(side_by_side)))


def seeded(seed: int) -> contextlib.AbstractContextManager[None]:
    """The scheduler's seed while this stands."""
    return environment(**{SEED_VARIABLE: str(seed)})


class Fenced:
    """Copies of tensors that end, or begin, at memory which may not be touched.

    A kernel that reads past that side fails its launch. The memory goes when the object closes,
    unless a test has failed: its report shows the tensors.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._held: list[tuple[int, int]] = []

    def copy(self, value: Tensor, at_end: bool = True) -> Tensor:
        size = value.numel() * value.element_size()
        address = self._library.gspn2_emulation_allocate(size, int(at_end))
        assert address, "no memory"
        self._held.append((address, size))
        buffer = (ctypes.c_char * size).from_address(address)
        return torch.frombuffer(buffer, dtype=value.dtype).view(value.shape).copy_(value)

    def copies(self, *values: Tensor | None, at_end: bool = True) -> list[Tensor | None]:
        return [None if value is None else self.copy(value, at_end) for value in values]

    def __enter__(self) -> Fenced:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            return
        for address, size in self._held:
            self._library.gspn2_emulation_free(address, size)
        self._held.clear()


def _find(tool: str) -> str | None:
    beside = Path(sys.executable).with_name(tool)
    return str(beside) if beside.is_file() else shutil.which(tool)


def _declare(library: ctypes.CDLL) -> None:
    library.gspn2_emulation_take_kernels.restype = ctypes.c_char_p
    library.gspn2_emulation_take_clusters.restype = ctypes.c_char_p
    library.gspn2_emulation_allocate.argtypes = [ctypes.c_size_t, ctypes.c_int]
    library.gspn2_emulation_allocate.restype = ctypes.c_void_p
    library.gspn2_emulation_free.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    integer, pointer = ctypes.c_int, ctypes.c_void_p
    library.gspn2_probe.argtypes = [ctypes.c_char_p, integer, pointer, pointer, integer]
    library.gspn2_probe_tile.argtypes = [pointer, pointer, *[integer] * 5]
    library.gspn2_probe_error.argtypes = [integer]
    library.gspn2_probe_error.restype = ctypes.c_char_p
    library.gspn2_emulation_from_half.argtypes = [ctypes.c_ushort]
    library.gspn2_emulation_from_half.restype = ctypes.c_float
    for name in ("gspn2_emulation_to_half", "gspn2_emulation_to_bfloat16"):
        function = getattr(library, name)
        function.argtypes = [ctypes.c_float]
        function.restype = ctypes.c_ushort
