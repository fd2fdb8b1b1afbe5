"""CoMatch: pseudo-labels are smoothed over neighbours in embedding, and embeddings follow a graph of pseudo-labels.

    L = CE of the labelled images + λ · mean of 1[max q ≥ τ] H(q, f(X)) + λ' · mean of H(Ŵ^q_b, Ŵ^z_b)
    q_b = α p_b + (1 - α) Σ_k a_k p_k,      a = softmax over the memory of z_b · z_k / t
    W^q_bj = 1 for j = b, q_b · q_j where that is ≥ T, else 0;      W^z_bj = exp(z(X_b) · z(X'_j) / t)

over the unlabelled images of a batch, Ŵ with rows summing to 1; x weak view, X and X' strong ones; p_b = f(x),
aligned to the uniform distribution over the last batches. The memory holds embeddings of weak views with p_k, or the
label; no gradient through q.
Source: Li, Xiong & Hoi (2021), "CoMatch: Semi-supervised Learning with Contrastive Graph Regularization",
https://arxiv.org/abs/2011.11183, Section 3; α = 0.9, t = 0.2, T = 0.8, τ = 0.95, λ = λ' = 1, μ = 7, 64 dimensions, a
memory of five batches and alignment over 32 as there. Departures: the batch size is that of all arms, so memory and
graph are smaller; the label of a candidate set is spread evenly over it; strong views are those of `fixmatch`, and the
network itself is tested, not an average.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from condense.classifiers.arms._embedding import Embedded, Queue, matching_losses, parts
from condense.classifiers.arms._partly import RecentMean, aligned, balanced, marked, mixed, spread
from condense.classifiers.label_forms import candidates, check_partly_labelled, uniform
from condense.classifiers.lesson import Given, Lesson, OfViews, side_by_side
from condense.classifiers.teacher import candidate_losses
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """Pseudo-labels, graph and memory."""

    weight: float = Field(1.0, ge=0, description="λ, weight of the pseudo-labels")
    graph_weight: float = Field(1.0, ge=0, description="λ', weight of the graph")
    threshold: float = Field(0.95, ge=0, le=1, description="τ, minimum probability of a pseudo-label")
    edge: float = Field(0.8, ge=0, le=1, description="T, minimum similarity of pseudo-labels in the graph")
    own: float = Field(0.9, ge=0, le=1, description="α, weight of the image's own prediction in its pseudo-label")
    temperature: float = Field(0.2, gt=0, description="t, temperature of the similarities")
    size: int = Field(64, ge=1, description="dimension of the embeddings")
    memory: int = Field(5, ge=1, description="number of batches whose embeddings are kept")
    alignment: int = Field(32, ge=1, description="number of batches for distribution alignment")
    ratio: int = Field(7, ge=1, description="μ, unlabelled images per labelled one")


def check(supervision: Supervision) -> None:
    """Accepts partly missing labels."""
    check_partly_labelled("comatch", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """A network with a projection, three views of every image; targets as in `marked`."""
    network, images, known = given.build(0), mixed(given.supervision, options.ratio), given.supervision
    encoder = Embedded(network, options.size, given.seed)
    loss = CoMatch(candidates(known).to(given.device), uniform(known).to(given.device), images.share, options)
    views = side_by_side(given.weak, given.strong, given.strong)
    learner = OfViews(encoder, encoder, encoder)
    # whole: the graph spans the batch
    return Lesson(learner, network, images.shown, marked(images), loss, views, whole=True)


class CoMatch:
    """The loss with its memory."""

    def __init__(self, possible: Tensor, labels: Tensor, share: float, options: Options) -> None:
        """Candidates bool [n, c] and the uniform distribution over them float32 [n, c]; `share` as in `Mixed`."""
        self.possible, self.labels, self.share, self.options = possible, labels, share, options
        self.mean = RecentMean(options.alignment)
        self.memory: Queue | None = None

    def __call__(self, outputs: Tensor, told: Tensor) -> Tensor:
        """L, estimated on the batch: outputs [B, 3, c + d] for all views, and targets int64 [B, 2] as in `marked`."""
        numbers, is_hidden, options = told[:, 0], told[:, 1].bool(), self.options
        logits, embeddings = parts(outputs, self.possible.shape[1])
        losses = candidate_losses(logits[:, 0], self.possible[numbers])
        if not is_hidden.any():
            return balanced(losses, torch.zeros_like(losses), is_hidden, self.share)
        f, z = logits[:, 0].detach().softmax(1), embeddings[:, 0].detach()
        p = torch.where(is_hidden[:, None], aligned(f, self.mean(f[is_hidden])), self.labels[numbers])
        q = self._smoothed(p, z)[is_hidden]
        first, second = embeddings[is_hidden, 1], embeddings[is_hidden, 2]
        sure = q.amax(1) >= options.threshold
        guessed = sure * -(q * logits[is_hidden, 1].log_softmax(1)).sum(1)
        graph = matching_losses(first, second, label_graph(q, options.edge), options.temperature)
        self._remember(p, z)
        without = spread(options.weight * guessed + options.graph_weight * graph, is_hidden)
        return balanced(losses, without, is_hidden, self.share)

    def _smoothed(self, p: Tensor, z: Tensor) -> Tensor:
        """Smoothed pseudo-labels q from p [B, c] and embeddings [B, d]; p itself until the memory is full."""
        if self.memory is None or len(self.memory.rows) < self.memory.length:
            return p
        there, labels = self.memory.rows[:, : z.shape[1]], self.memory.rows[:, z.shape[1] :]
        return smoothed(p, z, there, labels, self.options.own, self.options.temperature)

    def _remember(self, p: Tensor, z: Tensor) -> None:
        if self.memory is None:  # the first batch is as large as any other
            self.memory = Queue(self.options.memory * len(p), z.shape[1] + p.shape[1], p.device)
        self.memory.push(torch.cat([z, p], dim=1))


def smoothed(p: Tensor, z: Tensor, there: Tensor, labels: Tensor, own: float, temperature: float) -> Tensor:
    """Smoothed pseudo-labels q [B, c] from p [B, c], z [B, d] and a memory of embeddings [m, d] with labels [m, c]."""
    near = (z @ there.T / temperature).softmax(1)
    return own * p + (1 - own) * near @ labels


def label_graph(q: Tensor, edge: float) -> Tensor:
    """Ŵ^q [u, u] of pseudo-labels [u, c]."""
    alike = (q @ q.T).fill_diagonal_(1)
    alike = alike * (alike >= edge)
    return alike / alike.sum(1, keepdim=True)
