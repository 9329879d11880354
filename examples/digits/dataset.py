"""The handwritten digits: one split and one normalisation for training and validation.

Source: scikit-learn's ``load_digits``, a copy of the test set of "Optical Recognition of
Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, 1998; CC BY 4.0).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
CHECKPOINT = FOLDER / "nano-digits.safetensors"
HELDOUT = FOLDER / "heldout.npz"

IMAGE_SIZE = (8, 8)  # height and width, in pixels
NUM_CLASSES = 10
SPLIT_SEED = 0
HELDOUT_SHARE = 0.2

# Mean and standard deviation of the training images' gray values, scaled to 0..1.
MEAN = 0.305
STD = 0.376
MAX_GRAY = 16.0


class Split(NamedTuple):
    """Normalised images (N, 1, 8, 8), float32, and their labels (N,), int64."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def normalised(gray: NDArray[np.float64]) -> NDArray[np.float32]:
    """Turn gray values 0..16, (N, 8, 8), into the model's input, (N, 1, 8, 8)."""
    return ((gray / MAX_GRAY - MEAN) / STD)[:, None].astype(np.float32)


def load_splits() -> tuple[Split, Split]:
    """Return the training images (1437) and the held-out ones (360), each class in proportion.

    The split is drawn at random from a fixed seed, so both parts hold digits of the same writers.
    Training has a fixed length and never looks at the held-out images.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, held, train_labels, held_labels = train_test_split(
        digits.images,
        digits.target,
        test_size=HELDOUT_SHARE,
        random_state=SPLIT_SEED,
        stratify=digits.target,
    )
    return (
        Split(normalised(train), train_labels.astype(np.int64)),
        Split(normalised(held), held_labels.astype(np.int64)),
    )


def load_heldout(path: Path = HELDOUT) -> Split:
    """Return the held-out images as they were committed; needs NumPy only."""
    with np.load(path, allow_pickle=False) as arrays:
        return Split(arrays["images"], arrays["labels"])
