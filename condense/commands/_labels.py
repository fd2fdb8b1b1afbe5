"""What was learnt of the true labels by a generator, or by who repaired the labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from condense.commands._plan import Plan
from condense.commands.train import recovered_labels, scored_images, test_accuracy
from condense.data.types import Labels, TrainingSet
from condense.generator.model import Generator


def told_by_generator(plan: Plan, generator: Generator) -> dict[str, Any]:
    """`told_by_labels` of a generator's beliefs on (at most 10,000) training images, and its test accuracy."""
    chosen = scored_images(len(plan.train), plan.recipe.seed)
    some = plan.train.take(chosen)
    truth = None if plan.source.truth is None else plan.source.truth.labels[chosen]
    told = told_by_labels(some, recovered_labels(generator, some, plan.recipe.seed), truth)
    return told | {"classifier_accuracy": test_accuracy(generator, plan)}


def told_by_labels(train: TrainingSet, found: Labels, true: Labels | None) -> dict[str, Any]:
    """Hold recovered labels against the given ones and, where it is known, the truth.

    Args:
        train: images with labels as given.
        found: recovered labels, int64 [n].
        true: true labels, int64 [n], or None.

    Returns:
        classes; labels_recovered, the share of right ones in percent; recovered and given, confusions [c, c] with
        true classes down. None where the truth is not known, or an image has no single given label.
    """
    classes, given = train.images.classes, train.supervision.observed
    told: dict[str, Any] = {"classes": list(classes), "labels_recovered": None, "recovered": None, "given": None}
    if true is not None:
        told["labels_recovered"] = 100 * float((found == true).mean())
        told["recovered"] = confusion(true, found, len(classes)).tolist()
        told["given"] = confusion(true, given, len(classes)).tolist() if (given >= 0).all() else None
    return told


def confusion(true: Labels, other: Labels, num_classes: int) -> Labels:
    """Counts int64 [c, c], rows are true classes."""
    return np.bincount(true * num_classes + other, minlength=num_classes**2).reshape(num_classes, num_classes)
