"""Which versions of other packages are installed, without loading them."""

from __future__ import annotations

from importlib.metadata import Distribution, distributions

# The distributions that bring a package, by its name; every other has the package's own name.
_DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "tensorrt": (
        "tensorrt",
        "tensorrt-cu13",
        "tensorrt-cu12",
        "tensorrt-cu11",
        "tensorrt-bindings",
    ),
    "tensorrt-rtx": ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings", "tensorrt-rtx"),
}


def distribution_of(package: str) -> Distribution | None:
    """Return the installed distribution that brings a package; None without one."""
    for name in _DISTRIBUTIONS.get(package, (package,)):
        for found in distributions(name=name):
            return found
    return None


def version_of(package: str) -> str | None:
    """Return a package's installed version; None where it is not installed."""
    found = distribution_of(package)
    return found.version if found is not None else None
