"""Repairing labels before a method sees them: the clean-then-condense arm."""

from __future__ import annotations

import numpy as np

from condense.data.types import Corruption, Supervision, TrainingSet, Truth
from condense.generator.model import Generator


def repaired_by(generator: Generator, train: TrainingSet, seed: int = 0) -> TrainingSet:
    """Each image's label replaced by the likeliest class given image and label, argmax p(y | x, z).

    Raises `UserError` where the generator was made for other classes or image sizes.
    """
    generator.check_data(train.images)
    posterior = generator.label_posterior(train.images.images, train.supervision, seed=seed)
    return _relabelled(train, posterior.argmax(1), "dmis")


def repaired_by_oracle(truth: Truth, train: TrainingSet) -> TrainingSet:
    """True labels in place of the given ones: an upper bound for comparisons, marked as such everywhere."""
    return _relabelled(train, truth.labels, "oracle")


def _relabelled(train: TrainingSet, labels: np.ndarray, by: str) -> TrainingSet:
    supervision = Supervision.from_labels(labels, train.images.num_classes, trusted=False)
    corruption = Corruption(f"{train.corruption.spec}, labels repaired by {by}", train.corruption.seed, None)
    return TrainingSet(train.images, supervision, corruption)
