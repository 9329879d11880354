"""``gspn2-deploy info``: what this installation can do."""

from __future__ import annotations

import platform
from typing import Any

import click

from gspn2_deploy import __version__, progress
from gspn2_deploy.cli.common import emit, json_option
from gspn2_deploy.errors import KernelLibraryError
from gspn2_deploy.packages import version_of

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "tensorrt-rtx", "tensorrt", "pycuda")


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Show what this installation can do.

    The versions that matter, where the CUDA kernel library is, and the GPU.
    """
    with progress.step("Looking around"):
        result: dict[str, Any] = {
            "gspn2-deploy": __version__,
            "python": platform.python_version(),
            "packages": {name: version_of(name) for name in _PACKAGES},
            "kernel_library": _kernel_library(),
            "gpu": _gpu(),
        }
    lines = [f"gspn2-deploy    {__version__}", f"python          {result['python']}"]
    packages = result["packages"].items()
    lines += [f"{name:<15} {version or 'not installed'}" for name, version in packages]
    library = result["kernel_library"]
    lines.append(f"kernel library  {library['path'] or library['problem']}")
    gpu = result["gpu"]
    lines.append(f"GPU             {gpu['name'] or gpu['problem']}")
    emit(result, "\n".join(lines), as_json=as_json)


def _kernel_library() -> dict[str, str | None]:
    from gspn2_deploy.ops import cuda

    try:
        cuda.load_library()
    except KernelLibraryError as error:
        return {"path": None, "problem": f"{error.problem} ({error.hint})"}
    return {"path": str(cuda.library_path()), "problem": None}


def _gpu() -> dict[str, str | None]:
    import torch

    if torch.version.cuda is None:
        return {"name": None, "problem": "PyTorch is a CPU build"}
    if not torch.cuda.is_available():
        return {"name": None, "problem": "PyTorch sees none"}
    major, minor = torch.cuda.get_device_capability()
    name = f"{torch.cuda.get_device_name()} (compute capability {major}.{minor})"
    return {"name": name, "problem": None}
