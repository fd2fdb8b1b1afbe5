"""RDED: the crops of real images that a teacher is most confident about, tiled, with the teacher's soft labels.

For each class, every image of a random pool of real images is cropped several times; its crop with the lowest
cross-entropy under the teacher is kept, the ipc·factor² lowest of these are taken, and factor² of them tile an
image. Below 64 pixels the factor is 1, so that RDED merely selects crops.
Source: Sun et al. (2024), https://arxiv.org/abs/2312.03526, Section 4 and Algorithm 1.

The protocol soft queries the teacher for every augmented image, as the paper does, if its file lies beside the set
(`dmis condense` writes it); soft-stored uses the soft labels of the whole images, which are in the set.

Departures. Images are normalised by the training data's own mean and deviation, not ImageNet's; classes
are matched by name, so that a teacher's order cannot be mistaken; any ipc, image size, and 1 or 3 channels are
supported. The paper does not say how its small-image teachers were trained: the schedule here is ours.

Noise. The pool of a class follows observed labels, and a teacher that has fitted wrong labels is confident of those
too. With candidate sets, an image belongs to its most probable candidate under the teacher, which is trained on them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import cross_entropy

from condense import rng
from condense.classifiers.teacher import Teacher
from condense.classifiers.teaching import teacher_for
from condense.data.types import Images, Labels, TrainingSet
from condense.errors import UserError
from condense.methods._crops import random_crops, resized, tiled
from condense.methods._members import drawn, members_of
from condense.methods._taught import LabelTeacher, cost_with, notes_with, teaching
from condense.options import Options as BaseOptions
from condense.run import Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet

LARGE = 64


class Options(BaseOptions):
    """The crops, and the teacher that scores them."""

    QUICK: ClassVar[Mapping[str, Any]] = {"teacher": {"epochs": 1}, "pool": 20, "crops": 2}

    teacher: LabelTeacher = LabelTeacher()
    pool: int = Field(300, ge=1, description="real images per class to be cropped; at least ipc times factor squared")
    crops: int = Field(5, ge=1, description="random crops per image")
    factor: int | None = Field(
        None, ge=1, description="patches along an image's side; when empty 1 below 64 px, else 2"
    )
    temperature: float = Field(1.0, gt=0, description="temperature of the teacher's softmax in the soft labels")

    def factor_for(self, side: int) -> int:
        """Patches along the side of an image of `side` pixels. Raises `UserError` if the side cannot be divided so."""
        factor = self.factor or (1 if side < LARGE else 2)
        if side % factor:
            raise UserError(f"Images of {side} pixels cannot be tiled {factor} by {factor}; choose another factor.")
        return factor


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through the teacher; with candidate sets, as if every class could fill its pool."""
    num_classes, per_class = train.images.num_classes, ipc * options.factor_for(train.images.image_shape[1]) ** 2
    largest, known = max(options.pool, per_class), train.supervision
    pool = drawn(train, largest) if (known.single | known.unlabelled).all() else num_classes * largest
    return teaching(train, options.teacher) + pool * options.crops + num_classes * ipc


def stages(train: TrainingSet, ipc: int, options: Options) -> list[tuple[str, int]]:
    """`evaluations`, by progress bar."""
    taught = teaching(train, options.teacher)
    return [("teacher", taught), ("rded", evaluations(train, ipc, options) - taught)]


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """`ipc` images per class, tiled from the crops the teacher is most confident about.

    Raises:
        UserError: a class has fewer than ipc·factor² images, factor does not divide the side, or as `teacher_for`.
    """
    check_ipc(ipc, train)
    factor = options.factor_for(train.images.image_shape[1])
    known, classes, needed = train.supervision, train.images.classes, ipc * factor**2
    if (known.single | known.unlabelled).all():
        members_of(known.observed, classes, ipc, patches=factor**2)  # checked before a teacher is trained
    teacher = teacher_for(train, options.teacher, seed, run)
    members = members_of(likeliest_candidates(teacher, train), classes, ipc, patches=factor**2)
    started, images, passes = time.perf_counter(), [], 0
    with run.track(len(members), "rded") as tracker:
        for y, own in enumerate(members):
            generator = np.random.default_rng(rng.derive(seed, "pool", y))
            pool = generator.choice(own, min(len(own), max(options.pool, needed)), replace=False)
            crops = random_crops(
                train.images.images[pool],
                options.crops,
                train.images.image_shape[1] // factor,
                rng.generator(seed, "crops", y),
            )
            images.append(tiled(surest(teacher, crops, y, needed), factor))
            passes += crops.shape[0] * crops.shape[1]
            tracker.update(y + 1)
    made = np.concatenate(images)
    soft_labels = teacher.soft_labels(made, options.temperature)
    return assemble(
        train,
        made,
        Making(
            "rded",
            ipc,
            options,
            seed,
            cost=cost_with(teacher, time.perf_counter() - started, passes + len(made)),
            notes={**notes_with(teacher, soft_labels, options.temperature), "packing": factor**2},
        ),
        soft_labels=soft_labels,
    )


def surest(teacher: Teacher, crops: Images, y: int, count: int) -> Images:
    """Of each image the crop with the lowest cross-entropy to class `y`, and of those the `count` lowest, best first.

    Args:
        teacher: judges the crops as they will be stored, enlarged to the size it was trained on.
        crops: uint8 [m, k, s, s, C], k crops of each of m images.
        y: the class.
        count: at most m.

    Returns:
        uint8 [count, s, s, C].
    """
    flat = crops.reshape(-1, *crops.shape[2:])
    logits = teacher.logits(resized(flat, teacher.image_shape[1]))
    loss = cross_entropy(logits, torch.full((len(flat),), y), reduction="none").numpy().reshape(crops.shape[:2])
    best = loss.argmin(1)
    order = np.argsort(loss.min(1), kind="stable")[:count]
    return np.ascontiguousarray(crops[order, best[order]])


def likeliest_candidates(teacher: Teacher, train: TrainingSet) -> Labels:
    """The class of each image: int64 [n], its most probable candidate; -1 for unlabelled images."""
    known = train.supervision
    labels = known.observed
    asked = np.flatnonzero(~known.single & ~known.unlabelled)
    if asked.size:
        logits = teacher.logits(train.images.images[asked]).numpy()
        labels[asked] = np.where(known.candidates[asked], logits, -np.inf).argmax(1)
    return labels
