"""The recurrence in float64, written from the formula alone.

Independent of the package on purpose: one explicit loop over steps and positions, plain NumPy, no
code shared with what it checks. Slow; for small maps.

Source: GSPN-2 (arXiv 2512.07884), section 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DIRECTIONS = ("left_to_right", "right_to_left", "top_to_bottom", "bottom_to_top")


def _weights(logits: list[Array], normalize: str) -> list[Array]:
    """Weights over the neighbours that exist. Each entry: (N, G)."""
    if normalize == "none":
        return logits
    if normalize == "softmax":
        peak = np.maximum.reduce(logits)
        parts = [np.exp(value - peak) for value in logits]
        total = sum(parts)
    else:
        with np.errstate(over="ignore"):
            parts = [1 / (1 + np.exp(-value)) for value in logits]
        total = np.maximum(sum(parts), 1e-7)
    return [part / total for part in parts]


def line_scan(
    x: Array, lam: Array, w: Array, direction: str, normalize: str = "sigmoid", chunk: int = 0
) -> Array:
    """h (N, C, H, W) from x, lam (N, C, H, W) and w (N, 3, G, H, W), all float64."""
    x, lam, w = (np.asarray(value, dtype=np.float64) for value in (x, lam, w))
    _, _, height, width = x.shape
    horizontal = direction in ("left_to_right", "right_to_left")
    steps, length = (width, height) if horizontal else (height, width)
    order = range(steps)
    if direction in ("right_to_left", "bottom_to_top"):
        order = range(steps - 1, -1, -1)
    h = np.zeros_like(x)
    previous = 0
    for count, step in enumerate(order):
        fresh = count % chunk == 0 if chunk else count == 0
        for p in range(length):
            at = (p, step) if horizontal else (step, p)
            value = lam[:, :, at[0], at[1]] * x[:, :, at[0], at[1]]
            if not fresh:
                neighbours = [q for q in (p - 1, p, p + 1) if 0 <= q < length]
                logits = [w[:, q - p + 1, :, at[0], at[1]] for q in neighbours]
                for q, weight in zip(neighbours, _weights(logits, normalize), strict=True):
                    came = (q, previous) if horizontal else (previous, q)
                    value = value + weight * h[:, :, came[0], came[1]]
            h[:, :, at[0], at[1]] = value
        previous = step
    return h


def prop2d(
    x: Array,
    lam: Array,
    w: Array,
    u: Array,
    d: Array | None = None,
    m: Array | None = None,
    normalize: str = "sigmoid",
    chunk: int = 0,
) -> Array:
    """y (N, C, H, W) from x (N, C, H, W), gates (N, 4, C, H, W), w (N, 4, 3, G, H, W)."""
    x = np.asarray(x, dtype=np.float64)
    y = np.zeros_like(x)
    for k, direction in enumerate(DIRECTIONS):
        h = line_scan(x, lam[:, k], w[:, k], direction, normalize, chunk)
        part = np.asarray(u[:, k], np.float64) * h
        if d is not None:
            part = part + np.asarray(d[:, k], np.float64) * x
        y = y + (part if m is None else float(m[k]) * part)
    return y
