"""Dash: pseudo-labels are used while their loss is below a threshold that decreases during training.

    L = CE of the labelled images + λ · mean of 1[H(y, f(x)) ≤ ρ_t] H(y, f(X)),      ρ_t = max(C γ^-(t-1) ρ̂, ρ_min),

over all images, x weak view, X strong view, no gradient through f(x); y = f(x)^(1/T), renormalised, or argmax f(x) once
ρ_t is ρ_min. ρ̂ is the mean loss of the labelled images after a warm-up on these alone.
Source: Xu et al. (2021), "Dash: Semi-Supervised Learning with Dynamic Thresholding", https://arxiv.org/abs/2109.00650,
Section 4 and Algorithm 1; C = 1.0001, γ = 1.27, ρ_min = 0.05, T = 0.5 as there; ρ_t decreases every 10 of 1024 epochs
as in the library USB, here every same fraction of the epochs. Departures: ρ̂ is the mean over the last epoch of the
warm-up, while the network still learns; strong views are those of `fixmatch`, and the network itself is tested, not
an average.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.classifiers.arms._partly import balanced, hidden, mixed
from condense.classifiers.label_forms import check_partly_labelled
from condense.classifiers.lesson import Given, Lesson, OfViews, side_by_side
from condense.classifiers.teacher import candidate_losses
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """The threshold and its decrease."""

    weight: float = Field(1.0, ge=0, description="λ, weight of the pseudo-labels")
    ratio: int = Field(7, ge=1, description="unlabelled images per labelled one")
    temperature: float = Field(0.5, gt=0, description="T, sharpens soft pseudo-labels")
    scale: float = Field(1.0001, ge=1, description="C, factor of the threshold")
    fall: float = Field(1.27, gt=1, description="γ, divisor of the threshold at each decrease")
    least: float = Field(0.05, gt=0, description="ρ_min, final threshold, from which on pseudo-labels are hard")
    every: float = Field(10 / 1024, gt=0, le=1, description="fraction of the epochs between decreases")
    warm_up: float = Field(0.1, gt=0, le=1, description="fraction of the epochs on labelled images alone")


def check(supervision: Supervision) -> None:
    """Accepts partly missing labels."""
    check_partly_labelled("dash", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network, two views of every image."""
    network, images = given.build(0), mixed(given.supervision, options.ratio)
    loss = Dash(images.share, given.epochs, options)
    views = side_by_side(given.weak, given.strong)
    learner = OfViews(network, network)
    return Lesson(learner, network, images.shown, images.possible, loss, views, before_epoch=loss.begin)


class Dash:
    """The loss and its `threshold`, which is None during the warm-up."""

    def __init__(self, share: float, epochs: int, options: Options) -> None:
        """`share` as in `Mixed`."""
        self.share, self.options, self.every = share, options, options.every * epochs
        self.warm_up = max(1, round(options.warm_up * epochs))
        self.threshold: float | None = None
        self.first = 0.0
        self.total, self.count = 0.0, 0

    def begin(self, epoch: int) -> None:
        """Set the threshold for the epoch, counted from 1."""
        if epoch == self.warm_up + 1:
            self.first = self.total / max(1, self.count)
        if epoch > self.warm_up:
            self.threshold = threshold(self.first, int((epoch - self.warm_up - 1) / self.every), self.options)
        self.total, self.count = 0.0, 0

    def __call__(self, logits: Tensor, possible: Tensor) -> Tensor:
        """L, estimated on the batch: logits [B, 2, c] of both views, candidates bool [B, c]."""
        weak, strong = logits.unbind(1)
        labelled, is_hidden = candidate_losses(weak, possible), hidden(possible)
        if self.threshold is None:
            self.total += float(labelled.detach()[~is_hidden].sum())
            self.count += int((~is_hidden).sum())
            return balanced(labelled, torch.zeros_like(labelled), is_hidden, self.share)
        hard = self.threshold <= self.options.least
        guessed = self.options.weight * guessed_losses(
            weak, strong, self.threshold, self.options.temperature, hard=hard
        )
        return balanced(labelled, guessed, is_hidden, self.share)


def threshold(first: float, falls: int, options: Options) -> float:
    """ρ_t after `falls` decreases from ρ̂ = `first`."""
    return max(options.least, options.scale * first * options.fall**-falls)


def guessed_losses(weak: Tensor, strong: Tensor, most: float, temperature: float, *, hard: bool) -> Tensor:
    """1[H(y, f(x)) ≤ ρ] H(y, f(X)) of each image, [B], from logits [B, c] of both views and ρ = `most`."""
    log_f = weak.detach().log_softmax(1)
    y = F.one_hot(log_f.argmax(1), log_f.shape[1]).to(log_f) if hard else (log_f / temperature).softmax(1)
    counted = -(y * log_f).sum(1) <= most
    return counted * -(y * strong.log_softmax(1)).sum(1)
