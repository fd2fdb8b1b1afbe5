"""PENCIL: a label distribution of each image is learned by gradient descent together with the network.

    L = 1/c KL(f ‖ y^d) + α L_o + β/c H(f),      y^d = softmax(ỹ),      L_o = -log y^d_ŷ,      H(f) = -Σ_j f_j log f_j,
    ỹ ← ỹ - λ ∂L/∂ỹ    at every visit of an image,      initially ỹ = K e_ŷ.

Three stages: cross-entropy with the labels as given; L, with ỹ learned; KL(f ‖ y^d) / c with ỹ fixed.
Source: Yi & Wu (2019), "Probabilistic End-to-end Noise Correction for Learning with Noisy Labels",
https://arxiv.org/abs/1903.07788, Section 3 (the three losses, their sum, the update of ỹ and the training
procedure); K = 10, stages of 70, 130 and 120 of 320 epochs as there. Departures: λ applies to the loss of one image,
where theirs, 600, applies to the mean of a batch of 128; the learning rate is that of all arms, where they keep it high
until the last stage; L_o is the equation above, where their code applies a second softmax to y^d. Without that, y^d
converges to (f + α c ŷ) / (1 + α c), so with ten classes their code's α = 0.4 would keep every label: hence α = 0.1.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from condense.classifiers.label_forms import check_single, everything, observed
from condense.classifiers.lesson import Given, Lesson
from condense.data.types import Supervision
from condense.errors import UserError
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """Weights of the losses, and learning rate and stages of the label distributions."""

    compatibility: float = Field(0.1, ge=0, description="α, weight of the given label")
    entropy: float = Field(0.8, ge=0, description="β, weight of the predictions' entropy")
    rate: float = Field(600 / 128, gt=0, description="λ, learning rate of ỹ for the loss of one image")
    sharpness: float = Field(10.0, gt=0, description="K, initial ỹ of the given label")
    start: float = Field(70 / 320, ge=0, le=1, description="fraction of the epochs before distributions are learned")
    stop: float = Field(200 / 320, ge=0, le=1, description="fraction of the epochs before they are fixed")

    @model_validator(mode="after")
    def _in_order(self) -> Options:
        if self.stop < self.start:
            raise UserError(
                f"stop {self.stop:g} comes before start {self.start:g}; distributions are learned between the two."
            )
        return self


def check(supervision: Supervision) -> None:
    """Accepts single labels."""
    check_single("pencil", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network; targets are image indices, because the loss keeps a distribution for each."""
    network, numbers = given.build(0), everything(given.supervision)
    labels = observed(given.supervision).to(given.device)
    loss = Pencil(labels, given.supervision.num_classes, given.epochs, options)
    return Lesson(network, network, numbers, numbers, loss, given.weak, before_epoch=loss.begin)


class Pencil:
    """The loss of each stage with `scores`, ỹ [n, c]."""

    def __init__(self, labels: Tensor, num_classes: int, epochs: int, options: Options) -> None:
        """Start from `labels`, int64 [n], in the first of `epochs`."""
        self.labels, self.epochs, self.options = labels, epochs, options
        self.scores = options.sharpness * F.one_hot(labels, num_classes).float()
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Set the stage for the epoch, counted from 1."""
        done = (epoch - 1) / self.epochs
        self.learning = self.options.start <= done < self.options.stop
        self.corrected = done >= self.options.start

    def __call__(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """The loss averaged over the batch: logits [B, c] of the images with these indices, int64 [B]."""
        labels, options = self.labels[numbers], self.options
        if not self.corrected:
            return F.cross_entropy(logits, labels)
        scores = self.scores[numbers]
        if not self.learning:
            return divergence(logits, scores).mean() / logits.shape[1]
        step = scores_gradient(logits.detach(), scores, labels, options.compatibility)
        self.scores[numbers] = scores - options.rate * step
        return pencil_losses(logits, scores, labels, options.compatibility, options.entropy).mean()


def divergence(logits: Tensor, scores: Tensor) -> Tensor:
    """KL(f ‖ y^d) of each image, [B], from logits and ỹ, [B, c]."""
    log_f = logits.log_softmax(1)
    return (log_f.exp() * (log_f - scores.log_softmax(1))).sum(1)


def pencil_losses(logits: Tensor, scores: Tensor, labels: Tensor, alpha: float, beta: float) -> Tensor:
    """L of each image, [B], from logits and ỹ, [B, c], and labels int64 [B]."""
    log_f, num_classes = logits.log_softmax(1), logits.shape[1]
    entropy = -(log_f.exp() * log_f).sum(1)
    compatibility = F.cross_entropy(scores, labels, reduction="none")
    return (divergence(logits, scores) + beta * entropy) / num_classes + alpha * compatibility


def scores_gradient(logits: Tensor, scores: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """∂L/∂ỹ = (y^d - f) / c + α (y^d - ŷ) of each image, [B, c]."""
    y, num_classes = scores.softmax(1), logits.shape[1]
    return (y - logits.softmax(1)) / num_classes + alpha * (y - F.one_hot(labels, num_classes))
