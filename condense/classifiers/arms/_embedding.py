"""Embeddings in addition to logits, for arms that compare images with one another."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.classifiers.layers import Network

_WIDEST = 512  # hidden units of a projection: feature maps of large images would need millions of weights


class Embedded(nn.Module):
    """A network and a projection of its features: two layers with ReLU, normalised to length 1."""

    def __init__(self, network: Network, size: int, seed: int) -> None:
        """Embeddings of dimension `size`; the projection is drawn from `seed`, the network is unchanged."""
        super().__init__()
        self.network = network
        features = network.head.in_features
        hidden = min(features, _WIDEST)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.projection = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, size))

    def forward(self, x: Tensor) -> Tensor:
        """Logits and embedding of images [B, C, H, W], concatenated: [B, c + size]."""
        features = self.network.features(x)
        return torch.cat([self.network.head(features), F.normalize(self.projection(features), dim=1)], dim=1)


def parts(outputs: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Split the outputs [..., c + d] of `Embedded` into logits [..., c] and embeddings [..., d]."""
    return outputs[..., :num_classes], outputs[..., num_classes:]


class Queue:
    """The most recently pushed rows, at most `length`; empty at first."""

    def __init__(self, length: int, width: int, device: torch.device) -> None:
        self.length = length
        self.rows = torch.zeros(0, width, device=device)

    def push(self, rows: Tensor) -> None:
        """Add rows [B, width] and drop the oldest beyond `length`."""
        self.rows = torch.cat([self.rows, rows.detach()])[-self.length :]


def matching_losses(queries: Tensor, pool: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between wanted and found similarities of each query, [B].

        -Σ_j w_bj log a_bj,      a_b = softmax over j of q_b · k_j / t

    Args:
        queries: q, [B, d].
        pool: k, [m, d].
        wanted: w, [B, m], no gradient; -1 where the pair is left out of the softmax.
        temperature: t.
    """
    similar = (queries @ pool.T / temperature).masked_fill(wanted < 0, -math.inf)
    return -(wanted.clamp_min(0) * similar.log_softmax(1).masked_fill(wanted <= 0, 0)).sum(1)


def instance_losses(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE of MoCo, [B]: each query [B, d] should match its own key [B, d] among all keys of batch and queue [m, d].

    Source: He et al. (2020), "Momentum Contrast for Unsupervised Visual Representation Learning",
    https://arxiv.org/abs/1911.05722, Eq. 1.
    """
    own = torch.eye(len(keys), device=keys.device)
    wanted = torch.cat([2 * own - 1, torch.zeros(len(keys), len(queue), device=keys.device)], dim=1)
    return matching_losses(queries, torch.cat([keys, queue]), wanted, temperature)


def without_self(wanted: Tensor) -> Tensor:
    """`wanted` [B, m ≥ B] with -1 on the diagonal: the pool begins with the queries, which skip themselves."""
    itself = torch.eye(*wanted.shape, dtype=torch.bool, device=wanted.device)
    return wanted.masked_fill(itself, -1)
