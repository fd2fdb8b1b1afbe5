"""SoftMatch: every pseudo-label is used, with a weight that decreases the further its confidence is below the mean.

    L = CE of the labelled images + λ · mean of w(p) CE(argmax f(x), f(X)),
    w(p) = exp(-k² (max p - μ)² / (2 σ²)) where max p < μ, else 1,

x weak view, X strong view, p = f(x) / E[f], renormalised (uniform alignment). μ and σ² are moving averages of mean and
unbiased variance of max p over the unlabelled images of a batch, from 1/c and 1; E[f] is one of f(x).
Source: Chen et al. (2023), "SoftMatch: Addressing the Quantity-Quality Trade-off in Semi-Supervised Learning",
https://arxiv.org/abs/2301.10921, Section 3 (truncated Gaussian weights, their moving averages, uniform alignment);
k = 2, λ = 1 as there. Departures: the momentum of the averages is 0.99, not 0.999, since runs are shorter; strong
views are those of `fixmatch`, and the network itself is tested, not an average.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.classifiers.arms._partly import aligned, balanced, hidden, mixed
from condense.classifiers.label_forms import check_partly_labelled
from condense.classifiers.lesson import Given, Lesson, OfViews, side_by_side
from condense.classifiers.teacher import candidate_losses
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """Weights of the pseudo-labels, and momentum of their mean and variance."""

    weight: float = Field(1.0, ge=0, description="λ, weight of the pseudo-labels")
    ratio: int = Field(7, ge=1, description="μ, unlabelled images per labelled one")
    sharpness: float = Field(2.0, gt=0, description="k: weights decrease as if σ were divided by k")
    momentum: float = Field(0.99, ge=0, lt=1, description="momentum of the averages of mean, variance and E[f]")


def check(supervision: Supervision) -> None:
    """Accepts partly missing labels."""
    check_partly_labelled("softmatch", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network, two views of every image."""
    network, images = given.build(0), mixed(given.supervision, options.ratio)
    loss = SoftMatch(given.supervision.num_classes, images.share, options, given.device)
    views = side_by_side(given.weak, given.strong)
    learner = OfViews(network, network)
    # whole: mean and variance are taken over the batch
    return Lesson(learner, network, images.shown, images.possible, loss, views, whole=True)


class SoftMatch:
    """The loss with its averages: `mean` and `variance` of max p, and `expected`, E[f] [c]."""

    def __init__(self, num_classes: int, share: float, options: Options, device: torch.device) -> None:
        """`share` as in `Mixed`."""
        self.share, self.options = share, options
        self.mean = torch.tensor(1 / num_classes, device=device)
        self.variance = torch.tensor(1.0, device=device)
        self.expected = torch.full((num_classes,), 1 / num_classes, device=device)

    def __call__(self, logits: Tensor, possible: Tensor) -> Tensor:
        """L, estimated on the batch: logits [B, 2, c] of both views, candidates bool [B, c]."""
        weak, strong = logits.unbind(1)
        is_hidden, f = hidden(possible), weak.detach().softmax(1)
        self._follow(f[is_hidden])
        weights = gaussian(aligned(f, self.expected).amax(1), self.mean, self.variance, self.options.sharpness)
        guessed = weights * F.cross_entropy(strong, f.argmax(1), reduction="none")
        return balanced(candidate_losses(weak, possible), self.options.weight * guessed, is_hidden, self.share)

    def _follow(self, f: Tensor) -> None:
        """Update the averages by predictions [u, c] for a batch's unlabelled images; skipped if u < 2 (no variance)."""
        if len(f) < 2:
            return
        new = 1 - self.options.momentum
        self.expected = self.expected.lerp(f.mean(0), new)
        surest = aligned(f, self.expected).amax(1)
        self.mean = self.mean.lerp(surest.mean(), new)
        self.variance = self.variance.lerp(surest.var(), new)


def gaussian(surest: Tensor, mean: Tensor, variance: Tensor, sharpness: float) -> Tensor:
    """Weights w of each image, [B], from max p [B]."""
    below = (surest - mean).clamp_max(0)
    return torch.exp(-(sharpness**2) * below.square() / (2 * variance))
