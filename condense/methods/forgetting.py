"""Forgetting: the real images that a network learns and forgets again most often during training.

A forgetting event is an image classified correctly when last in a batch, and wrongly now. Images never learned count
as forgotten infinitely often. The most forgettable are kept; images with wrong labels are often never learned.
Source: Toneva et al. (2019), "An Empirical Study of Example Forgetting during Deep Neural Network Learning",
https://arxiv.org/abs/1812.05159, Algorithm 1: events are counted per batch, on augmented images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from condense.data.types import TrainingSet
from condense.methods._difficulty import DifficultyOptions, Measure, Scores, choose_by_difficulty, hardest, watched
from condense.methods._members import class_members
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(DifficultyOptions):
    """One network, for its whole training."""


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through the networks."""
    return watched(train, options)


def stages(train: TrainingSet, ipc: int, options: Options) -> list[tuple[str, int]]:
    """`evaluations`, by progress bar."""
    return [("forgetting", evaluations(train, ipc, options))]


def check(train: TrainingSet, ipc: int, options: Options) -> None:
    """Raise `UserError` unless every class has `ipc` images with a single label."""
    class_members(train, ipc)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """The `ipc` most forgettable real images of each class."""
    return choose_by_difficulty(train, ipc, options, seed, run, Measure("forgetting", Events, hardest))


class Events:
    """How often each image was forgotten, given labels int64 [n]."""

    def __init__(self, labels: Tensor) -> None:
        self._right, self._learned = torch.zeros_like(labels).bool(), torch.zeros_like(labels).bool()
        self._forgotten = torch.zeros_like(labels)
        self.tensors = {"right": self._right, "learned": self._learned, "forgotten": self._forgotten}

    def look(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Record a batch: indices of its images, each once, logits and labels."""
        right = logits.argmax(1) == labels
        self._forgotten[index] += (self._right[index] & ~right).long()
        self._learned[index] |= right
        self._right[index] = right

    def scores(self, logits: Callable[[], Tensor]) -> Scores:
        """Events of each image, infinite for those never learned: [n]."""
        return np.where(self._learned.numpy(), self._forgotten.numpy(), np.inf).astype(np.float64)
