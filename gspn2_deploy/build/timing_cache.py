"""TensorRT's timing cache, kept between builds under a key of all that its timings depend on."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gspn2_deploy.build.gpu import Gpu
from gspn2_deploy.errors import OutputError
from gspn2_deploy.files import sha256_of, staged_output

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "GSPN2_CACHE_DIR"


@dataclass
class TimingCache:
    """One cache file.

    Args:
        path: Where it is kept.
    """

    path: Path
    _content: bytes = b""  # of the file, when it was read

    @classmethod
    def open(
        cls,
        version: str,
        gpu: Gpu,
        driver_version: str | None,
        plugin_path: Path,
        iterations: int,
        path: Path | None = None,
    ) -> TimingCache:
        """Return the cache for these timings; its file need not exist.

        Args:
            version: TensorRT's version.
            gpu: The GPU that is timed.
            driver_version: The CUDA version of its driver.
            plugin_path: The plugin library, whose content counts.
            iterations: How many runs a time is the mean of.
            path: A file that the user names instead; TensorRT says whether it fits.
        """
        if path is not None:
            return cls(path)
        machine = (gpu.name, gpu.compute_capability, driver_version)
        parts = (version, *machine, sha256_of(plugin_path), iterations)
        key = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
        return cls(cache_folder() / "timing" / f"{key}.cache")

    def attach(self, config: Any) -> None:
        """Give the builder what is known. A file that TensorRT does not accept is left unused."""
        self._content = self._read()
        if self._content:
            cache = config.create_timing_cache(self._content)
            if cache is not None and config.set_timing_cache(cache, False):
                return
            logger.warning("the timing cache %s is not usable and will be replaced", self.path)
        config.set_timing_cache(config.create_timing_cache(b""), False)

    def keep(self, config: Any) -> Path | None:
        """Write what the builder learnt, with what other builds wrote in the meantime.

        Returns:
            Where it is kept; None where it cannot be, which is no failure of the build.
        """
        cache = config.get_timing_cache()
        if cache is None:
            return None
        meanwhile = self._read()
        if meanwhile and meanwhile != self._content:
            other = config.create_timing_cache(meanwhile)
            if other is not None:
                cache.combine(other, False)
        try:
            with staged_output(self.path) as staging:
                (staging / self.path.name).write_bytes(bytes(cache.serialize()))
        except OutputError as error:
            logger.warning("the timing cache was not kept: %s", error.problem)
            return None
        return self.path

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError:
            return b""


def cache_folder() -> Path:
    """Return where caches are kept: ``GSPN2_CACHE_DIR``, or the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gspn2-deploy"
