"""Random images with a teacher's soft labels: shows how much soft labels contribute to methods that use them.

The images are those of `random`, the teacher that of `rded`: with the same options and seed it is the same network, so
the two methods differ only in their images.
Source: the baseline of Qin, Deng & Alvarez-Melis (2024), "A Label is Worth a Thousand Images in Dataset Distillation",
https://arxiv.org/abs/2406.10485, where random images with soft labels rival distilled ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from condense import rng
from condense.classifiers.teaching import teacher_for
from condense.data.types import TrainingSet
from condense.methods._members import class_members
from condense.methods._taught import LabelTeacher, cost_with, notes_with, teaching
from condense.options import Options as BaseOptions
from condense.run import Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet


class Options(BaseOptions):
    """The teacher."""

    QUICK: ClassVar[Mapping[str, Any]] = {"teacher": {"epochs": 1}}

    teacher: LabelTeacher = LabelTeacher()
    temperature: float = Field(1.0, gt=0, description="temperature of the teacher's softmax in the soft labels")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through the teacher."""
    return teaching(train, options.teacher) + train.images.num_classes * ipc


def stages(train: TrainingSet, ipc: int, options: Options) -> list[tuple[str, int]]:
    """`evaluations`, by progress bar."""
    return [("teacher", evaluations(train, ipc, options))]


def check(train: TrainingSet, ipc: int, options: Options) -> None:
    """Raise `UserError` unless every class has `ipc` images with a single label."""
    class_members(train, ipc)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Draw `ipc` real images from each class by observed label, and let the teacher label them.

    Raises:
        UserError: a class has fewer than `ipc` images, labels are not single, or as `teacher_for`.
    """
    check_ipc(ipc, train)
    members = class_members(train, ipc)
    teacher = teacher_for(train, options.teacher, seed, run)
    started = time.perf_counter()
    generator = np.random.default_rng(rng.derive(seed, "random"))
    chosen = np.concatenate([generator.choice(own, ipc, replace=False) for own in members]).astype(np.int64)
    images = train.images.images[chosen]
    soft_labels = teacher.soft_labels(images, options.temperature)
    return assemble(
        train,
        images,
        Making(
            "random_soft",
            ipc,
            options,
            seed,
            cost=cost_with(teacher, time.perf_counter() - started, len(chosen)),
            notes=notes_with(teacher, soft_labels, options.temperature),
        ),
        source_index=chosen,
        soft_labels=soft_labels,
    )
