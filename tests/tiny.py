"""Small training data and options: a generator that trains in a second."""

from __future__ import annotations

import numpy as np

from condense.data.types import ImageData, Supervision, TrainingSet, Truth
from condense.generator.options import NetworkOptions, TrainOptions

CLASSES = ("dark", "light", "striped")
NETWORK = NetworkOptions(channels=8, multipliers=(1,), blocks=1, patch=2)
CONDITIONAL = NetworkOptions(kind="conditional", channels=8, multipliers=(1,), blocks=1, patch=2)


def pictures(per_class: int = 20, size: int = 8, channels: int = 1, seed: int = 0) -> tuple[ImageData, Truth]:
    """Dark, light and striped pictures with noise, and their classes."""
    generator = np.random.default_rng(seed)
    base = np.zeros((3, size, size, channels))
    base[0], base[1], base[2, :, ::2] = 60, 190, 255
    noisy = np.repeat(base, per_class, 0) + generator.normal(0, 25, (3 * per_class, size, size, channels))
    labels = np.repeat(np.arange(3), per_class)
    order = generator.permutation(len(labels))
    images = noisy.clip(0, 255).astype(np.uint8)[order]
    return ImageData(images, CLASSES, "patterns", "train"), Truth(labels[order])


def supervision(kind: str, truth: Truth, seed: int = 0) -> Supervision:
    """Labels of one kind: labelled, noisy (a third wrong), partial, unlabelled (half), or a mixture of all."""
    generator = np.random.default_rng(seed)
    n, clean = len(truth), np.eye(3, dtype=np.bool_)[truth.labels]
    trusted = np.ones(n, dtype=np.bool_)
    flipped = np.where(generator.random(n) < 1 / 3, (truth.labels + generator.integers(1, 3, n)) % 3, truth.labels)
    noisy = np.eye(3, dtype=np.bool_)[flipped]
    partial = clean | (np.eye(3, dtype=np.bool_)[(truth.labels + generator.integers(0, 3, n)) % 3])
    unlabelled = clean | (generator.random(n) < 0.5)[:, None]
    if kind == "mixture":
        which = np.arange(n) % 4
        candidates = np.stack([clean, noisy, partial, unlabelled])[which, np.arange(n)]
        return Supervision(candidates, which != 1)
    choices = {"labelled": clean, "noisy": noisy, "partial": partial, "unlabelled": unlabelled}
    return Supervision(choices[kind], trusted & (kind != "noisy"))


def training_set(kind: str = "noisy", per_class: int = 20, seed: int = 0) -> TrainingSet:
    """`pictures` under one kind of `supervision`."""
    images, truth = pictures(per_class, seed=seed)
    return TrainingSet(images, supervision(kind, truth, seed))


def train_options(**changed: object) -> TrainOptions:
    """Fifteen steps of sixteen images."""
    return TrainOptions.model_validate({"steps": 15, "batch_size": 16, "checkpoint_every": 5, **changed})
