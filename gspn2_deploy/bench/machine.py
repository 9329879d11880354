"""Where figures come from: the processor or GPU, its driver and clocks, and the software."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gspn2_deploy import __version__
from gspn2_deploy.build.gpu import current_gpu
from gspn2_deploy.errors import PlatformError
from gspn2_deploy.packages import version_of

CPU, GPU = "cpu", "gpu"
_NVIDIA_SMI = "nvidia-smi"
_TIMEOUT = 20  # seconds
# What is asked of nvidia-smi, by our name of it.
_FACTS = {
    "name": "name",
    "compute_capability": "compute_cap",
    "driver": "driver_version",
    "uuid": "uuid",
    "memory_mib": "memory.total",
    "max_sm_mhz": "clocks.max.sm",
    "max_memory_mhz": "clocks.max.memory",
}
_STATE = {
    "sm_mhz": "clocks.sm",
    "memory_mhz": "clocks.mem",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
}
_PACKAGES = ("torch", "triton", "onnx", "onnxruntime", "tensorrt", "pycuda", "numpy")


@dataclass(frozen=True)
class Device:
    """What something ran on.

    Args:
        kind: ``cpu`` or ``gpu``.
        name: What it calls itself.
        cores: Of a processor, as this process may use them; None for a GPU.
        compute_capability: Of a GPU, as in ``9.0``.
        driver: The GPU's driver.
        uuid: The GPU's.
    """

    kind: str
    name: str
    cores: int | None = None
    compute_capability: str | None = None
    driver: str | None = None
    uuid: str | None = None

    @property
    def identity(self) -> tuple[Any, ...]:
        """What must be equal for two figures to be compared."""
        return (self.kind, self.name, self.cores, self.compute_capability, self.driver)

    def __str__(self) -> str:
        if self.kind == CPU:
            return f"{self.cores} cores of {self.name}"
        return f"{self.name} (driver {self.driver or 'not known'})"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Device:
        """Rebuild what :meth:`as_dict` returned."""
        return cls(**{name: values.get(name) for name in cls.__dataclass_fields__})  # type: ignore[arg-type]


def cpu_device() -> Device:
    """This machine's processor."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return Device(CPU, name, cores=_usable_cores())


def gpu_device(bus_id: str | None = None) -> Device:
    """A GPU.

    Args:
        bus_id: Its PCI bus id; None for the first that this process sees.

    Raises:
        NoGpuError: There is none.
    """
    from gspn2_deploy.runners.plan_errors import NoGpuError

    facts = _query(_FACTS, bus_id)
    if facts:
        return Device(
            GPU,
            str(facts["name"]),
            compute_capability=facts["compute_capability"],
            driver=facts["driver"],
            uuid=facts["uuid"],
        )
    try:
        gpu = current_gpu()
    except PlatformError as error:
        raise NoGpuError(error.problem, got=error.got, hint=error.hint) from error
    return Device(GPU, gpu.name, compute_capability=gpu.compute_capability)


def gpu_state(bus_id: str | None = None) -> dict[str, Any] | None:
    """Clocks, temperature and power of a GPU right now; None where nvidia-smi does not tell."""
    state = _query(_STATE, bus_id)
    return {key: _number(value) for key, value in state.items()} if state else None


def software() -> dict[str, Any]:
    """Versions of everything that figures depend on, without loading it."""
    return {
        "gspn2_deploy": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        **{name: version_of(name) for name in _PACKAGES},
    }


def load_average() -> float | None:
    """How many processes wanted a core over the last minute."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def now() -> str:
    """The time, in ISO 8601, UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _query(fields: Mapping[str, str], bus_id: str | None) -> dict[str, str] | None:
    command = [_NVIDIA_SMI, f"--query-gpu={','.join(fields.values())}"]
    command += ["--format=csv,noheader,nounits"]
    if bus_id is not None:
        command += ["-i", bus_id]
    elif visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        command += ["-i", visible.split(",")[0]]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    values = [value.strip() for value in lines[0].split(",")] if lines else []
    if done.returncode != 0 or len(values) != len(fields):
        return None
    return dict(zip(fields, values, strict=True))


def _number(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return None if text.startswith("[") else text  # "[N/A]"
