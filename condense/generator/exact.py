"""Gaussian mixtures, for which the denoiser, the densities and the posterior are known exactly.

On them, objectives and classifiers for imprecise labels can be compared with the truth at every noise level.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from condense.generator.denoiser import Denoiser


class MixtureDenoiser(Denoiser):
    """p(x | y) = sum_m w_ym N(mu_ym, s_ym^2 I) and its exact D(x, sigma, y) = E[x_0 | x_0 + sigma eps = x, y].

    Args:
        weights: w [c, m], rows summing to 1.
        means: mu [c, m, C, H, W].
        stds: s [c, m].
    """

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor) -> None:
        nn.Module.__init__(self)
        self.weights, self.means, self.stds = weights.double(), means.double(), stds.double()
        self.num_classes = len(means)
        self.evaluations = 0

    def _joint(self, x: Tensor, variance: Tensor) -> Tensor:
        """Log w_ym N(x; mu_ym, variance) for x [B, C, H, W] and variance [B, c, m]: [B, c, m]."""
        distance = (x.double()[:, None, None] - self.means).square().flatten(3).sum(3)
        dimension = x[0].numel()
        normaliser = dimension / 2 * (2 * math.pi * variance).log()
        return self.weights.log() - distance / (2 * variance) - normaliser

    def log_density(self, x: Tensor, sigma: float = 0.0) -> Tensor:
        """Log p_sigma(x | y): float64 [B, c]."""
        variance = (self.stds**2 + sigma**2).expand(len(x), -1, -1)
        return self._joint(x, variance).logsumexp(2)

    def posterior(self, x: Tensor, prior: Tensor, sigma: float = 0.0) -> Tensor:
        """p(y | x) by Bayes: float64 [B, c]."""
        return (self.log_density(x, sigma) + prior.double().log()).softmax(1)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        classes: Tensor | None = None,
        augment: Tensor | None = None,
        coherence: Tensor | None = None,
    ) -> Tensor:
        """[B, C, H, W] -> [B, c or k, C, H, W], the exact denoised images."""
        self.evaluations += len(x)
        noise = sigma.double().reshape(-1, 1, 1) ** 2
        signal = self.stds**2
        share = self._joint(x, signal + noise).softmax(2)  # [B, c, m]
        pull = (signal / (signal + noise))[..., None, None, None]  # [B, c, m, 1, 1, 1]
        each = pull * x.double()[:, None, None] + (1 - pull) * self.means
        denoised = (share[..., None, None, None] * each).sum(2).to(x.dtype)
        return denoised if classes is None else denoised[torch.arange(len(x))[:, None], classes]

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Images of the given classes [n]: float32 [n, C, H, W]."""
        component = torch.multinomial(self.weights[labels], 1, generator=generator)[:, 0]
        noise = torch.randn(len(labels), *self.means.shape[2:], generator=generator)
        std = self.stds[labels, component].float()[:, None, None, None]
        return self.means[labels, component].float() + std * noise
