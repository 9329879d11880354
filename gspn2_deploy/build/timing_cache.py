"""TensorRT's timing cache, kept between builds under a key of all that its timings depend on.

TensorRT itself says whether a file is of its version and of this GPU, but not over how many runs
the times in it were averaged. A file that the user names has a record of that beside it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gspn2_deploy.build.gpu import Gpu
from gspn2_deploy.errors import OutputError, UsageError
from gspn2_deploy.files import sha256_of, staged_output

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "GSPN2_CACHE_DIR"
RECORD_SUFFIX = ".gspn2.json"  # behind the name of a file that the user names


@dataclass
class TimingCache:
    """One cache file.

    Args:
        path: Where it is kept.
        iterations: How many runs a time is the mean of.
        is_named: Whether the user names the file: its name then says nothing of that.
    """

    path: Path
    iterations: int
    is_named: bool
    _content: bytes = b""  # of the file, when it was read
    _is_mixed: bool = False  # whether it is used though nobody says what its times are means of

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
            path: A file that the user names instead; TensorRT says whether the rest fits.

        Raises:
            UsageError: The times in that file are means over another number of runs.
        """
        if path is not None:
            cache = cls(path, iterations, is_named=True)
            cache._check_means(cache._read())
            return cache
        machine = (gpu.name, gpu.compute_capability, driver_version)
        parts = (version, *machine, sha256_of(plugin_path), iterations)
        key = _sha256("\n".join(map(str, parts)).encode())
        return cls(cache_folder() / "timing" / f"{key}.cache", iterations, is_named=False)

    def attach(self, config: Any) -> None:
        """Give the builder what is known. A file that TensorRT does not accept is left unused.

        Raises:
            UsageError: Another build has put times into the file since it was opened, means over
                another number of runs.
        """
        self._content = self._read()
        self._check_means(self._content)
        if self._content:
            cache = config.create_timing_cache(self._content)
            if cache is not None and config.set_timing_cache(cache, False):
                self._is_mixed = self._means_over(self._content) is None
                if self._is_mixed:
                    logger.warning(
                        "the times in %s are used, though it is not known over how many runs each "
                        "was averaged: delete the file to have them measured again",
                        self.path,
                    )
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
        try:
            if meanwhile and meanwhile != self._content:
                self._check_means(meanwhile)
                other = config.create_timing_cache(meanwhile)
                if other is not None:
                    cache.combine(other, False)
                    self._is_mixed = self._is_mixed or self._means_over(meanwhile) is None
            self._write(bytes(cache.serialize()))
        except (OutputError, UsageError) as error:
            logger.warning("the timing cache was not kept: %s", error.problem)
            return None
        return self.path

    def _check_means(self, content: bytes) -> None:
        over = self._means_over(content)
        if over not in (None, self.iterations):
            raise UsageError(
                "the timing cache holds times averaged over another number of runs",
                got=f"{self.path}: over {over}",
                expected=f"over {self.iterations}, as --timing-iterations says",
                hint=f"name another file, or build with --timing-iterations {over}; without "
                "--timing-cache every number has a file of its own",
            )

    def _means_over(self, content: bytes) -> int | None:
        """How many runs a time in a file with that content is the mean of, where that is known."""
        if not self.is_named:
            return self.iterations
        try:
            record = json.loads(self._record_path.read_text(encoding="utf-8"))
            if record["sha256"] != _sha256(content):  # trtexec, say, has written to it since
                return None
            return int(record["timing_iterations"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, content: bytes) -> None:
        files = {self.path.name: content}
        if self.is_named and not self._is_mixed:
            record = {"timing_iterations": self.iterations, "sha256": _sha256(content)}
            files[self._record_path.name] = f"{json.dumps(record)}\n".encode()
        with staged_output(*(self.path.with_name(name) for name in files)) as staging:
            for name, data in files.items():
                (staging / name).write_bytes(data)

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError:
            return b""

    @property
    def _record_path(self) -> Path:
        return self.path.with_name(self.path.name + RECORD_SUFFIX)


def cache_folder() -> Path:
    """Return where caches are kept: ``GSPN2_CACHE_DIR``, or the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gspn2-deploy"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
