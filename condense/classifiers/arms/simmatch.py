"""SimMatch: two views agree on the class of an image and on its similarities to the labelled images.

    L = CE of the labelled images + λ · mean of 1[max p̂ ≥ τ] H(p̂, f(X)) + λ' · mean of H(q̂, q(X))
    q_i = softmax over the labelled images of z · z_i / t,      q̂_i ∝ q_i(x) Σ_c y_ic p_c,
    p̂ = α p + (1 - α) Σ_i q_i(x) y_i,

x weak view, X strong view, over all images; p = f(x), aligned to the uniform distribution over the last batches, is
unfolded over the labelled images for q̂, and q is aggregated over their classes for p̂; y_i one-hot. A memory holds an
embedding of each labelled image, z_i ← normalised m z_i + (1 - m) z. No gradient through p̂, q̂ and the memory. In the
first epoch the memory is filled, p̂ = p and the last term is left out.
Source: Zheng et al. (2022), "SimMatch: Semi-supervised Learning with Similarity Matching",
https://arxiv.org/abs/2203.06915, Section 3 (with the memory for small sets instead of a momentum encoder); α = 0.9, t
= 0.1, τ = 0.95, λ = λ' = 1, m = 0.7, μ = 7, 128 dimensions and alignment over 256 batches as there. Departures: y_i
of a candidate set is spread evenly over it; strong views are those of `fixmatch`, and the network itself is tested,
not an average.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.classifiers.arms._embedding import Embedded, matching_losses, parts
from condense.classifiers.arms._partly import RecentMean, aligned, balanced, marked, mixed, spread
from condense.classifiers.label_forms import candidates, check_partly_labelled, uniform
from condense.classifiers.lesson import Given, Lesson, OfViews, side_by_side
from condense.classifiers.teacher import candidate_losses
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """Pseudo-labels, similarities and memory."""

    weight: float = Field(1.0, ge=0, description="λ, weight of the pseudo-labels")
    similarity_weight: float = Field(1.0, ge=0, description="λ', weight of the similarities")
    threshold: float = Field(0.95, ge=0, le=1, description="τ, minimum probability of a pseudo-label")
    own: float = Field(0.9, ge=0, le=1, description="α, weight of the image's own prediction in its pseudo-label")
    temperature: float = Field(0.1, gt=0, description="t, temperature of the similarities")
    size: int = Field(128, ge=1, description="dimension of the embeddings")
    momentum: float = Field(0.7, ge=0, lt=1, description="m, momentum of the embeddings in the memory")
    alignment: int = Field(256, ge=1, description="number of batches for distribution alignment")
    ratio: int = Field(7, ge=1, description="μ, unlabelled images per labelled one")


def check(supervision: Supervision) -> None:
    """Accepts partly missing labels."""
    check_partly_labelled("simmatch", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """A network with a projection, two views of every image; targets as in `marked`."""
    network, images, known = given.build(0), mixed(given.supervision, options.ratio), given.supervision
    encoder = Embedded(network, options.size, given.seed)
    loss = SimMatch(candidates(known).to(given.device), uniform(known).to(given.device), images.share, options)
    views = side_by_side(given.weak, given.strong)
    learner = OfViews(encoder, encoder)
    # whole: the memory of a labelled image is updated once per batch
    return Lesson(learner, network, images.shown, marked(images), loss, views, whole=True, before_epoch=loss.begin)


class SimMatch:
    """The loss with its memory: `embeddings` [l, d] of the l labelled images, 0 until seen."""

    def __init__(self, possible: Tensor, labels: Tensor, share: float, options: Options) -> None:
        """Candidates bool [n, c] and the uniform distribution over them float32 [n, c]; `share` as in `Mixed`."""
        self.possible, self.share, self.options = possible, share, options
        known = np.flatnonzero(~possible.all(1).cpu().numpy())
        self.labels = labels[torch.from_numpy(known).to(labels.device)]
        self.place = torch.full((len(possible),), -1)
        self.place[known] = torch.arange(len(known))
        self.place = self.place.to(possible.device)
        self.embeddings = torch.zeros(len(known), options.size, device=possible.device)
        self.mean = RecentMean(options.alignment)
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Set whether the memory is used in the epoch, counted from 1."""
        self.filled = epoch > 1

    def __call__(self, outputs: Tensor, told: Tensor) -> Tensor:
        """L, estimated on the batch: outputs [B, 2, c + d] for both views, and targets int64 [B, 2] as in `marked`."""
        numbers, is_hidden = told[:, 0], told[:, 1].bool()
        logits, embeddings = parts(outputs, self.possible.shape[1])
        losses = candidate_losses(logits[:, 0], self.possible[numbers])
        without = torch.zeros_like(losses)
        if is_hidden.any():
            without = spread(self._hidden_losses(logits[is_hidden], embeddings[is_hidden]), is_hidden)
        places = self.place[numbers[~is_hidden]]
        self.embeddings = remembered(self.embeddings, embeddings[~is_hidden, 0].detach(), places, self.options.momentum)
        return balanced(losses, without, is_hidden, self.share)

    def _hidden_losses(self, logits: Tensor, embeddings: Tensor) -> Tensor:
        """Losses of the images without a label, [u]: logits [u, 2, c], embeddings [u, 2, d]."""
        options, f = self.options, logits[:, 0].detach().softmax(1)
        p = aligned(f, self.mean(f))
        similar = torch.zeros(len(p), device=p.device)
        if self.filled:
            near = (embeddings[:, 0].detach() @ self.embeddings.T / options.temperature).softmax(1)
            wanted = unfolded(near, p, self.labels)
            similar = matching_losses(embeddings[:, 1], self.embeddings, wanted, options.temperature)
            p = options.own * p + (1 - options.own) * near @ self.labels
        sure = p.amax(1) >= options.threshold
        guessed = sure * -(p * logits[:, 1].log_softmax(1)).sum(1)
        return options.weight * guessed + options.similarity_weight * similar


def unfolded(near: Tensor, p: Tensor, labels: Tensor) -> Tensor:
    """q̂ [u, l] from q [u, l], p [u, c] and labels [l, c]."""
    both = near * (p @ labels.T)
    return both / both.sum(1, keepdim=True).clamp_min(1e-12)


def remembered(memory: Tensor, embeddings: Tensor, places: Tensor, momentum: float) -> Tensor:
    """The memory [l, d] updated by embeddings [k, d] at places int64 [k]; those of one image are averaged first."""
    sums = torch.zeros_like(memory).index_add(0, places, embeddings.to(memory))
    counts = torch.bincount(places, minlength=len(memory))[:, None]  # [l, 1]
    moved = F.normalize(momentum * memory + (1 - momentum) * sums / counts.clamp_min(1), dim=1)
    return torch.where(counts > 0, moved, memory)
