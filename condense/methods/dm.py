"""DM: learned images whose mean features match those of real images, see `_distribution.py`.

Source: Zhao & Bilen (2023), "Dataset Condensation with Distribution Matching", https://arxiv.org/abs/2110.04181.
"""

from __future__ import annotations

from condense.data.types import TrainingSet
from condense.methods._distribution import StartedDistributionOptions, evaluations_of, match_distributions
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(StartedDistributionOptions):
    """Options of distribution matching, and where images start."""


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks, real and learned."""
    return evaluations_of(train, ipc, options, believed=train.beliefs is not None)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Learn `ipc` images per class by matching mean features."""
    return match_distributions(train, ipc, options, seed, run, "dm")
