"""Learning from labelled and unlabelled images together: L = mean of the labelled ones' + mean of all ones' loss.

Every image is shown without its label, and those with one are shown again with it, so often that a step holds
one of these for `ratio` of the others, or more where so many have a label. In a batch of B the means are estimated by

    L = 1/B Σ_i [labelled] ℓ_i / p + [hidden] u_i / (1 - p),      p = share of those shown with their label,

whose expectation they are, however a batch is cut into parts. A label may be a candidate set: ℓ = -log Σ_{y in S} f_y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condense.classifiers.arms._labels import repeated
from condense.data.types import Supervision


@dataclass(frozen=True)
class Mixed:
    """Images of an epoch.

    Attributes:
        shown: their numbers, int64 [m].
        possible: bool [m, c], all True where the label is hidden.
        share: p, how many of them have a label.
    """

    shown: Tensor
    possible: Tensor
    share: float


def mixed(supervision: Supervision, ratio: int) -> Mixed:
    """Every image once without its label, and one with label for `ratio` of them, at least each that has one."""
    n = len(supervision)
    known = np.flatnonzero(~supervision.unlabelled)
    count = max(-(-n // ratio), len(known))
    again = repeated(known, count)
    with_label = torch.from_numpy(supervision.candidates)[again]
    possible = torch.cat([torch.ones(n, supervision.num_classes, dtype=torch.bool), with_label])
    return Mixed(torch.cat([torch.arange(n), again]), possible, count / (n + count))


def hidden(possible: Tensor) -> Tensor:
    """Which images are shown without a label: bool [B] of candidates bool [B, c]."""
    return possible.all(1)


def balanced(with_label: Tensor, without: Tensor, is_hidden: Tensor, share: float) -> Tensor:
    """The estimate above, of both losses of each image [B] and whether its label is hidden, bool [B]."""
    return torch.where(is_hidden, without / (1 - share), with_label / share).mean()
