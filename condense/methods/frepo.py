"""FRePo: images learned so that ridge regression on them predicts the beliefs about real images.

They start from random real images believed to be of their class. The beliefs come from `--clean-first`; without it,
the given labels are trusted. With `learn_labels` the set stores learned labels as soft labels, which are probabilities;
`labels`, by which protocols with hard labels train, remain the classes the images started from. See `_ridge.py` for the
equations.
Source: Zhou, Nezhadarya & Ba (2022), "Dataset Distillation using Neural Feature Regression",
https://arxiv.org/abs/2206.00719.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from condense.data.types import TrainingSet
from condense.methods._believed import believed_images
from condense.methods._pixels import UNIT_RANGE, check_square, initial_images
from condense.methods._ridge import RidgeOptions, evaluations_of, learn
from condense.preprocessing import standardisation
from condense.run import Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet


class Options(RidgeOptions):
    """Options of ridge regression, and where images start."""

    init: Literal["noise", "real"] = Field("real", description="where images start: noise or real")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks, real and learned."""
    return evaluations_of(train, ipc, options)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Learn `ipc` images per class.

    Raises:
        UserError: images are not square, too few of them may be of a class, or the checkpoint is another run's.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """
    check_ipc(ipc, train)
    check_square(train)
    preprocessing = standardisation(train.images.images)
    least, patches = (ipc, options.pack**2) if options.init == "real" else (1, 1)
    reals = believed_images(train, preprocessing, least, patches=patches)
    start = initial_images(reals, ipc, options.init, seed, options.pack)
    learned = learn(train, reals, start, ipc, options, seed, run, "frepo")
    return assemble(
        train,
        learned.pixels,
        Making("frepo", ipc, options, seed, cost=learned.cost, notes=learned.notes, pack=options.pack),
        preprocessing=preprocessing,
        value_range=UNIT_RANGE,
        soft_labels=learned.soft_labels,
    )
