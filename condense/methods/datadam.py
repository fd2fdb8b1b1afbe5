"""DataDAM: DM that also matches where the earlier layers attend, see `_distribution.py`.

Source: Sajedi et al. (2023), "DataDAM: Efficient Dataset Distillation with Attention Matching",
https://arxiv.org/abs/2310.00093. The defaults are those of the authors' public code.
"""

from __future__ import annotations

from pydantic import Field

from condense.data.types import TrainingSet
from condense.methods._distribution import StartedDistributionOptions, evaluations_of, match_distributions
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(StartedDistributionOptions):
    """Options of distribution matching with attention, and where images start."""

    real_batch: int = Field(64, ge=1, description="real images per class and step")
    attention: float = Field(100.0, gt=0, description="weight of the attention maps of the layers before the features")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks, real and learned."""
    return evaluations_of(train, ipc, options, believed=train.beliefs is not None)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Learn `ipc` images per class by matching mean features and mean attention maps."""
    return match_distributions(train, ipc, options, seed, run, "datadam")
