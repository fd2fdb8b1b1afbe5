"""Co-teaching: two networks, each trained on the images of a batch that the other finds easy.

In epoch t both keep a fraction R(t) = 1 - min(τ, τ (t - 1) / T_k) of every batch, the images of smallest loss in the
other network. The first network is tested.
Source: Han et al. (2018), "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels",
https://arxiv.org/abs/1804.06872, Algorithm 1. Departures: the fraction of wrong labels τ, known in the paper, is
estimated beforehand unless given; T_k, 10 of 200 epochs there, is a fraction of the epochs, as runs may be short.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.classifiers.label_forms import check_single, everything, observed
from condense.classifiers.lesson import Both, Given, Lesson
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """How many images are left out."""

    noise_rate: Annotated[float, Field(ge=0, lt=1)] | Literal["estimate"] = Field(
        "estimate", description="τ, fraction of wrong labels, if known; else estimate"
    )
    ramp: float = Field(0.25, gt=0, le=1, description="T_k as a fraction of the epochs")


def check(supervision: Supervision) -> None:
    """Accepts single labels."""
    check_single("co-teaching", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """Two networks that see the same batches."""
    first, second = given.build(0), given.build(1)
    rate = given.noise_rate() if options.noise_rate == "estimate" else options.noise_rate
    loss = CoTeaching(rate, options.ramp * given.epochs)
    return Lesson(
        Both(first, second),
        first,
        everything(given.supervision),
        observed(given.supervision),
        loss,
        given.weak,
        whole=True,  # the easy images are chosen within the batch
        before_epoch=loss.begin,
    )


class CoTeaching:
    """The loss of both networks, and how many images they keep."""

    def __init__(self, noise_rate: float, ramp_epochs: float) -> None:
        self.noise_rate, self.ramp_epochs = noise_rate, ramp_epochs
        self.kept = 1.0

    def begin(self, epoch: int) -> None:
        """Set R(t) for the epoch, counted from 1."""
        self.kept = 1 - self.noise_rate * min(1.0, (epoch - 1) / self.ramp_epochs)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of both losses: logits [B, 2, c], labels int64 [B]."""
        return co_teaching_loss(logits, labels, self.kept)


def co_teaching_loss(logits: Tensor, labels: Tensor, kept: float) -> Tensor:
    """Sum of both networks' mean cross-entropy over the other's images of smallest loss: logits [B, 2, c]."""
    losses = F.cross_entropy(logits.transpose(1, 2), labels[:, None].expand(-1, 2), reduction="none")  # [B, 2]
    easiest = losses.detach().argsort(0)[: max(1, int(kept * len(labels)))]  # [k, 2]
    return losses[easiest[:, 1], 0].mean() + losses[easiest[:, 0], 1].mean()
