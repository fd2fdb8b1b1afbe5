"""CRDPLL: predictions avoid classes outside the candidates, and all views agree on one distribution over these.

    L = -Σ_{k not in S} log(1 - f_k(x)) + Ψ(t) Σ_{z in A(x)} KL(q ‖ f(z)),      Ψ(t) = λ min(t / T', 1),
    q_k = Π_{z in A(x)} f_k(z)^{1/|A|} on S, renormalised, 0 elsewhere    at every visit of an image,

starting from q uniform on S; A(x) is the weak view x and two strong ones; no gradient through q, the "conformal label
distribution" that minimises the sum of divergences. For an image without a label, all classes are candidates.
Source: Wu, Wang & Zhang (2022), "Revisiting Consistency Regularization for Deep Partial Label Learning", ICML,
https://proceedings.mlr.press/v162/wu22l.html, Section 3; λ = 1 and T' = 100 of 200 epochs as there. Departures:
strong views are those of `fixmatch`, not AutoAugment with Cutout.
"""

from __future__ import annotations

import math

from pydantic import Field
from torch import Tensor

from condense.classifiers.label_forms import candidates, check_sets, everything, uniform
from condense.classifiers.lesson import Given, Lesson, OfViews, side_by_side
from condense.data.types import Supervision
from condense.options import Options as BaseOptions

_LEAST = 1e-7  # lower bound of 1 - f_k, which keeps the logarithm finite


class Options(BaseOptions):
    """Weight and ramp of the consistency loss."""

    weight: float = Field(1.0, ge=0, description="λ, final weight of the consistency")
    ramp: float = Field(0.5, gt=0, le=1, description="T' as a fraction of the epochs: from here on it has full weight")


def check(supervision: Supervision) -> None:
    """Accepts candidate sets, alone or mixed with other labels."""
    check_sets("crdpll", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network, three views of every image; targets are image indices."""
    network, numbers, known = given.build(0), everything(given.supervision), given.supervision
    possible, beliefs = candidates(known).to(given.device), uniform(known).to(given.device)
    loss = Consistency(possible, beliefs, options.weight, options.ramp * given.epochs)
    views = side_by_side(given.weak, given.strong, given.strong)
    learner = OfViews(network, network, network)
    return Lesson(learner, network, numbers, numbers, loss, views, before_epoch=loss.begin)


class Consistency:
    """The loss with its `beliefs`, q [n, c], and its weight Ψ(t)."""

    def __init__(self, possible: Tensor, beliefs: Tensor, weight: float, ramp_epochs: float) -> None:
        """Start from `beliefs` float32 [n, c] on the candidates bool [n, c]; Ψ reaches `weight` in `ramp_epochs`."""
        self.possible, self.beliefs, self.most, self.ramp_epochs = possible, beliefs, weight, ramp_epochs
        self.weight = 0.0

    def begin(self, epoch: int) -> None:
        """Set Ψ(t) for the epoch, counted from 1."""
        self.weight = self.most * min(1.0, (epoch - 1) / self.ramp_epochs)

    def __call__(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """L averaged over the batch: logits [B, 3, c] of the images with these indices, int64 [B]."""
        possible, before = self.possible[numbers], self.beliefs[numbers]
        self.beliefs[numbers] = conformal(logits.detach(), possible)
        apart = (before.xlogy(before)[:, None] - before[:, None] * logits.log_softmax(2)).sum((1, 2))
        return (exclusion_losses(logits[:, 0], possible) + self.weight * apart).mean()


def exclusion_losses(logits: Tensor, possible: Tensor) -> Tensor:
    """-Σ_{k not in S} log(1 - f_k) of each image, [B]: logits [B, c], candidates bool [B, c]."""
    return -((1 - logits.softmax(1)).clamp_min(_LEAST).log() * ~possible).sum(1)


def conformal(logits: Tensor, possible: Tensor) -> Tensor:
    """The geometric mean of the views' predictions, renormalised on the candidates: logits [B, V, c] to [B, c]."""
    return logits.log_softmax(2).mean(1).masked_fill(~possible, -math.inf).softmax(1)
