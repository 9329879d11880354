"""The peak of this process's memory, taken anew for each thing that is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets the peak resident set size to the current one
_KIB = 1024


@dataclass(frozen=True)
class Memory:
    """Memory that something took.

    Args:
        bytes: At its peak.
        of: Of what: where it was taken and how that was found.
    """

    bytes: int
    of: str


class HostPeak:
    """Watches the resident memory of this process from where it is made."""

    def __init__(self) -> None:
        self._before = _field("VmRSS")
        try:
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
            self._works = True
        except OSError:
            self._works = False

    def taken(self) -> Memory | None:
        """What came on top since; None where the system does not tell."""
        peak = _field("VmHWM")
        if not self._works or peak is None or self._before is None:
            return None
        return Memory(
            max(0, peak - self._before),
            "host memory of this process: its peak, less what it had before",
        )


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    text = next((line for line in lines if line.startswith(f"{name}:")), None)
    return None if text is None else int(text.split()[1]) * _KIB
