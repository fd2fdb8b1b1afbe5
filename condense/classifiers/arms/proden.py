"""PRODEN: identifies the true class among the candidates during training.

    L = -Σ_y w_y log f_y(x),      w ← f restricted to S and renormalised    at every visit of an image,

starting from w uniform on S; no gradient through w. For an image without a label, all classes are candidates.
Source: Lv et al. (2020), "Progressive Identification of True Labels for Partial-Label Learning",
https://arxiv.org/abs/2002.08053, Eq. 5 to 8 and Algorithm 1.
"""

from __future__ import annotations

import math

from torch import Tensor

from condense.classifiers.label_forms import candidates, check_sets, everything, uniform
from condense.classifiers.lesson import Given, Lesson
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """No options."""


def check(supervision: Supervision) -> None:
    """Accepts candidate sets, alone or mixed with other labels."""
    check_sets("proden", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network; targets are image indices, because the loss keeps weights for each."""
    network, numbers = given.build(0), everything(given.supervision)
    known = given.supervision
    loss = Proden(candidates(known).to(given.device), uniform(known).to(given.device))
    return Lesson(network, network, numbers, numbers, loss, given.weak)


class Proden:
    """The loss with its `weights` [n, c]."""

    def __init__(self, possible: Tensor, weights: Tensor) -> None:
        """Start from `weights` float32 [n, c] on the candidates bool [n, c]."""
        self.possible, self.weights = possible, weights

    def __call__(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """L averaged over the batch: logits [B, c] of the images with these indices, int64 [B]."""
        before = self.weights[numbers]
        self.weights[numbers] = logits.detach().masked_fill(~self.possible[numbers], -math.inf).softmax(1)
        return -(before * logits.log_softmax(1)).sum(1).mean()
