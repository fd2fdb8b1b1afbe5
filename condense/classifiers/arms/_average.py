"""Moving averages of a network's weights, for teachers and momentum encoders."""

from __future__ import annotations

import torch
from torch import nn


class Average:
    """θ' ← α θ' + (1 - α) θ at every call; in step s, α is at most 1 - 1 / (s + 1), as in the authors' code."""

    def __init__(self, average: nn.Module, of: nn.Module, decay: float) -> None:
        self.average, self.of, self.decay = average, of, decay
        self.steps = 0

    @torch.no_grad()
    def __call__(self) -> None:
        """Update the average with the current weights; buffers are copied."""
        self.steps += 1
        kept = min(self.decay, 1 - 1 / (self.steps + 1))
        for mean, weight in zip(self.average.parameters(), self.of.parameters(), strict=True):
            mean.lerp_(weight, 1 - kept)
        for mine, theirs in zip(self.average.buffers(), self.of.buffers(), strict=True):
            mine.copy_(theirs)
