"""What TensorRT and TensorRT for RTX say: their own loggers write to stdout, where results go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def make_logger(trt: Any, hear: Callable[[str, str], None]) -> Any:
    """Return a ``trt.ILogger`` that passes on what it is told.

    Args:
        trt: The engine library's module.
        hear: Takes each message: the name of its ``trt.ILogger.Severity``, and the text.
    """

    class Bridge(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, level: Any, text: str) -> None:
            hear(level.name, text)

    return Bridge()
