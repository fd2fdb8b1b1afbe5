"""DIRK: the student learns from a teacher's beliefs, rectified to prefer every candidate to every other class.

    L = -Σ_y r_y log f_y(x) + λ L_ref

r are the teacher's beliefs p, with candidates and other classes each renormalised and mixed,

    r = a p_S / p(S) + (1 - a) p_{not S} / p(not S),      a = m / (m + p(S) l),

where m is the largest of the renormalised others and l the smallest of the renormalised candidates: so a l is
(1 - a) m / p(S), and the smallest candidate exceeds every other class. a = 1 if there is no other class. The teacher
is the average of the student. L_ref transfers similarity of beliefs to embeddings: for a strong view,

    L_ref = -Σ_j w_j log softmax_j(q · k_j / τ),      w = softmax over P(x) of cos(r, r_j) / τ_r,

over the rest of the batch, all weak views by the teacher and a queue of these; P(x) are those that share a candidate
and the most likely class with x. In the first epochs L_ref is the InfoNCE of MoCo. The student is tested.
Source: Wu, Wang & Zhang (2024), "Distilling Reliable Knowledge for Instance-Dependent Partial Label Learning", AAAI,
https://ojs.aaai.org/index.php/AAAI/article/view/29519, and the parameters of the authors' code: λ = 1, τ = 0.07,
τ_r = 0.4, momentum 0.99, a queue of 4096, one epoch of InfoNCE. Departures: student and teacher share the weak
view where theirs share a third one; the queue is at most as long as the training set; strong views are those of
`fixmatch`. For an image without a label, all classes are candidates.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from condense.classifiers.arms._average import Average
from condense.classifiers.arms._embedding import (
    Embedded,
    Queue,
    instance_losses,
    matching_losses,
    parts,
    without_self,
)
from condense.classifiers.label_forms import candidates, check_sets, everything
from condense.classifiers.lesson import Given, Lesson, side_by_side
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """The teacher, and how embeddings follow beliefs."""

    weight: float = Field(1.0, ge=0, description="λ, weight of the embeddings' loss")
    temperature: float = Field(0.07, gt=0, description="τ, temperature of the embeddings' similarities")
    belief_temperature: float = Field(0.4, gt=0, description="τ_r, temperature of the beliefs' similarities")
    size: int = Field(128, ge=1, description="dimension of the embeddings")
    queue: int = Field(4096, ge=1, description="number of embeddings in the queue, at most that of the images")
    decay: float = Field(0.99, ge=0, lt=1, description="decay of the teacher's weights")
    start: int = Field(1, ge=0, description="epochs before embeddings follow beliefs")


def check(supervision: Supervision) -> None:
    """Accepts candidate sets, alone or mixed with other labels."""
    check_sets("dirk", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """A student with a projection, and its average as teacher; targets are candidates."""
    network, possible = given.build(0), candidates(given.supervision)
    student = Embedded(network, options.size, given.seed)
    teacher = copy.deepcopy(student).requires_grad_(False)
    loss = Dirk(len(possible), given.supervision.num_classes, options, given.device)
    return Lesson(
        StudentAndTeacher(student, teacher),
        network,
        everything(given.supervision),
        possible,
        loss,
        side_by_side(given.weak, given.strong),
        whole=True,  # images are compared within the batch
        before_epoch=loss.begin,
        after_step=Average(teacher, student, options.decay),
    )


class StudentAndTeacher(nn.Module):
    """Applies the student to both views and the teacher to the first."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher

    def forward(self, x: Tensor) -> Tensor:
        """Student weak, student strong, teacher weak: [B, 3, c + d] for images [B, 2 · C, H, W]."""
        weak, strong = x.chunk(2, dim=1)
        return torch.stack([self.student(weak), self.student(strong), self.teacher(weak)], dim=1)


class Dirk:
    """The loss with its queue of embeddings, beliefs and candidates."""

    def __init__(self, num_images: int, num_classes: int, options: Options, device: torch.device) -> None:
        """Start with an empty queue of at most `num_images` rows."""
        self.options = options
        width = options.size + 2 * num_classes
        self.queue = Queue(min(options.queue, num_images), width, device)
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Set whether embeddings follow beliefs in the epoch, counted from 1."""
        self.following = epoch > self.options.start

    def __call__(self, outputs: Tensor, possible: Tensor) -> Tensor:
        """L averaged over the batch: outputs [B, 3, c + d] of `StudentAndTeacher`, candidates bool [B, c]."""
        logits, embeddings = parts(outputs, possible.shape[1])
        beliefs = rectified(logits[:, 2].detach(), possible)
        losses = -(beliefs * logits[:, 0].log_softmax(1)).sum(1)
        query, key, options = embeddings[:, 1], embeddings[:, 2].detach(), self.options
        keys = torch.cat([key, beliefs, possible.to(key)], dim=1)
        if self.following:
            pool = torch.cat([torch.cat([query, keys[:, options.size :]], dim=1), keys, self.queue.rows])
            embedded, of_pool = pool[:, : options.size], pool[:, options.size :].detach()
            wanted = wanted_similarity(beliefs, possible, of_pool, options.belief_temperature)
            refined = matching_losses(query, embedded, wanted, options.temperature)
        else:
            refined = instance_losses(query, key, self.queue.rows[:, : options.size], options.temperature)
        self.queue.push(keys)
        return (losses + options.weight * refined).mean()


def rectified(logits: Tensor, possible: Tensor) -> Tensor:
    """Rectified beliefs r of each image, [B, c], from the teacher's logits [B, c] and candidates bool [B, c]."""
    on_candidates = (logits.softmax(1) * possible).sum(1, keepdim=True)
    inside = logits.masked_fill(~possible, -math.inf).softmax(1)
    others = ~possible.all(1, keepdim=True)
    outside = logits.masked_fill(possible & others, -math.inf).softmax(1) * others
    highest = outside.amax(1, keepdim=True)
    lowest = inside.masked_fill(~possible, math.inf).amin(1, keepdim=True)
    kept = torch.where(others, highest / (highest + on_candidates * lowest), 1.0)
    return kept * inside + (1 - kept) * outside


def wanted_similarity(beliefs: Tensor, possible: Tensor, of_pool: Tensor, temperature: float) -> Tensor:
    """Target weights w [B, m], -1 on the diagonal.

    Args:
        beliefs: r, [B, c].
        possible: candidates, bool [B, c].
        of_pool: beliefs and candidates of the pool, concatenated: [m, 2 · c].
        temperature: τ_r.
    """
    beliefs_there, possible_there = of_pool.chunk(2, dim=1)
    shared = possible.to(beliefs) @ possible_there.T > 0
    alike = shared & (beliefs.argmax(1)[:, None] == beliefs_there.argmax(1))
    alike = without_self(alike.to(beliefs)) > 0
    cosine = F.normalize(beliefs, dim=1) @ F.normalize(beliefs_there, dim=1).T
    return without_self((cosine / temperature).masked_fill(~alike, -math.inf).softmax(1))
