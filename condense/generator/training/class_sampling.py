"""Which classes of an image are evaluated with gradient, and with which weight.

Keeping the k largest terms of a sum and renormalising them moves the optimum of the loss. Here every class is drawn
with its own probability and its term divided by it (Horvitz & Thompson 1952,
https://doi.org/10.1080/01621459.1952.10483446), so that the expected gradient is that of all classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condense.precision import widest_float


@dataclass(frozen=True)
class DrawnClasses:
    """k classes of each image.

    Attributes:
        classes: int64 [B, k], all different.
        inverse: one over the probability with which each was drawn, float32 [B, k], at least 1.
    """

    classes: Tensor
    inverse: Tensor


def inclusion_probabilities(share: Tensor, k: int, always: Tensor | None = None) -> Tensor:
    """Probabilities in proportion to `share` [B, c], at most 1, that sum to k in each row: [B, c].

    Args:
        share: at least 0; a row of zeros counts as equal shares.
        k: classes to be drawn, at least 1; at least c gives 1 for every class.
        always: bool [B, c], classes that are certain. At most k in a row.

    Returns:
        float64, or float32 on a device without it.
    """
    num_classes, exact = share.shape[1], widest_float(share.device)
    if k >= num_classes:
        return torch.ones_like(share, dtype=exact)
    share = share.to(exact)
    share = share + 1e-9 * share.amax(1, keepdim=True) + torch.finfo(exact).tiny
    certain = torch.zeros_like(share, dtype=torch.bool) if always is None else always
    for _ in range(k + 1):  # each round but the last makes a class certain that was over 1
        rest = share.masked_fill(certain, 0)
        left = (k - certain.sum(1, keepdim=True)).clamp_min(0)
        probabilities = torch.where(certain, 1.0, rest * left / rest.sum(1, keepdim=True))
        certain = probabilities >= 1
    return probabilities.clamp_max(1)


def draw_classes(share: Tensor, k: int, random: torch.Generator, always: Tensor | None = None) -> DrawnClasses:
    """Draw k classes per image, each with its probability (see `inclusion_probabilities`); ties are drawn at random.

    Systematic sampling (Madow 1949, https://doi.org/10.1214/aoms/1177729988): one uniform number per image, and a class
    is taken where the cumulative sum of the probabilities passes that number plus an integer.

    Args:
        share: [B, c], at least 0.
        k: classes per image.
        random: source of randomness.
        always: bool [B, c], classes that are certain. At most k in a row.
    """
    probabilities = inclusion_probabilities(share, k, always)
    k = min(k, share.shape[1])
    uniform = torch.rand(len(share), 1, generator=random, dtype=probabilities.dtype, device=random.device)
    uniform = uniform.to(share.device)
    up_to = cumulated(probabilities)
    up_to = torch.cat([torch.zeros_like(uniform), up_to[:, :-1], torch.full_like(uniform, k)], dim=1)
    taken = (up_to - uniform).ceil().diff(dim=1)
    # exactly k are taken but for rounding at the edges; the probability breaks such ties
    classes = (taken + 1e-3 * probabilities).topk(k, dim=1).indices
    return DrawnClasses(classes, (1 / probabilities.gather(1, classes)).float())


def cumulated(pi: Tensor) -> Tensor:
    """The cumulative sum of pi [B, c] along its rows; as a matrix product if a GPU must be deterministic."""
    if pi.device.type == "cpu" or not torch.are_deterministic_algorithms_enabled():
        return pi.cumsum(1)
    with torch.autocast(pi.device.type, enabled=False):
        return pi @ pi.new_ones(pi.shape[1], pi.shape[1]).triu()
