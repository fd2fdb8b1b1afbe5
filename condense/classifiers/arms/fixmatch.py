"""FixMatch: confident predictions for a weakly augmented image are targets for its strongly augmented view.

    L = CE of the labelled images + λ · mean of 1[max f(x) ≥ τ] CE(argmax f(x), f(X)),      x weak view, X strong view

over all images, no gradient through f(x) in the second term.
Source: Sohn et al. (2020), "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
https://arxiv.org/abs/2001.07685, Eq. 3 and 4: τ = 0.95, λ = 1, μ = 7 unlabelled images per labelled one. Departures:
the strong view is the weak one with two of DSA's operations and Cutout, since RandAugment's colour operations
need colours; the network itself is tested, not the average of its weights, whose half-life exceeds a short run.
"""

from __future__ import annotations

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
    """Threshold and weight of the pseudo-labels."""

    threshold: float = Field(0.95, ge=0, le=1, description="τ, minimum probability of a pseudo-label")
    weight: float = Field(1.0, ge=0, description="λ, weight of the pseudo-labels")
    ratio: int = Field(7, ge=1, description="μ, unlabelled images per labelled one")


def check(supervision: Supervision) -> None:
    """Accepts partly missing labels."""
    check_partly_labelled("fixmatch", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network, two views of every image."""
    network, images = given.build(0), mixed(given.supervision, options.ratio)

    def loss(logits: Tensor, possible: Tensor) -> Tensor:
        weak, strong = logits.unbind(1)
        sure = options.weight * sure_loss(weak, strong, options.threshold)
        return balanced(candidate_losses(weak, possible), sure, hidden(possible), images.share)

    views = side_by_side(given.weak, given.strong)
    return Lesson(OfViews(network, network), network, images.shown, images.possible, loss, views)


def sure_loss(weak: Tensor, strong: Tensor, threshold: float) -> Tensor:
    """1[max f(x) ≥ τ] CE(argmax f(x), f(X)) of each image, [B], from logits [B, c] of both views."""
    surest, label = weak.detach().softmax(1).max(1)
    return (surest >= threshold) * F.cross_entropy(strong, label, reduction="none")
