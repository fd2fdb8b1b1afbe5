"""Mixing the images of a batch together with their soft targets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def cutmix(x: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """CutMix with α = 1: a rectangle of every image is replaced by that of another image of the batch.

    The batch shares one rectangle: a share 1 - λ of the area before clipping at the edges, λ ~ U(0, 1), its
    centre uniform. Targets are mixed by the remaining area.
    Source: Yun et al. (2019), https://arxiv.org/abs/1905.04899, Section 3.1.

    Args:
        x: float [B, C, H, W].
        targets: float [B, c], probabilities.
        generator: a CPU generator.

    Returns:
        Images and targets, of the same shapes.
    """
    height, width = x.shape[2:]
    share, row, column = torch.rand(3, generator=generator).tolist()
    partner = torch.randperm(len(x), generator=generator).to(x.device)
    top, bottom = _span(row, height, share**0.5)
    left, right = _span(column, width, share**0.5)
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, kept * targets + (1 - kept) * targets[partner]


def mixup(x: Tensor, targets: Tensor, generator: torch.Generator, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mixup: λ x + (1 - λ) x' with x' another image of the batch, targets alike; one λ ~ Beta(α, α) for the batch.

    Source: Zhang et al. (2018), https://arxiv.org/abs/1710.09412, Eq. 1 and Figure 1a.

    Args:
        x: float [B, C, H, W].
        targets: float [B, c], probabilities.
        generator: a CPU generator.
        alpha: α above 0.

    Returns:
        Images and targets, of the same shapes.
    """
    seed = int(torch.randint(2**62, (), generator=generator))  # torch draws no Beta from a generator
    kept = float(np.random.default_rng(seed).beta(alpha, alpha))
    partner = torch.randperm(len(x), generator=generator).to(x.device)
    return kept * x + (1 - kept) * x[partner], kept * targets + (1 - kept) * targets[partner]


def _span(centre: float, size: int, share: float) -> tuple[int, int]:
    """Start and end of a run of `share` of `size` pixels about a centre in [0, 1), cut off at the edges."""
    middle, length = int(centre * size), int(size * share)
    return max(0, middle - length // 2), min(size, middle - length // 2 + length)
