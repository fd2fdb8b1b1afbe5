"""Mean Teacher: a network agrees with the moving average of its own weights on two views of an image.

    L = CE of the labelled images + w(t) · mean over classes of (f_θ(x) - f_θ'(x'))²,      θ' ← α θ' + (1 - α) θ

over all images, w(t) = w exp(-5 (1 - t / T)²) up to epoch T. The average is tested.
Source: Tarvainen & Valpola (2017), "Mean teachers are better role models", https://arxiv.org/abs/1703.01780,
Section 2 and Appendix B: w = 100 for the mean over classes, two unlabelled images per labelled one as in their ResNet
on 4000 labels. α = 0.99 as in their ramp-up, since runs here are no longer than that; T is 80 of 300 epochs there.
"""

from __future__ import annotations

import copy
import math

from pydantic import Field
from torch import Tensor

from condense.classifiers.arms._average import Average
from condense.classifiers.arms._partly import balanced, hidden, mixed
from condense.classifiers.label_forms import check_partly_labelled
from condense.classifiers.lesson import Given, Lesson, OfViews, side_by_side
from condense.classifiers.teacher import candidate_losses
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """Weight of the consistency loss, and decay of the average weights."""

    weight: float = Field(100.0, ge=0, description="w, final weight of the consistency loss")
    ramp: float = Field(0.25, gt=0, le=1, description="T as a fraction of the epochs")
    decay: float = Field(0.99, ge=0, lt=1, description="α, decay of the average weights; smaller in the first steps")
    ratio: int = Field(2, ge=1, description="unlabelled images per labelled one")


def check(supervision: Supervision) -> None:
    """Accepts partly missing labels."""
    check_partly_labelled("mean-teacher", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """A network and its average, each with its own view of every image."""
    student, images = given.build(0), mixed(given.supervision, options.ratio)
    teacher = copy.deepcopy(student).requires_grad_(False)
    loss = ConsistencyLoss(images.share, options.weight, options.ramp * given.epochs)
    return Lesson(
        OfViews(student, teacher),
        teacher,
        images.shown,
        images.possible,
        loss,
        side_by_side(given.weak, given.weak),
        before_epoch=loss.begin,
        after_step=Average(teacher, student, options.decay),
    )


class ConsistencyLoss:
    """The loss and its weight w(t)."""

    def __init__(self, share: float, weight: float, ramp_epochs: float) -> None:
        """`share` as in `Mixed`; the weight reaches `weight` in `ramp_epochs`."""
        self.share, self.most, self.ramp_epochs = share, weight, ramp_epochs
        self.weight = 0.0

    def begin(self, epoch: int) -> None:
        """Set w(t) for the epoch, counted from 1."""
        done = min(1.0, (epoch - 1) / self.ramp_epochs)
        self.weight = self.most * math.exp(-5 * (1 - done) ** 2)

    def __call__(self, logits: Tensor, possible: Tensor) -> Tensor:
        """L, estimated on the batch: logits [B, 2, c] of student and teacher, candidates bool [B, c]."""
        student, teacher = logits.unbind(1)
        apart = (student.softmax(1) - teacher.detach().softmax(1)).square().mean(1)
        return balanced(candidate_losses(student, possible), self.weight * apart, hidden(possible), self.share)
