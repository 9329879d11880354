"""Train a nano GSPN-2 on handwritten digits: ``python examples/digits/train.py``.

Runs on one CPU core in a few minutes and writes, beside this file or under ``--out``:
nano-digits.safetensors (the weights with their configuration), heldout.npz (the held-out images
and labels), training.log and training.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from dataset import CHECKPOINT, FOLDER, HELDOUT, IMAGE_SIZE, NUM_CLASSES, Split, load_splits
from torch import Tensor, nn
from torch.nn import functional

from gspn2_deploy.models import Gspn2, count_macs, count_parameters, create_model, save_checkpoint

SEED = 0
EPOCHS = 60
BATCH = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
WARMUP_SHARE = 0.05  # of all steps
MAX_GRADIENT_NORM = 1.0
MAX_SHIFT = 1.0  # pixels
MAX_ROTATION = 10.0  # degrees

# 8x8 images: no reduction in the stem, then 8x8 and 4x4 maps.
ARCHITECTURE = {
    "in_channels": 1,
    "num_classes": NUM_CLASSES,
    "image_size": IMAGE_SIZE,
    "stem_stride": 1,
    "widths": (32, 64),
    "depths": (1, 2),
    "chunks": (2, 0),
    "kernel_size": 3,
}

_LOG = logging.getLogger("train")


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate and shift each image a little, with bilinear sampling.

    Args:
        images: (N, 1, H, W); what comes in from outside repeats the border, which is blank.
        generator: Source of the angles (up to 10 degrees) and shifts (up to 1 pixel).

    Returns:
        Images of the same shape.
    """
    n, _, height, width = images.shape
    draw = torch.rand(3, n, generator=generator) * 2 - 1
    angle = draw[0] * math.radians(MAX_ROTATION)
    shift_x, shift_y = draw[1] * MAX_SHIFT * 2 / width, draw[2] * MAX_SHIFT * 2 / height
    cos, sin = angle.cos(), angle.sin()
    affine = torch.stack(
        [torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)], 1
    )  # (N, 2, 3)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def accuracy(model: nn.Module, split: Split) -> float:
    """Return the share of images whose largest logit is their label's."""
    model.eval()
    with torch.inference_mode():
        predicted = model(torch.from_numpy(split.images)).argmax(1)
    return float((predicted == torch.from_numpy(split.labels)).double().mean())


def train(model: Gspn2, split: Split, epochs: int) -> list[dict[str, float]]:
    """Train with AdamW, a warm-up and a cosine decay.

    Args:
        model: The model, changed in place.
        split: The training images.
        epochs: Passes over them.

    Returns:
        One record per epoch: the mean loss, and the seconds since the start.
    """
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    generator = torch.Generator().manual_seed(SEED)
    steps = epochs * math.ceil(len(images) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=WARMUP_SHARE
    )
    started = time.perf_counter()
    history = []
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for index in torch.randperm(len(images), generator=generator).split(BATCH):
            logits = model(augmented(images[index], generator))
            loss = functional.cross_entropy(logits, labels[index], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(index)
        seconds = time.perf_counter() - started
        history.append(
            {"epoch": epoch, "loss": round(total / len(images), 5), "seconds": round(seconds, 1)}
        )
        _LOG.info("epoch %2d/%d  loss %.4f  %6.1f s", epoch, epochs, history[-1]["loss"], seconds)
    return history


def main() -> None:
    """Train, measure, and write the four files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the results")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the images")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    handlers = [logging.StreamHandler(), logging.FileHandler(out / "training.log", mode="w")]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)

    torch.set_num_threads(1)  # one thread: the same sums in the same order on every run
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    training, heldout = load_splits()
    model = create_model("nano", **ARCHITECTURE)
    macs = count_macs(model, 1, 1, *IMAGE_SIZE)
    _LOG.info("%d parameters, %d MACs per image", count_parameters(model), macs)
    _LOG.info("%d images to train on, %d held out", len(training.labels), len(heldout.labels))

    history = train(model, training, arguments.epochs)
    scores = {"training": accuracy(model, training), "heldout": accuracy(model, heldout)}
    _LOG.info("accuracy: training %.2f %%, held out %.2f %%", *(100 * s for s in scores.values()))

    save_checkpoint(model.eval(), out / CHECKPOINT.name)
    np.savez_compressed(out / HELDOUT.name, images=heldout.images, labels=heldout.labels)
    record = {
        "model": json.loads(model.config.to_json()),
        "parameters": count_parameters(model),
        "macs": macs,
        "images": {"training": len(training.labels), "heldout": len(heldout.labels)},
        "accuracy": {name: round(value, 5) for name, value in scores.items()},
        "settings": {
            "seed": SEED,
            "epochs": arguments.epochs,
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY,
            "label_smoothing": LABEL_SMOOTHING,
            "threads": 1,
            "torch": torch.__version__,
        },
        "history": history,
    }
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
