"""Find the TensorRT plugin library and register its plugins, for the builder and the runner."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gspn2_deploy
from gspn2_deploy.errors import KernelLibraryError
from gspn2_deploy.spec import PLUGIN_NAMESPACE, PLUGIN_TYPES, PLUGIN_VERSION

PLUGIN_VARIABLE = "GSPN2_TENSORRT_PLUGIN"
LIBRARY_NAME = "libgspn2_tensorrt.so"
EMBEDDABLE_NAME = "libgspn2_tensorrt_embed.so"
_HINT = (
    "install from source with nvcc and TensorRT's headers (TENSORRT_ROOT) there, or: "
    f"make plugin && export {PLUGIN_VARIABLE}=$PWD/build/kernels/tensorrt/X.Y/{LIBRARY_NAME}"
)
_KERNELS_NAME = b"libgspn2_kernels.so\0"  # among the names of the libraries that one needs
_LONG_NUMBERS_SINCE = 100000
_V3_MAJOR = 10  # getCreators and one registry call for every interface


def library_version(trt: ModuleType) -> str:
    """Return the version of the TensorRT library that a module has loaded.

    Plans belong to the library. The bindings may be of another patch level, and say a longer
    number.

    Args:
        trt: TensorRT's module, loaded.

    Returns:
        The module's own version where it begins with the library's, as in ``10.16.1.11``; else the
        library's, as in ``8.6.0``.
    """
    stated = str(trt.__version__)
    name = f"libnvinfer.so.{_short(stated)[0]}"
    try:
        library = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        number = int(library.getInferLibVersion())
    except (OSError, AttributeError):  # it is not found by that name: the module has to know
        return stated
    # major * 1000 + minor * 100 + patch up to 9.x, major * 10000 + ... from 10.0 on.
    unit = 10000 if number >= _LONG_NUMBERS_SINCE else 1000
    loaded = f"{number // unit}.{number % unit // 100}.{number % 100}"
    return stated if f"{stated}.".startswith(f"{loaded}.") else loaded


def find_plugin(version: str, folders: Sequence[Path] | None = None) -> Path:
    """Return the plugin library for a TensorRT version.

    Args:
        version: TensorRT's version, as in ``10.16.0``.
        folders: Where one library per version is kept; by default the package's own.

    Returns:
        The library that the environment variable names; else the one built against the newest
        headers of the same major version that are no newer than TensorRT, or the oldest of them.

    Raises:
        KernelLibraryError: There is none.
    """
    if named := os.environ.get(PLUGIN_VARIABLE):
        path = Path(named)
        if path.is_file():
            return path
        raise KernelLibraryError(
            "the TensorRT plugin library is missing",
            got=f"no file at {path} ({PLUGIN_VARIABLE})",
            expected=LIBRARY_NAME,
            hint=_HINT,
        )
    if folders is None:
        # An editable installation spreads the package: the sources here, what was compiled there.
        folders = [Path(folder) / "lib" for folder in gspn2_deploy.__path__]
    wanted = _short(version)
    found = {
        _short(path.parent.name.removeprefix("tensorrt-")): path
        for folder in folders
        for path in folder.glob(f"tensorrt-*/{LIBRARY_NAME}")
    }
    fitting = sorted(key for key in found if key[0] == wanted[0])
    if not fitting:
        others = ", ".join(".".join(map(str, key)) for key in sorted(found))
        places = " or ".join(map(str, folders))
        raise KernelLibraryError(
            f"there is no plugin library for TensorRT {wanted[0]}",
            got=f"built for TensorRT {others}" if others else f"none under {places}",
            expected=f"tensorrt-{wanted[0]}.x/{LIBRARY_NAME}",
            hint=_HINT,
        )
    return found[max((key for key in fitting if key <= wanted), default=fitting[0])]


def find_embeddable(plugin: Path) -> Path:
    """Return the build of a plugin library that can be carried inside a plan.

    TensorRT unpacks a plan's library to a place of its own, where the kernel library is not: what
    is embedded must hold the kernels itself.

    Args:
        plugin: The plugin library that :func:`find_plugin` returned.

    Raises:
        KernelLibraryError: There is no such build.
    """
    beside = plugin.with_name(EMBEDDABLE_NAME)
    if beside.is_file():
        return beside
    if _KERNELS_NAME not in plugin.read_bytes():
        return plugin
    raise KernelLibraryError(
        "the plugin library cannot be embedded: it needs the kernel library beside it",
        got=plugin,
        expected=f"{EMBEDDABLE_NAME} beside it, which holds the kernels",
        hint="make plugin builds both",
    )


def load_plugin(trt: ModuleType, path: Path) -> ctypes.CDLL:
    """Open the plugin library and register its creators, once a process.

    Args:
        trt: TensorRT's module, loaded.
        path: The library.

    Returns:
        The library.

    Raises:
        KernelLibraryError: It does not load, is built for another major version, or a creator is
            not registered afterwards.
    """
    try:
        library = ctypes.CDLL(str(path))
        register, headers = library.initLibGspn2Plugins, library.gspn2TensorRTHeaders
    except (OSError, AttributeError) as error:
        raise KernelLibraryError(
            f"{path} does not load as the TensorRT plugin library", got=error, hint=_HINT
        ) from error
    if headers() // 10000 != _short(trt.__version__)[0]:
        raise KernelLibraryError(
            f"{path} is built for another TensorRT",
            got=f"headers of {headers() // 10000}.{headers() // 100 % 100}",
            expected=f"TensorRT {trt.__version__}",
            hint=_HINT,
        )
    register.restype = ctypes.c_bool
    register.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    accepted = register(None, PLUGIN_NAMESPACE.encode())
    missing = [name for name in PLUGIN_TYPES if _creator(trt, name) is None]
    if not accepted or missing:
        wanted = ", ".join(
            f"({name}, version {PLUGIN_VERSION}, namespace {PLUGIN_NAMESPACE!r})"
            for name in missing or PLUGIN_TYPES
        )
        raise KernelLibraryError(
            f"{path} did not register {wanted}", got=last_error(library) or None, hint=_HINT
        )
    return library


def last_error(library: ctypes.CDLL) -> str:
    """Return the plugin's last error message in this process, or an empty text."""
    function = library.gspn2TensorRTLastError
    function.restype = ctypes.c_char_p
    message: bytes = function() or b""
    return message.decode(errors="replace")


def _creator(trt: ModuleType, name: str) -> Any:
    registry = trt.get_plugin_registry()
    is_v3 = _short(trt.__version__)[0] >= _V3_MAJOR
    look_up = registry.get_creator if is_v3 else registry.get_plugin_creator
    return look_up(name, PLUGIN_VERSION, PLUGIN_NAMESPACE)


def _short(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
