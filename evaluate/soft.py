"""Soft labels in evaluation: stored ones at a temperature, a teacher's labels of every batch, and the loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.classifiers.batches import Mix
from condense.classifiers.fit import Loss
from condense.classifiers.teacher import Teacher
from condense.errors import UserError
from condense.preprocessing import Preprocessing
from condense.sets.condensed_set import CondensedSet, Floats

SMALLEST = torch.finfo(torch.float32).tiny


def soft_targets(condensed: CondensedSet, temperature: float) -> Tensor:
    """The set's soft labels at `temperature`: float32 [n, c], rows summing to 1.

    Labels q = softmax(z / T₀) of a teacher's logits z become softmax(z / T) = softmax(T₀ log q / T). The temperature
    T₀ at which they were stored is the note `soft_label_temperature` of the set, 1 without such a note.

    Raises:
        UserError: the set has no soft labels, or its temperature is not a positive number.
    """
    stored = check_soft_labels(condensed)
    stored_at = condensed.provenance.notes.get("soft_label_temperature", 1.0)
    if not isinstance(stored_at, int | float) or not stored_at > 0:
        raise UserError(f"the set's soft_label_temperature is {stored_at!r}; it must be a number above 0.")
    log_q = torch.from_numpy(stored).clamp_min(SMALLEST).log()
    return (log_q * (stored_at / temperature)).softmax(1)


def asked_online(teacher: Teacher, preprocessing: Preprocessing, temperature: float, mix: Mix | None) -> Mix:
    """A mixing function for `fit` that replaces the targets by the teacher's labels of the mixed images.

    q = softmax(z / T) of the teacher's logits z, whatever the targets were. Source: Shen & Xing (2022), FKD,
    https://arxiv.org/abs/2112.01528, as RDED and SRe2L train their students.

    Args:
        teacher: the teacher, in evaluation mode.
        preprocessing: normalisation of the images; they are renormalised if the teacher's differs.
        temperature: T.
        mix: how to mix the images beforehand, or None.
    """
    own = teacher.preprocessing
    same = (own.mean, own.std, own.zca_mean) == (preprocessing.mean, preprocessing.std, preprocessing.zca_mean)

    def ask(x: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if mix is not None:
            x, _ = mix(x, targets, generator)
        with torch.no_grad():
            seen = x if same else own.normalise(preprocessing.denormalise(x))
            return x, (teacher.network(seen.to(teacher.device)) / temperature).softmax(1).to(x.device)

    return ask


def check_soft_labels(condensed: CondensedSet) -> Floats:
    """The set's soft labels as stored, float32 [n, c]; raises `UserError` if it has none."""
    if condensed.soft_labels is None:
        raise UserError(
            f"the set of {condensed.provenance.method} has no soft labels, but the protocol needs them; choose a "
            "protocol with hard labels (hard, hard-quick, dmis, quick), or give a teacher (--teacher)."
        )
    return condensed.soft_labels


def soft_loss(temperature: float) -> Loss:
    """KL(q ‖ softmax(f / T)) of logits f [B, c] and targets q [B, c], averaged over the batch; not multiplied by T².

    Source: Hinton, Vinyals & Dean (2015), https://arxiv.org/abs/1503.02531; without the factor T², as in RDED.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.kl_div((logits / temperature).log_softmax(1), targets, reduction="batchmean")

    return loss
