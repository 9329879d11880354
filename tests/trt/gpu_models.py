"""Weights, inputs and golden samples for ``gpu_day.py``: run by a Python with PyTorch.

gpu_models.py weights MODEL SEED FILE      random weights of a registered model
gpu_models.py inputs COUNT HxW SEED FILE   random images, as gspn2-deploy export takes them
gpu_models.py regroup GOLDEN 1,8,64        cut recorded samples anew, into these batches
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from gspn2_deploy.golden import GoldenSample, GoldenSamples


def write_weights(name: str, seed: str, path: str) -> None:
    """Write a checkpoint."""
    import torch

    from gspn2_deploy.models import create_model, save_checkpoint

    torch.manual_seed(int(seed))
    save_checkpoint(create_model(name), Path(path))


def write_inputs(count: str, size: str, seed: str, path: str) -> None:
    """Write images that differ from each other as those of the validator do."""
    from gspn2_deploy.manifest import TensorInfo
    from gspn2_deploy.validate.samples import random_samples

    height, width = map(int, size.split("x"))
    spec = TensorInfo("images", "float32", ("batch", 3, height, width))
    (sample,) = random_samples([spec], batches=[int(count)], count=1, seed=int(seed),
                               sizes=[(height, width)])  # fmt: skip
    np.savez(path, **sample.inputs)


def regroup(path: str, batches: str) -> None:
    """Cut a file's samples into other batches: what a model answers is item by item."""
    golden = GoldenSamples.load(Path(path))
    parts = ("inputs", "outputs", "reference")
    whole = {
        part: {
            name: np.concatenate([getattr(sample, part)[name] for sample in golden.samples])
            for name in getattr(golden.samples[0], part)
        }
        for part in parts
    }
    items = len(next(iter(whole["inputs"].values())))
    samples, start = [], 0
    for batch in map(int, batches.split(",")):
        if start + batch > items:  # from the front again: more batches than recorded items
            start = 0
        cut = {
            part: {name: array[start : start + batch] for name, array in arrays.items()}
            for part, arrays in whole.items()
        }
        samples.append(GoldenSample(**cut))
        start += batch
    replace(golden, samples=tuple(samples)).save(Path(path))


def main() -> None:
    """Do what the command line says."""
    command, *arguments = sys.argv[1:]
    {"weights": write_weights, "inputs": write_inputs, "regroup": regroup}[command](*arguments)


if __name__ == "__main__":
    main()
