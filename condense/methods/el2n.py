"""EL2N: the real images whose error is largest early in training.

The score of an image is E ‖softmax(f(x)) - y‖₂, the norm of the error vector, averaged over networks trained for a few
epochs; the images with the highest scores are kept. The paper prunes part of a data set with it; at low ipc it keeps
the hardest images, which are mostly those with wrong labels.
Source: Paul, Ganguli & Dziugaite (2021), "Deep Learning on a Data Diet", https://arxiv.org/abs/2107.07075, Section 2:
ten networks, their scores after 10 to 20 of 200 epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.data.types import TrainingSet
from condense.methods._difficulty import DifficultyOptions, Measure, Scores, choose_by_difficulty, hardest, watched
from condense.methods._members import class_members
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(DifficultyOptions):
    """Many networks, early in training."""

    networks: int = Field(10, ge=1, description="networks whose scores are averaged")
    epochs: int = Field(10, ge=1, description="passes over the images before scores are taken")
    schedule: Literal["step", "cosine", "constant"] = Field("constant", description="how the learning rate falls")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through the networks: in training, and once for their scores."""
    return watched(train, options) + options.networks * int(train.supervision.single.sum())


def stages(train: TrainingSet, ipc: int, options: Options) -> list[tuple[str, int]]:
    """`evaluations`, by progress bar."""
    return [("el2n", evaluations(train, ipc, options))]


def check(train: TrainingSet, ipc: int, options: Options) -> None:
    """Raise `UserError` unless every class has `ipc` images with a single label."""
    class_members(train, ipc)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """The `ipc` real images of each class with the largest errors."""
    return choose_by_difficulty(train, ipc, options, seed, run, Measure("el2n", Errors, hardest, looks_after=1))


class Errors:
    """The errors of a trained network on images with given labels int64 [n]."""

    def __init__(self, labels: Tensor) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._labels = labels

    def look(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Record nothing during training."""

    def scores(self, logits: Callable[[], Tensor]) -> Scores:
        """`error_norms` of all images: [n]."""
        return np.asarray(error_norms(logits(), self._labels).double().numpy())


def error_norms(logits: Tensor, labels: Tensor) -> Tensor:
    """‖softmax(f) - y‖₂ of each image, [n]: logits [n, c], labels int64 [n]."""
    norms: Tensor = (logits.softmax(1) - F.one_hot(labels, logits.shape[1])).norm(dim=1)
    return norms
