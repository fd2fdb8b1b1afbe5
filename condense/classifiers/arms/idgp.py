"""IDGP: models how candidate sets arise from a correct label and incorrect ones added to it.

    p(S | x) = Σ_{j in S} f_j (1 - z_j) Π_{k in S, k ≠ j} z_k Π_{k not in S} (1 - z_k),
    L = -log p(S | x) - μ Σ_j d_j log f_j - ν Σ_k [b_k log z_k + (1 - b_k) log(1 - z_k)]

is the negative log posterior, where f(x) are probabilities of a categorical distribution under a Dirichlet prior with
parameters 1 + μ d_j, and z(x), from a second network, are Bernoulli probabilities of an incorrect label being added,
under Beta priors with parameters 1 + ν b_k and 1 + ν (1 - b_k). The priors come from the networks' predictions at the
last visit of the image: d ← f on S, renormalised, b ← z on S and 0 elsewhere, starting from d uniform on S and b the
indicator of S; in the first epochs L consists of the priors alone.
Source: Qiao, Xu & Geng (2023), "Decompositional Generation Process for Instance-Dependent Partial Label Learning",
https://arxiv.org/abs/2204.03845, Section 3. Departures: both networks minimise L itself, together; their code
weights the logarithms of f by p(S | j, x) and those of z by f, trains one network after the other, and adds
consistency terms. Images without a label are left out: this process did not make their candidates.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.classifiers.label_forms import candidates, check_sets, labelled, uniform
from condense.classifiers.lesson import Both, Given, Lesson
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """Strength of the priors, and epochs with the priors alone."""

    label_prior: float = Field(1.0, ge=0, description="μ, strength of the correct label's prior, in observations")
    candidate_prior: float = Field(1.0, ge=0, description="ν, strength of incorrect labels' priors, in observations")
    warm_up: float = Field(0.1, ge=0, le=1, description="fraction of the epochs with the priors alone")


def check(supervision: Supervision) -> None:
    """Accepts candidate sets, alone or mixed with other labels."""
    check_sets("idgp", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """Two networks, the first of which is tested; targets are image indices."""
    network, shown, known = given.build(0), labelled(given.supervision), given.supervision
    loss = Posterior(
        candidates(known).to(given.device),
        uniform(known).to(given.device),
        options.label_prior,
        options.candidate_prior,
        options.warm_up * given.epochs,
    )
    return Lesson(Both(network, given.build(1)), network, shown, shown, loss, given.weak, before_epoch=loss.begin)


class Posterior:
    """The loss with the memory of its priors: `labels`, d, and `added`, b, both [n, c]."""

    def __init__(
        self, possible: Tensor, labels: Tensor, label_prior: float, candidate_prior: float, warm_up: float
    ) -> None:
        """Start from d = `labels` float32 [n, c] on the candidates bool [n, c]; `warm_up` in epochs."""
        self.possible, self.labels, self.added = possible, labels, possible.float()
        self.label_prior, self.candidate_prior, self.warm_up = label_prior, candidate_prior, warm_up
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Set whether the likelihood is used in the epoch, counted from 1."""
        self.warm = epoch - 1 >= self.warm_up

    def __call__(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """L averaged over the batch: logits [B, 2, c] of f and z for the images with these indices, int64 [B]."""
        of_label, of_added = logits.unbind(1)
        possible, labels, added = self.possible[numbers], self.labels[numbers], self.added[numbers]
        self.labels[numbers] = of_label.detach().masked_fill(~possible, -math.inf).softmax(1)
        self.added[numbers] = of_added.detach().sigmoid() * possible
        losses = -self.label_prior * (labels * of_label.log_softmax(1)).sum(1)
        losses = losses + self.candidate_prior * F.binary_cross_entropy_with_logits(
            of_added, added, reduction="none"
        ).sum(1)
        return (losses - log_likelihood(of_label, of_added, possible) if self.warm else losses).mean()


def log_likelihood(of_label: Tensor, of_added: Tensor, possible: Tensor) -> Tensor:
    """Logarithm of p(S | x) of each image, [B], from the logits of f and z, [B, c], and candidates bool [B, c].

    Uses that the product over S without j is the one over S divided by z_j, and log((1 - z_j) / z_j) = -logit(z_j).
    """
    right = (of_label.log_softmax(1) - of_added).masked_fill(~possible, -math.inf).logsumexp(1)
    added = F.binary_cross_entropy_with_logits(of_added, possible.to(of_added), reduction="none").sum(1)
    return right - added
