"""What a generator learnt of the true labels, where those are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from condense.commands._plan import Plan
from condense.commands.train import recovered_labels, scored_images, test_accuracy
from condense.data.types import Labels
from condense.generator.model import Generator


def learnt_labels(generator: Generator, plan: Plan) -> dict[str, Any]:
    """Judge a generator's beliefs on (at most 10,000) training images of the plan, whose truth must be known.

    Returns:
        labels_recovered and classifier_accuracy (on test images, None without any) in percent; classes; recovered
        and given, the confusions [c, c] with true classes down (given is None where images have no single label).
    """
    truth = plan.source.truth
    assert truth is not None
    chosen = scored_images(len(plan.train), plan.recipe.seed)
    some, true = plan.train.take(chosen), truth.labels[chosen]
    given, found = some.supervision.observed, recovered_labels(generator, some, plan.recipe.seed)
    num_classes = plan.train.images.num_classes
    return {
        "labels_recovered": 100 * float((found == true).mean()),
        "classifier_accuracy": test_accuracy(generator, plan),
        "classes": list(plan.train.images.classes),
        "given": None if (given < 0).any() else confusion(true, given, num_classes).tolist(),
        "recovered": confusion(true, found, num_classes).tolist(),
    }


def confusion(true: Labels, other: Labels, num_classes: int) -> Labels:
    """Counts int64 [c, c], rows are true classes."""
    return np.bincount(true * num_classes + other, minlength=num_classes**2).reshape(num_classes, num_classes)
