"""K-center: real images chosen so that no image of their class is far from a chosen one.

The first is the nearest to the class mean, each further one the farthest from those chosen. It prefers unusual images,
and wrongly labelled ones are unusual in their class: expect it to suffer from noise more than random choice does.
Source: Sener & Savarese (2018), https://arxiv.org/abs/1708.00489; as a baseline of condensation in Zhao, Mopuri &
Bilen (2021), https://arxiv.org/abs/2006.05929, Table 1.
"""

from __future__ import annotations

from condense.data.types import TrainingSet
from condense.methods._coreset import CoresetOptions, coreset, looks, two_stages
from condense.methods._members import class_members
from condense.methods._select import k_center
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(CoresetOptions):
    """The network whose features distances are measured in."""


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through the network."""
    return looks(train, options)


def stages(train: TrainingSet, ipc: int, options: Options) -> list[tuple[str, int]]:
    """`evaluations`, by progress bar."""
    return two_stages(train, options, "kcenter")


def check(train: TrainingSet, ipc: int, options: Options) -> None:
    """Raise `UserError` unless every class has `ipc` images with a single label."""
    class_members(train, ipc)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """`ipc` real images per class by farthest-first choice."""
    return coreset(train, ipc, options, seed, run, method="kcenter", pick=k_center)
