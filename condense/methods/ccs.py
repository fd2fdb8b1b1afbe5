"""CCS: real images of every difficulty but the hardest, which mostly have wrong labels.

Difficulty is low area under the margin (AUM): the mean over training of z_y - max_{k ≠ y} z_k. Of each class the
hardest share β is dropped; the range of the rest is divided into strata of equal width, and the budget is shared among
them, the smallest stratum first: each gives min(its size, ⌊remaining budget / remaining strata⌋), drawn at random.
Source: Zheng et al. (2023), "Coverage-centric Coreset Selection for High Pruning Rates",
https://arxiv.org/abs/2210.15809, Algorithm 1, with its 50 strata and AUM; β is 0.3 at its highest pruning rate. AUM:
Pleiss et al. (2020), https://arxiv.org/abs/2001.10528, Eq. 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from condense.data.types import Labels, TrainingSet
from condense.methods._difficulty import DifficultyOptions, Measure, Scores, choose_by_difficulty, watched
from condense.methods._members import class_members
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(DifficultyOptions):
    """The network, and the use of its margins."""

    cutoff: float = Field(0.3, ge=0, lt=1, description="beta, share of each class's images dropped as the hardest")
    strata: int = Field(50, ge=1, description="parts of equal width that the margins of a class are divided into")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through the networks."""
    return watched(train, options)


def stages(train: TrainingSet, ipc: int, options: Options) -> list[tuple[str, int]]:
    """`evaluations`, by progress bar."""
    return [("ccs", evaluations(train, ipc, options))]


def check(train: TrainingSet, ipc: int, options: Options) -> None:
    """Raise `UserError` unless every class has `ipc` images with a single label."""
    class_members(train, ipc)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """`ipc` real images per class over all margins but the lowest."""

    def pick(areas: Scores, count: int, generator: np.random.Generator) -> Labels:
        return stratified(areas, count, options.cutoff, options.strata, generator)

    return choose_by_difficulty(train, ipc, options, seed, run, Measure("ccs", Margins, pick))


class Margins:
    """The mean margin over training of each image, given labels int64 [n]."""

    def __init__(self, labels: Tensor) -> None:
        self._sums, self._looks = torch.zeros(len(labels), dtype=torch.float64), torch.zeros_like(labels)
        self.tensors = {"sums": self._sums, "looks": self._looks}

    def look(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Record a batch: indices of its images, each once, logits and labels."""
        own = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        self._sums[index] += (own - others).double()
        self._looks[index] += 1

    def scores(self, logits: Callable[[], Tensor]) -> Scores:
        """AUM of each image: [n]."""
        return np.asarray((self._sums / self._looks).numpy(), dtype=np.float64)


def stratified(areas: Scores, count: int, cutoff: float, strata: int, generator: np.random.Generator) -> Labels:
    """Indices of `count` images, int64: none of the hardest, the others by strata of equal width.

    Args:
        areas: AUM [m]; hard images have low values.
        count: at most m.
        cutoff: share to drop, leaving at least `count` images.
        strata: number of strata.
        generator: source of randomness within strata.
    """
    kept = np.argsort(areas, kind="stable")[min(int(cutoff * len(areas)), len(areas) - count) :]
    low, high = areas[kept].min(), areas[kept].max()
    width = (high - low) / strata or 1.0
    stratum = np.minimum(((areas[kept] - low) / width).astype(np.int64), strata - 1)
    parts = sorted((kept[stratum == k] for k in np.unique(stratum)), key=len)
    chosen: list[Labels] = []
    left = count
    for number, part in enumerate(parts):
        taken = min(len(part), left // (len(parts) - number))
        chosen.append(generator.choice(part, taken, replace=False))
        left -= taken
    return np.concatenate(chosen).astype(np.int64)
