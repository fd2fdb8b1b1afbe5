"""Early-learning regularisation: keeps predictions near those made before the network memorises wrong labels.

    L = -log f_ŷ + λ log(1 - ⟨f, t⟩),      t ← β t + (1 - β) f    at every visit of an image, without gradient.

Source: Liu et al. (2020), "Early-Learning Regularization Prevents Memorization of Noisy Labels",
https://arxiv.org/abs/2007.00151, Section 4; λ = 3 and β = 0.7 as there for CIFAR-10 with symmetric noise.
The memory t starts at 0, as in their code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.classifiers.label_forms import check_single, everything, observed
from condense.classifiers.lesson import Given, Lesson
from condense.data.types import Supervision
from condense.options import Options as BaseOptions

_MOST = 1 - 1e-4  # largest probability, as in the authors' code: the logarithm stays finite


class Options(BaseOptions):
    """Weight of the regulariser, and momentum of the average predictions."""

    strength: float = Field(3.0, ge=0, description="λ, weight of the regulariser")
    momentum: float = Field(0.7, ge=0, lt=1, description="β, momentum of the moving average of predictions")


def check(supervision: Supervision) -> None:
    """Accepts single labels."""
    check_single("elr", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network; targets are image indices, because the loss keeps an average for each."""
    network, numbers = given.build(0), everything(given.supervision)
    labels = observed(given.supervision).to(given.device)
    loss = EarlyLearning(labels, given.supervision.num_classes, options.strength, options.momentum)
    return Lesson(network, network, numbers, numbers, loss, given.weak)


class EarlyLearning:
    """The loss with its memory, `remembered` [n, c]."""

    def __init__(self, labels: Tensor, num_classes: int, strength: float, momentum: float) -> None:
        """Start with an empty memory of images with `labels`, int64 [n]."""
        self.labels, self.strength, self.momentum = labels, strength, momentum
        self.remembered = torch.zeros(len(labels), num_classes, device=labels.device)

    def __call__(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """L averaged over the batch: logits [B, c] of the images with these indices, int64 [B]."""
        seen = logits.detach().softmax(1).clamp(1 - _MOST, _MOST)
        before = self.remembered[numbers]
        now = self.momentum * before + (1 - self.momentum) * seen / seen.sum(1, keepdim=True)
        self.remembered[numbers] = now
        return elr_loss(logits, self.labels[numbers], now, self.strength)


def elr_loss(logits: Tensor, labels: Tensor, remembered: Tensor, strength: float) -> Tensor:
    """L averaged over the batch: logits [B, c], labels int64 [B], t [B, c]."""
    alike = (logits.softmax(1).clamp(1 - _MOST, _MOST) * remembered).sum(1)
    return F.cross_entropy(logits, labels) + strength * torch.log1p(-alike).mean()
