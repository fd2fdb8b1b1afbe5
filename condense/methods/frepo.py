"""FRePo: images learned so that ridge regression on them predicts the beliefs about real images.

They start from random real images believed to be of their class. The beliefs come from `--clean-first`; without it,
the given labels are trusted. With `learn_labels` the set stores learned labels as soft labels, which are probabilities;
`labels`, by which protocols with hard labels train, remain the classes the images started from. See `_ridge.py` for the
equations.
Source: Zhou, Nezhadarya & Ba (2022), "Dataset Distillation using Neural Feature Regression",
https://arxiv.org/abs/2206.00719.
"""

from __future__ import annotations

from condense.data.types import TrainingSet
from condense.methods._ridge import RidgeOptions, evaluations_of, learn
from condense.methods._started import StartedOptions, learned_by_beliefs
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(RidgeOptions, StartedOptions):
    """Options of ridge regression, and where images start."""


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
    return learned_by_beliefs(
        train,
        ipc,
        options,
        seed,
        "frepo",
        lambda reals, start: learn(train, reals, start, ipc, options, seed, run, "frepo"),
    )
