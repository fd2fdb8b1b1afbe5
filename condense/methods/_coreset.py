"""Coreset selection: the real images whose features represent their class. Shared by `herding` and `kcenter`.

The features are those of a network trained on the whole training set. The choice is made as published, by observed
label, so noisy labels affect the candidates of each class, the class means and the network itself;
`--clean-first oracle` shows what the noise costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from condense.classifiers.teacher import TeacherOptions
from condense.classifiers.teaching import teacher_for
from condense.data.types import TrainingSet
from condense.methods._members import class_members
from condense.methods._select import Features, Indices
from condense.methods._taught import cost_with, teaching
from condense.options import Options
from condense.run import Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet

Pick = Callable[[Features, int], Indices]


class CoresetOptions(Options):
    """Options of coreset selection by features."""

    QUICK: ClassVar[Mapping[str, Any]] = {"teacher": {"epochs": 1}}

    teacher: TeacherOptions = TeacherOptions()


def looks(train: TrainingSet, options: CoresetOptions) -> int:
    """Images that will pass through the network: in its training, and once for their features."""
    return teaching(train, options.teacher) + int(train.supervision.single.sum())


def two_stages(train: TrainingSet, options: CoresetOptions, method: str) -> list[tuple[str, int]]:
    """`looks`, by progress bar."""
    taught = teaching(train, options.teacher)
    return [("teacher", taught), (method, looks(train, options) - taught)]


def coreset(
    train: TrainingSet, ipc: int, options: CoresetOptions, seed: int, run: Run, *, method: str, pick: Pick
) -> CondensedSet:
    """`ipc` real images per class, chosen by `pick` from the features [m, F] of each class by observed label.

    Raises:
        UserError: a class has fewer than `ipc` images, labels are partial, or as `teacher_for`.
    """
    check_ipc(ipc, train)
    members = class_members(train, ipc)
    teacher = teacher_for(train, options.teacher, seed, run)
    started, chosen = time.perf_counter(), []
    with run.track(len(members), method) as tracker:
        for y, own in enumerate(members):
            chosen.append(own[pick(teacher.features(train.images.images[own]), ipc)])
            tracker.update(y + 1)
    index = np.concatenate(chosen)
    return assemble(
        train,
        train.images.images[index],
        Making(
            method,
            ipc,
            options,
            seed,
            cost=cost_with(teacher, time.perf_counter() - started, passes=sum(map(len, members))),
            notes={"teacher": teacher.record.to_json()},
        ),
        source_index=index,
    )
