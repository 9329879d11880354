"""Write the held-out digits as PGM images, with the classes to expect; needs NumPy only."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

HELDOUT = Path(__file__).resolve().parents[1] / "digits" / "heldout.npz"
MEAN, STD, MAX_GRAY = 0.305, 0.376, 16  # examples/digits/dataset.py


def main() -> None:
    """Write ``000.pgm`` and so on, ``labels.txt`` and, for comparison, ``images.npy``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(HELDOUT, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    # (N, 1, 8, 8), normalised -> whole gray values of 0 to 16
    gray = np.rint((images.astype(np.float64) * STD + MEAN) * MAX_GRAY).astype(np.uint8)
    for index, (image,) in enumerate(gray):
        height, width = image.shape
        header = f"P5\n{width} {height}\n{MAX_GRAY}\n".encode()
        (folder / f"{index:03d}.pgm").write_bytes(header + image.tobytes())
    np.save(folder / "images.npy", images)
    (folder / "labels.txt").write_text("\n".join(map(str, labels)) + "\n")


if __name__ == "__main__":
    main()
