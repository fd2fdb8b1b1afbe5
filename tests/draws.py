"""Random tensors for tests, always the same ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def drawn(*shape: int, seed: int = 0, requires_grad: bool = False) -> Tensor:
    """Normal numbers of standard deviation 2, float64."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * values).requires_grad_(requires_grad)


def units(*shape: int, seed: int = 0) -> Tensor:
    """Directions along the last axis, float64."""
    return F.normalize(drawn(*shape, seed=seed), dim=-1)
