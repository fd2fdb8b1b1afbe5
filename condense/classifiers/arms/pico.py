"""PiCO: embeddings of images with the same predicted class attract each other, and class prototypes select the label.

    L = -Σ_y s_y log f_y(x) + λ L_cont,      L_cont = -1/|P(x)| Σ_{k in P(x)} log softmax_{k in A(x)}(q · k / τ)

q is the embedding of the weak view, A(x) holds those of the other images of the batch, of all strong views by the
momentum encoder and of a queue of these, P(x) those with the same guess as x, the candidate of largest f. Then

    μ_c ← normalised γ μ_c + (1 - γ) q    for every q with guess c,
    s ← φ s + (1 - φ) e_y,      y = argmax of q · μ_j over j in S

starting from s uniform on S. In the first epochs L_cont is the InfoNCE of MoCo, and s is unchanged. For an image
without a label, all classes are candidates.
Source: Wang et al. (2022), "PiCO: Contrastive Label Disambiguation for Partial Label Learning",
https://arxiv.org/abs/2201.08984, Section 3, Eq. 1 to 6; λ = 0.5, γ = 0.99, φ from 0.95 to 0.8, τ = 0.07, 128
dimensions and a queue of 8192 as there. Departures: the momentum of the encoder is 0.99, not 0.999, since runs are
shorter; the queue is at most as long as the training set; strong views are those of `fixmatch`.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from condense.classifiers.arms._average import Average
from condense.classifiers.arms._embedding import (
    Embedded,
    Queue,
    instance_losses,
    matching_losses,
    parts,
    without_self,
)
from condense.classifiers.label_forms import candidates, check_sets, everything, uniform
from condense.classifiers.lesson import Given, Lesson, OfViews, side_by_side
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """The contrastive loss, and momentum of labels and prototypes."""

    weight: float = Field(0.5, ge=0, description="λ, weight of the contrastive loss")
    temperature: float = Field(0.07, gt=0, description="τ, temperature of the similarities")
    size: int = Field(128, ge=1, description="dimension of the embeddings")
    queue: int = Field(8192, ge=1, description="number of embeddings in the queue, at most that of the images")
    decay: float = Field(0.99, ge=0, lt=1, description="decay of the momentum encoder's weights")
    prototype_momentum: float = Field(0.99, ge=0, lt=1, description="γ, momentum of the prototypes")
    label_momentum: float = Field(0.95, ge=0, le=1, description="φ, initial momentum of the labels")
    final_label_momentum: float = Field(0.8, ge=0, le=1, description="final φ")
    start: int = Field(1, ge=0, description="epochs before labels are updated")


def check(supervision: Supervision) -> None:
    """Accepts candidate sets, alone or mixed with other labels."""
    check_sets("pico", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """A network with a projection on weak views, and its average on strong views; targets are image indices."""
    network, numbers, known = given.build(0), everything(given.supervision), given.supervision
    encoder = Embedded(network, options.size, given.seed)
    momentum = copy.deepcopy(encoder).requires_grad_(False)
    possible, labels = candidates(known).to(given.device), uniform(known).to(given.device)
    loss = Pico(possible, labels, given.epochs, options)
    return Lesson(
        OfViews(encoder, momentum),
        network,
        numbers,
        numbers,
        loss,
        side_by_side(given.weak, given.strong),
        whole=True,  # images are compared within the batch
        before_epoch=loss.begin,
        after_step=Average(momentum, encoder, options.decay),
    )


class Pico:
    """The loss with its `labels`, s [n, c], its `prototypes`, μ [c, d], and its queue."""

    def __init__(self, possible: Tensor, labels: Tensor, epochs: int, options: Options) -> None:
        """Start from s = `labels` float32 [n, c] on the candidates bool [n, c], in the first of `epochs`."""
        self.possible, self.labels, self.epochs, self.options = possible, labels, epochs, options
        num_images, num_classes = possible.shape
        self.prototypes = torch.zeros(num_classes, options.size, device=possible.device)
        self.queue = Queue(min(options.queue, num_images), options.size + 1, possible.device)  # a key and its guess
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Set φ and whether labels are updated for the epoch, counted from 1."""
        first, last = self.options.label_momentum, self.options.final_label_momentum
        self.seeking = epoch > self.options.start
        self.label_momentum = first + (last - first) * (epoch - 1) / self.epochs

    def __call__(self, outputs: Tensor, numbers: Tensor) -> Tensor:
        """L averaged over the batch: outputs [B, 2, c + d] for the images with these indices, int64 [B]."""
        possible, num_classes = self.possible[numbers], self.possible.shape[1]
        logits, embeddings = parts(outputs, num_classes)
        query, key = embeddings[:, 0], embeddings[:, 1].detach()
        guess = logits[:, 0].detach().masked_fill(~possible, -math.inf).argmax(1)
        if self.seeking:
            nearest = (query.detach() @ self.prototypes.T).masked_fill(~possible, -math.inf).argmax(1)
            towards = F.one_hot(nearest, num_classes).float()
            self.labels[numbers] = self.labels[numbers].lerp(towards, 1 - self.label_momentum)
        self.prototypes = followed(self.prototypes, query.detach(), guess, self.options.prototype_momentum)
        losses = -(self.labels[numbers] * logits[:, 0].log_softmax(1)).sum(1)
        contrastive = self._contrastive_losses(query, key, guess)
        self.queue.push(torch.cat([key, guess[:, None].to(key)], dim=1))
        return (losses + self.options.weight * contrastive).mean()

    def _contrastive_losses(self, query: Tensor, key: Tensor, guess: Tensor) -> Tensor:
        older, guesses = self.queue.rows[:, :-1], self.queue.rows[:, -1].long()
        if not self.seeking:
            return instance_losses(query, key, older, self.options.temperature)
        pool, of_pool = torch.cat([query, key, older]), torch.cat([guess, guess, guesses])
        return class_losses(query, pool, guess, of_pool, self.options.temperature)


def class_losses(query: Tensor, pool: Tensor, guess: Tensor, of_pool: Tensor, temperature: float) -> Tensor:
    """L_cont of each query, [B]: q [B, d], which also begin the pool [m, d]; guesses int64 [B] and [m]."""
    alike = without_self((guess[:, None] == of_pool).to(query))
    count = alike.clamp_min(0).sum(1, keepdim=True)
    return matching_losses(query, pool, torch.where(alike > 0, alike / count, alike), temperature)


def followed(prototypes: Tensor, query: Tensor, guess: Tensor, momentum: float) -> Tensor:
    """Prototypes [c, d] after an update by each query [B, d] in turn, of the class of its guess int64 [B].

    They are normalised once per batch, as in the authors' code.
    """
    belongs = F.one_hot(guess, len(prototypes)).to(query)  # [B, c]
    later = belongs.flip(0).cumsum(0).flip(0) - belongs
    shares = belongs * (1 - momentum) * momentum**later
    return F.normalize(momentum ** belongs.sum(0)[:, None] * prototypes + shares.T @ query, dim=1)
