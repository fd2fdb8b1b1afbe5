"""Chosen: the real images that best represent those confidently believed to be of their class.

Among the images whose belief in a class exceeds 0.95, k-means or herding chooses in the feature space of a network
trained on the labels (`condense/generator/labels/labeller.py`). The beliefs come from `--clean-first`, else from the
labeller; with `soft_labels` the set stores them as the images' soft labels. No image is learned or drawn, so this is a
baseline that a condensed set must beat.
Source: Welling (2009), https://doi.org/10.1145/1553374.1553517, for herding; the choice by beliefs is ours.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from condense import rng
from condense.data.types import TrainingSet
from condense.generator.labels import labeller
from condense.generator.labels.labeller_options import LabellerOptions
from condense.machine import best_device
from condense.methods._believed import believed_members, labelling_cost
from condense.methods._select import choose
from condense.options import Options as BaseOptions
from condense.run import Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet, Cost


class Options(BaseOptions):
    """How images are chosen, and the labeller."""

    QUICK: ClassVar[Mapping[str, Any]] = {"asked": LabellerOptions.QUICK}

    choose: Literal["kmeans", "herding", "surest", "none"] = Field(
        "kmeans", description="kmeans, herding, surest, or none (random) among the images believed to be of the class"
    )
    soft_labels: bool = Field(False, description="store the belief about each image as its soft label")
    asked: LabellerOptions = LabellerOptions()

    @property
    def by_features(self) -> bool:
        """Whether features of the images are needed."""
        return self.choose in ("kmeans", "herding")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks: the labeller's, and once for their features."""
    return labeller.foreseen(train, options.asked) + len(train) * options.by_features if _asks(train, options) else 0


def check(train: TrainingSet, ipc: int, options: Options) -> None:
    """Raise `UserError` if a labeller is needed and cannot learn from such images and labels."""
    if _asks(train, options):
        labeller.check(train, options.asked)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Choose `ipc` real images per class.

    Raises:
        UserError: too few images may be of a class, or as `labeller.fit`.
        Interrupted: stopped by Ctrl-C; what the labeller has learned is saved.
    """
    check_ipc(ipc, train)
    cost, features, beliefs = Cost(), None, train.believed()
    if _asks(train, options):
        fitted = labeller.fit(train, options.asked, rng.derive(seed, "chosen"), run, device=best_device())
        cost = labelling_cost(fitted)
        if train.beliefs is None:
            beliefs = fitted.suggestions.posterior
    started = time.perf_counter()
    if options.by_features:
        features = fitted.networks.features(train.images.images)
        cost = replace(cost, network_evaluations=cost.network_evaluations + len(train))
    members, index = believed_members(beliefs, train.images.classes, ipc), []
    for y, own in enumerate(members):
        own_seed = rng.derive(seed, "chosen of", y)
        own = np.random.default_rng(own_seed).permutation(own)  # ties are broken at random
        of_own = np.zeros((len(own), 1), np.float32) if features is None else features[own]
        index.append(own[choose(of_own, beliefs[own, y], ipc, options.choose, own_seed)])
    chosen = np.concatenate(index).astype(np.int64)
    return assemble(
        train,
        train.images.images[chosen],
        Making(
            "chosen",
            ipc,
            options,
            seed,
            cost=replace(cost, seconds=cost.seconds + time.perf_counter() - started),
            notes={"believed_images": [len(own) for own in members]},
        ),
        source_index=chosen,
        soft_labels=beliefs[chosen] if options.soft_labels else None,
    )


def _asks(train: TrainingSet, options: Options) -> bool:
    """Whether a labeller is needed, for beliefs or features."""
    return train.beliefs is None or options.by_features
