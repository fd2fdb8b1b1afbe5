"""Generalised cross-entropy: between cross-entropy (q to 0) and mean absolute error (q = 1).

    L_q = (1 - f_ŷ(x)^q) / q

Source: Zhang & Sabuncu (2018), "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels",
https://arxiv.org/abs/1805.07836, Eq. 6; q = 0.7 as there, without the truncation of its Section 3.3.
"""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from condense.classifiers.label_forms import check_single, everything, observed
from condense.classifiers.lesson import Given, Lesson
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """The exponent."""

    q: float = Field(0.7, gt=0, le=1, description="1 is mean absolute error (divided by 2), near 0 cross-entropy")


def check(supervision: Supervision) -> None:
    """Accepts single labels."""
    check_single("gce", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network."""
    network = given.build(0)
    loss = partial(gce_loss, q=options.q)
    return Lesson(network, network, everything(given.supervision), observed(given.supervision), loss, given.weak)


def gce_loss(logits: Tensor, labels: Tensor, q: float) -> Tensor:
    """L_q averaged over the batch: logits [B, c], labels int64 [B], q in (0, 1]."""
    log_f = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    return (-torch.expm1(q * log_f) / q).mean()
