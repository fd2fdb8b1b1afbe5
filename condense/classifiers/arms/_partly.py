"""Learning from labelled and unlabelled images: L = mean loss of the labelled images + mean loss of all images.

Every image is shown without its label, and labelled images are shown again with it, often enough that a batch holds at
least one of them for `ratio` of the others. In a batch of B the means are estimated by

    L = 1/B Σ_i [labelled] ℓ_i / p + [hidden] u_i / (1 - p),      p = fraction shown with their label,

which is unbiased, however a batch is split into parts. A label may be a candidate set: ℓ = -log Σ_{y in S} f_y.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condense.classifiers.label_forms import repeated
from condense.data.types import Supervision


@dataclass(frozen=True)
class Mixed:
    """Images of an epoch.

    Attributes:
        shown: their indices, int64 [m].
        possible: bool [m, c], all True where the label is hidden.
        share: p, the fraction shown with their label.
    """

    shown: Tensor
    possible: Tensor
    share: float


def mixed(supervision: Supervision, ratio: int) -> Mixed:
    """Every image once without its label, and one with its label per `ratio` of these, at least each labelled one."""
    n = len(supervision)
    known = np.flatnonzero(~supervision.unlabelled)
    count = max(-(-n // ratio), len(known))
    again = repeated(known, count)
    with_label = torch.from_numpy(supervision.candidates)[again]
    possible = torch.cat([torch.ones(n, supervision.num_classes, dtype=torch.bool), with_label])
    return Mixed(torch.cat([torch.arange(n), again]), possible, count / (n + count))


def hidden(possible: Tensor) -> Tensor:
    """Whether each image is shown without a label, bool [B], from candidates bool [B, c]."""
    return possible.all(1)


def balanced(with_label: Tensor, without: Tensor, is_hidden: Tensor, share: float) -> Tensor:
    """The estimate above, from both losses of each image [B] and whether its label is hidden, bool [B]."""
    return torch.where(is_hidden, without / (1 - share), with_label / share).mean()


def marked(images: Mixed) -> Tensor:
    """Targets of a loss with a memory: each image's index and whether its label is hidden, int64 [m, 2]."""
    return torch.stack([images.shown, hidden(images.possible).long()], dim=1)


def spread(values: Tensor, places: Tensor) -> Tensor:
    """`values` [k] at the k True `places`, bool [B], and 0 elsewhere: [B]."""
    return torch.zeros(len(places), dtype=values.dtype, device=values.device).masked_scatter(places, values)


def aligned(shares: Tensor, mean: Tensor) -> Tensor:
    """Distribution alignment to the uniform distribution: p / E[p], rows renormalised; p [B, c], E[p] [c].

    Source: Berthelot et al. (2020), "ReMixMatch", https://arxiv.org/abs/1911.09785, Section 3.1.
    """
    scaled = shares / mean.clamp_min(1e-8)
    return scaled / scaled.sum(1, keepdim=True)


class RecentMean:
    """E[p] over the last `length` batches."""

    def __init__(self, length: int) -> None:
        self.means: deque[Tensor] = deque(maxlen=length)

    def __call__(self, shares: Tensor) -> Tensor:
        """The mean [c] including a batch [B, c], B ≥ 1; all batches have equal weight."""
        self.means.append(shares.mean(0))
        return torch.stack(list(self.means)).mean(0)
