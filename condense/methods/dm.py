"""DM: learned images whose mean features match those of real images, see `_distribution.py`.

Source: Zhao & Bilen (2023), "Dataset Condensation with Distribution Matching", https://arxiv.org/abs/2110.04181.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from condense.data.types import TrainingSet
from condense.machine import best_device
from condense.methods._believed import believed_images
from condense.methods._distribution import DistributionOptions, evaluations_of, learn
from condense.methods._pixels import UNIT_RANGE, RealImages, check_single_labels, check_square, initial_images
from condense.preprocessing import standardisation
from condense.run import Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet


class Options(DistributionOptions):
    """Options of distribution matching, and where images start."""

    init: Literal["noise", "real"] = Field("real", description="where images start: noise or real")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks, real and learned."""
    return evaluations_of(train, ipc, options, believed=train.beliefs is not None)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Learn `ipc` images per class by matching mean features.

    Raises:
        UserError: labels are partial or missing and no beliefs are given, a class has too few images, or the
            checkpoint is another run's.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """
    check_ipc(ipc, train)
    preprocessing = standardisation(train.images.images)
    least, patches = (ipc, options.pack**2) if options.init == "real" else (1, 1)
    if train.beliefs is None:
        check_single_labels(train)
        reals = RealImages(train, preprocessing, least, best_device(), patches=patches)
    else:
        check_square(train)
        reals = believed_images(train, preprocessing, least, patches=patches)
    start = initial_images(reals, ipc, options.init, seed, options.pack)
    learned = learn(train, reals, start, options, seed, run, "dm")
    return assemble(
        train,
        learned.pixels,
        Making("dm", ipc, options, seed, cost=learned.cost, notes=learned.notes, pack=options.pack),
        preprocessing=preprocessing,
        value_range=UNIT_RANGE,
    )
