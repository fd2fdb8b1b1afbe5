"""Pseudo-labels: the network's prediction for an unlabelled image serves as its label.

    L = 1/n Σ L(y, f) + α(t) 1/n' Σ L(argmax f, f),      α rises linearly from 0 at T_1 to α_f at T_2.

Source: Lee (2013), "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks",
ICML workshop, Eq. 15 and 16: α_f = 3 and eight unlabelled images per labelled one. T_1 and T_2 are epochs 100 and
600 there, here fractions of the epochs, as runs may be short. The loss of a candidate set is -log Σ_{y in S} f_y.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.classifiers.arms._partly import balanced, hidden, mixed
from condense.classifiers.label_forms import check_partly_labelled
from condense.classifiers.lesson import Given, Lesson
from condense.classifiers.teacher import candidate_losses
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """Weight and ramp of the pseudo-labels."""

    weight: float = Field(3.0, ge=0, description="α_f, final weight of the images without a label")
    start: float = Field(0.1, ge=0, le=1, description="T_1 as a fraction of the epochs, where the ramp starts")
    full: float = Field(0.6, gt=0, le=1, description="T_2 as a fraction of the epochs, where the ramp ends")
    ratio: int = Field(8, ge=1, description="unlabelled images per labelled one")


def check(supervision: Supervision) -> None:
    """Accepts partly missing labels."""
    check_partly_labelled("pseudo-label", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network."""
    network, images = given.build(0), mixed(given.supervision, options.ratio)
    loss = PseudoLabel(images.share, options.weight, options.start * given.epochs, options.full * given.epochs)
    return Lesson(network, network, images.shown, images.possible, loss, given.weak, before_epoch=loss.begin)


class PseudoLabel:
    """The loss and its weight α(t)."""

    def __init__(self, share: float, weight: float, start: float, full: float) -> None:
        """`share` as in `Mixed`; the weight rises from 0 to `weight` between epochs `start` and `full`."""
        self.share, self.most, self.start, self.full = share, weight, start, full
        self.weight = 0.0

    def begin(self, epoch: int) -> None:
        """Set α(t) for the epoch, counted from 1."""
        done = (epoch - 1 - self.start) / max(self.full - self.start, 1e-9)
        self.weight = self.most * min(1.0, max(0.0, done))

    def __call__(self, logits: Tensor, possible: Tensor) -> Tensor:
        """L, estimated on the batch: logits [B, c], candidates bool [B, c]."""
        thought = F.cross_entropy(logits, logits.detach().argmax(1), reduction="none")
        return balanced(candidate_losses(logits, possible), self.weight * thought, hidden(possible), self.share)
