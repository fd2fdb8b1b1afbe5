"""Herding: real images chosen greedily so that their mean features match those of their class.

Source: Welling (2009), https://doi.org/10.1145/1553374.1553517; as a baseline of condensation in Zhao, Mopuri &
Bilen (2021), https://arxiv.org/abs/2006.05929, Table 1.
"""

from __future__ import annotations

from condense.data.types import TrainingSet
from condense.methods._coreset import CoresetOptions, coreset, looks, two_stages
from condense.methods._members import class_members
from condense.methods._select import herding
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(CoresetOptions):
    """The network whose features are matched."""


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through the network."""
    return looks(train, options)


def stages(train: TrainingSet, ipc: int, options: Options) -> list[tuple[str, int]]:
    """`evaluations`, by progress bar."""
    return two_stages(train, options, "herding")


def check(train: TrainingSet, ipc: int, options: Options) -> None:
    """Raise `UserError` unless every class has `ipc` images with a single label."""
    class_members(train, ipc)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """`ipc` real images per class by greedy mean matching."""
    return coreset(train, ipc, options, seed, run, method="herding", pick=herding)
