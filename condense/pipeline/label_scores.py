"""The fraction of true labels that a generator, or another repair, recovered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from condense import rng
from condense.classifiers.confident_learning import confusion
from condense.data.types import Labels, TrainingSet
from condense.generator.model import Generator
from condense.json_values import JSON, listed, maybe, number, texts, wholes
from condense.pipeline.plan import Plan

Counts: TypeAlias = npt.NDArray[np.int64]

MOST_SCORED = 10_000  # maximum number of images for a score; as many more would cost minutes on a CPU


@dataclass(frozen=True, eq=False)
class LabelScores:
    """How well labels were recovered; accuracies in percent.

    Attributes:
        classes: class names.
        labels_recovered: percentage of right ones; None if the truth is unknown.
        recovered: counts int64 [c, c] of recovered labels, rows are true classes; None if the truth is unknown.
        given: the same for the given labels; also None if an image has no single one.
        classifier_accuracy: test accuracy of the generator that recovered them; None without one.
    """

    classes: tuple[str, ...]
    labels_recovered: float | None = None
    recovered: Counts | None = None
    given: Counts | None = None
    classifier_accuracy: float | None = None

    def to_json(self) -> dict[str, JSON]:
        """All attributes as a JSON object; `classifier_accuracy` only if there is one."""
        told: dict[str, JSON] = {
            "classes": list(self.classes),
            "labels_recovered": self.labels_recovered,
            "recovered": None if self.recovered is None else self.recovered.tolist(),
            "given": None if self.given is None else self.given.tolist(),
        }
        accuracy = self.classifier_accuracy
        return told if accuracy is None else {**told, "classifier_accuracy": accuracy}

    @classmethod
    def of(cls, told: Mapping[str, JSON]) -> LabelScores:
        """What `to_json` told. Raises `KeyError`, `TypeError` or `ValueError` where something is missing or wrong."""
        shares = [maybe(number, told, name) for name in ("labels_recovered", "classifier_accuracy")]
        if not all(share is None or math.isfinite(share) for share in shares):
            raise ValueError("a share must be a finite number")
        recovered, given = (maybe(_counts, told, name) for name in ("recovered", "given"))
        return cls(texts(told, "classes"), shares[0], recovered, given, shares[1])


def test_accuracy(generator: Generator, plan: Plan, most: int = MOST_SCORED) -> float | None:
    """Accuracy in percent of the diffusion classifier on test images, `most` at most; None without any."""
    test, truth = plan.source.test, plan.source.test_truth
    if test is None or truth is None:
        return None
    chosen = scored_images(len(test), plan.recipe.seed, most)
    posterior = generator.posterior(test.images[chosen], seed=plan.recipe.seed)
    return 100 * float((posterior.argmax(1) == truth.labels[chosen]).mean())


def labels_recovered(generator: Generator, plan: Plan, most: int = MOST_SCORED) -> float | None:
    """Percentage of training images, `most` at most, whose most likely class, given image and label, is right."""
    if plan.source.truth is None:
        return None
    chosen = scored_images(len(plan.train), plan.recipe.seed, most)
    found = recovered_labels(generator, plan.train.take(chosen), plan.recipe.seed)
    return 100 * float((found == plan.source.truth.labels[chosen]).mean())


def recovered_labels(generator: Generator, train: TrainingSet, seed: int) -> Labels:
    """Each image's most likely class given image and label, argmax p(y | x, z): int64 [n]."""
    posterior = generator.label_posterior(train.images.images, train.supervision, seed=seed)
    return np.asarray(posterior.argmax(1), dtype=np.int64)


def scored_images(count: int, seed: int, most: int = MOST_SCORED) -> Labels:
    """All indices, or `most` of them at random, ascending."""
    if count <= most:
        return np.arange(count)
    generator = np.random.default_rng(rng.derive(seed, "scored"))
    return np.sort(generator.choice(count, most, replace=False))


def score_generator(plan: Plan, generator: Generator) -> LabelScores:
    """`score_labels` of a generator's beliefs on (at most 10,000) training images, and its test accuracy."""
    chosen = scored_images(len(plan.train), plan.recipe.seed)
    some = plan.train.take(chosen)
    truth = None if plan.source.truth is None else plan.source.truth.labels[chosen]
    found = score_labels(some, recovered_labels(generator, some, plan.recipe.seed), truth)
    return replace(found, classifier_accuracy=test_accuracy(generator, plan))


def score_labels(train: TrainingSet, found: Labels, true: Labels | None) -> LabelScores:
    """Compare recovered labels with the given ones and, if known, with the truth.

    Args:
        train: images with their given labels.
        found: recovered labels, int64 [n].
        true: true labels, int64 [n], or None.
    """
    classes, given = train.images.classes, train.supervision.observed
    if true is None:
        return LabelScores(classes)
    return LabelScores(
        classes,
        100 * float((found == true).mean()),
        confusion(true, found, len(classes)),
        confusion(true, given, len(classes)) if (given >= 0).all() else None,
    )


def _counts(told: Mapping[str, JSON], name: str) -> Counts:
    rows = [wholes({name: row}, name) for row in listed(told, name)]
    if any(len(row) != len(rows) for row in rows):
        raise ValueError(f"{name!r} must be counts [c, c]")
    return np.asarray(rows, dtype=np.int64)
