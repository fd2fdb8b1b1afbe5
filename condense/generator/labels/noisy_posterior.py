"""p(y | x_t): the classes of images that are partly noise, by a diffusion classifier that starts at their noise level.

A noisy image x_t of level sigma is treated as the data and noised further, x' = x_t + tau eps. The denoised x'
under class y, E[x_t | x', y] = x' + tau^2 / (sigma^2 + tau^2) (D(x', y) - x'), tells the classes apart as
||D - x_0||^2 does at sigma = 0:

    log p(x_t | y) = const - 1/2 int_0^inf E||x_t - E[x_t | x', y]||^2 d(1 / tau^2).

One step replaces the integral, tau^2 = v with v = sigma^2 + sigma_data^2, the variance of a pixel at that level, and
the weight 2 / v makes it exact for a class that is an isotropic Gaussian of that variance; around this step an error in
v is of second order. A step that does not grow with sigma carries no information once sigma exceeds it.
experiments/gaussian_mixture.py measures the accuracy.
Source: the integral: Kong et al. (2023), "Information-Theoretic Diffusion", https://arxiv.org/abs/2302.03792, Eq. 9;
approximated posteriors at x_t: Chen et al. (2024), https://arxiv.org/abs/2402.02316.
"""

from __future__ import annotations

import torch
from torch import Tensor

from condense.generator.denoiser import SIGMA_DATA, Denoiser


@torch.no_grad()
def noisy_posterior(
    denoiser: Denoiser,
    x_t: Tensor,
    sigma: Tensor,
    random: torch.Generator,
    *,
    temperature: float,
    log_prior: Tensor,
    augment: Tensor | None = None,
) -> Tensor:
    """p(y | x_t) from one antithetic pair of noisier images; at sigma = 0 the diffusion classifier at level sigma_data.

    Args:
        denoiser: in eval mode.
        x_t: noisy images [B, C, H, W], float32.
        sigma: their noise levels [B], at least 0.
        random: source of the noise.
        temperature: temperature at sigma = 0. It compensates for pixels that are not independent given the class;
            noise makes them independent, hence 1 + (temperature - 1) sigma_data^2 / v at other levels.
        log_prior: log class prior [c].
        augment: augmentation labels [B, 4] or None.

    Returns:
        float32 [B, c], rows summing to 1.
    """
    variance = sigma.square() + SIGMA_DATA**2
    noisier = (sigma.square() + variance).sqrt()
    eps = torch.randn(x_t.shape, generator=random, device=random.device).to(x_t.device)
    noise = variance.sqrt()[:, None, None, None] * eps
    both = torch.cat([x_t + noise, x_t - noise])
    labels = None if augment is None else augment.repeat(2, 1)
    denoised = denoiser.all_classes(both, noisier.repeat(2), labels).float()
    back = (variance / noisier.square()).repeat(2)[:, None, None, None, None]  # ratio of the ways to x_t and x_0
    missed = (torch.cat([noise, -noise])[:, None] + back * (denoised - both[:, None])).square().flatten(2).sum(2)
    errors = missed.reshape(2, len(x_t), -1).mean(0)
    softened = 1 + (temperature - 1) * SIGMA_DATA**2 / variance
    return (-errors * (2 / (variance * softened))[:, None] + log_prior).softmax(1)
