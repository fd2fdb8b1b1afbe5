"""FlexMatch: FixMatch with a threshold for each class, lower while the class is learned poorly.

    L = CE of the labelled images + λ · mean of 1[max f(x) ≥ τ M(β_c)] CE(c, f(X)),      c = argmax f(x),
    β_c = σ_c / max(max_c' σ_c', n - Σ_c' σ_c'),      M(β) = β / (2 - β),

x weak view, X strong view; σ_c counts the images whose last confident prediction, max f(x) ≥ τ, was class c; n is the
number of images, so β stays low while most have had no confident prediction (warm-up of the thresholds).
Source: Zhang et al. (2021), "FlexMatch: Boosting Semi-Supervised Learning with Curriculum Pseudo Labeling",
https://arxiv.org/abs/2110.08263, Section 3 and Algorithm 1; τ = 0.95, λ = 1, μ = 7 and the convex M as there.
Departures: strong views are those of `fixmatch`, and the network itself is tested, not an average.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.classifiers.arms._partly import balanced, marked, mixed
from condense.classifiers.label_forms import candidates, check_partly_labelled
from condense.classifiers.lesson import Given, Lesson, OfViews, side_by_side
from condense.classifiers.teacher import candidate_losses
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """Threshold and weight of the pseudo-labels."""

    threshold: float = Field(0.95, ge=0, le=1, description="τ, minimum probability of pseudo-labels of a learned class")
    weight: float = Field(1.0, ge=0, description="λ, weight of the pseudo-labels")
    ratio: int = Field(7, ge=1, description="μ, unlabelled images per labelled one")


def check(supervision: Supervision) -> None:
    """Accepts partly missing labels."""
    check_partly_labelled("flexmatch", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network, two views of every image; targets as in `marked`, because the loss keeps confident predictions."""
    network, images = given.build(0), mixed(given.supervision, options.ratio)
    loss = Curriculum(candidates(given.supervision).to(given.device), images.share, options.threshold, options.weight)
    views = side_by_side(given.weak, given.strong)
    return Lesson(OfViews(network, network), network, images.shown, marked(images), loss, views)


class Curriculum:
    """The loss with `sure`, int64 [n]: the last confidently predicted class of each image, -1 for none."""

    def __init__(self, possible: Tensor, share: float, threshold: float, weight: float) -> None:
        """Candidates bool [n, c]; `share` as in `Mixed`."""
        self.possible, self.share, self.threshold, self.weight = possible, share, threshold, weight
        self.sure = torch.full((len(possible),), -1, device=possible.device)

    def __call__(self, logits: Tensor, told: Tensor) -> Tensor:
        """L, estimated on the batch: logits [B, 2, c] of both views, and targets int64 [B, 2] as in `marked`."""
        weak, strong = logits.unbind(1)
        numbers, is_hidden = told[:, 0], told[:, 1].bool()
        surest, label = weak.detach().softmax(1).max(1)
        least = self.threshold * flexible(self.sure, self.possible.shape[1])
        guessed = (surest >= least[label]) * F.cross_entropy(strong, label, reduction="none")
        new = is_hidden & (surest >= self.threshold)
        self.sure[numbers[new]] = label[new]
        losses = candidate_losses(weak, self.possible[numbers])
        return balanced(losses, self.weight * guessed, is_hidden, self.share)


def flexible(sure: Tensor, num_classes: int) -> Tensor:
    """M(β) of each class, [c], from the confidently predicted classes, int64 [n] with -1 for none."""
    counts = (sure[:, None] == torch.arange(num_classes, device=sure.device)).sum(0)  # σ
    beta = counts / torch.maximum(counts.max(), (sure < 0).sum())
    return beta / (2 - beta)
