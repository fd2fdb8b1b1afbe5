"""The fraction of true labels that a generator, or another repair, recovered."""

from __future__ import annotations

from typing import Any

import numpy as np

from condense import rng
from condense.classifiers.confident_learning import confusion
from condense.data.types import Labels, TrainingSet
from condense.generator.model import Generator
from condense.pipeline.plan import Plan

MOST_SCORED = 10_000  # maximum number of images for a score; as many more would cost minutes on a CPU


def test_accuracy(generator: Generator, plan: Plan) -> float | None:
    """Accuracy in percent of the diffusion classifier on (at most 10,000) test images; None without any."""
    test, truth = plan.source.test, plan.source.test_truth
    if test is None or truth is None:
        return None
    chosen = scored_images(len(test), plan.recipe.seed)
    posterior = generator.posterior(test.images[chosen], seed=plan.recipe.seed)
    return 100 * float((posterior.argmax(1) == truth.labels[chosen]).mean())


def labels_recovered(generator: Generator, plan: Plan) -> float | None:
    """Percentage of (at most 10,000) training images whose most likely class, given image and label, is right."""
    if plan.source.truth is None:
        return None
    chosen = scored_images(len(plan.train), plan.recipe.seed)
    found = recovered_labels(generator, plan.train.take(chosen), plan.recipe.seed)
    return 100 * float((found == plan.source.truth.labels[chosen]).mean())


def recovered_labels(generator: Generator, train: TrainingSet, seed: int) -> Labels:
    """Each image's most likely class given image and label, argmax p(y | x, z): int64 [n]."""
    posterior = generator.label_posterior(train.images.images, train.supervision, seed=seed)
    return np.asarray(posterior.argmax(1), dtype=np.int64)


def scored_images(count: int, seed: int) -> Labels:
    """All indices, or `MOST_SCORED` of them at random, ascending."""
    if count <= MOST_SCORED:
        return np.arange(count)
    generator = np.random.default_rng(rng.derive(seed, "scored"))
    return np.sort(generator.choice(count, MOST_SCORED, replace=False))


def told_by_generator(plan: Plan, generator: Generator) -> dict[str, Any]:
    """`told_by_labels` of a generator's beliefs on (at most 10,000) training images, and its test accuracy."""
    chosen = scored_images(len(plan.train), plan.recipe.seed)
    some = plan.train.take(chosen)
    truth = None if plan.source.truth is None else plan.source.truth.labels[chosen]
    told = told_by_labels(some, recovered_labels(generator, some, plan.recipe.seed), truth)
    return told | {"classifier_accuracy": test_accuracy(generator, plan)}


def told_by_labels(train: TrainingSet, found: Labels, true: Labels | None) -> dict[str, Any]:
    """Compare recovered labels with the given ones and, if known, with the truth.

    Args:
        train: images with their given labels.
        found: recovered labels, int64 [n].
        true: true labels, int64 [n], or None.

    Returns:
        classes; labels_recovered, the percentage of right ones; recovered and given, confusion counts [c, c] with true
        classes as rows. All but classes are None if the truth is unknown; given also if an image has no single label.
    """
    classes, given = train.images.classes, train.supervision.observed
    told: dict[str, Any] = {"classes": list(classes), "labels_recovered": None, "recovered": None, "given": None}
    if true is not None:
        told["labels_recovered"] = 100 * float((found == true).mean())
        told["recovered"] = confusion(true, found, len(classes)).tolist()
        told["given"] = confusion(true, given, len(classes)).tolist() if (given >= 0).all() else None
    return told
