"""Soft labels in evaluation: the targets of a condensed set at a temperature, and the loss that fits them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.classifiers.fit import Loss
from condense.errors import UserError
from condense.sets.condensed_set import CondensedSet, Floats

SMALLEST = torch.finfo(torch.float32).tiny


def soft_targets(condensed: CondensedSet, temperature: float) -> Tensor:
    """The set's soft labels at `temperature`: float32 [n, c], rows adding up to 1.

    Labels q = softmax(z / T₀) of a teacher's logits z become softmax(z / T) = softmax(T₀ log q / T). The temperature
    T₀ they were stored at is the note `soft_label_temperature` of the set, 1 where it has none.

    Raises:
        UserError: the set has no soft labels, or its temperature is no positive number.
    """
    stored = check_soft_labels(condensed)
    stored_at = condensed.provenance.notes.get("soft_label_temperature", 1.0)
    if not isinstance(stored_at, int | float) or not stored_at > 0:
        raise UserError(f"the set's soft_label_temperature is {stored_at!r}, it must be a number above 0.")
    log_q = torch.from_numpy(stored).clamp_min(SMALLEST).log()
    return (log_q * (stored_at / temperature)).softmax(1)


def check_soft_labels(condensed: CondensedSet) -> Floats:
    """The set's soft labels as stored; raises `UserError` where it has none."""
    if condensed.soft_labels is None:
        raise UserError(
            f"the set of {condensed.provenance.method} has no soft labels, which the protocol needs; choose a protocol "
            "with hard labels (hard, hard-quick, dmis, quick), or give a teacher (--teacher)."
        )
    return condensed.soft_labels


def soft_loss(temperature: float) -> Loss:
    """KL(q ‖ softmax(f / T)) of logits f [B, c] and targets q [B, c], averaged over the batch; not times T².

    Source: Hinton, Vinyals & Dean (2015), https://arxiv.org/abs/1503.02531; without the square, as RDED.
    """

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.kl_div((logits / temperature).log_softmax(1), targets, reduction="batchmean")

    return loss
