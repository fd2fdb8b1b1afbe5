"""Heun's sampler and class-wise draws. Source: Karras et al. (2022), Algorithm 1, https://arxiv.org/abs/2206.00364."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.errors import UserError
from condense.generator.classifier import SIGMA_MAX, SIGMA_MIN
from condense.generator.denoiser import Denoiser


def sigma_steps(num_steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = 7.0) -> Tensor:
    """sigma_0 > … > sigma_{N-1} > sigma_N = 0, float64 [N + 1] (EDM Eq. 5)."""
    if num_steps < 2:
        raise UserError(f"The sampler needs at least 2 steps, found {num_steps}.")
    ramp = torch.arange(num_steps, dtype=torch.float64) / (num_steps - 1)
    sigmas = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def denoise_guided(denoiser: Denoiser, x: Tensor, sigma: Tensor, classes: Tensor, guidance: float) -> Tensor:
    """D_y + guidance (D_y - mean over classes of D): [B, C, H, W]; guidance 0 is plain conditional sampling.

    Classifier-free guidance (Ho & Salimans 2022, https://arxiv.org/abs/2207.12598) with the class mean instead of the
    unconditional network: the two agree at high noise, where the class is undecided.
    """
    if guidance == 0:
        return denoiser.one_class(x, sigma, classes)
    everything = denoiser.all_classes(x, sigma)
    own = everything[torch.arange(len(x), device=x.device), classes]
    return own + guidance * (own - everything.mean(1))


@torch.no_grad()
def heun(
    denoiser: Denoiser,
    x: Tensor,
    classes: Tensor,
    *,
    num_steps: int = 18,
    guidance: float = 0.0,
    sigma_max: float = SIGMA_MAX,
) -> Tensor:
    """Deterministic second-order sampling from x at noise level `sigma_max`.

    Args:
        denoiser: in eval mode.
        x: noise of standard deviation `sigma_max` [B, C, H, W], added to images if those are to be varied.
        classes: int64 [B].
        num_steps: N; 2N - 1 evaluations per image.
        guidance: see `denoise_guided`.
        sigma_max: the first noise level.

    Returns:
        Images [B, C, H, W], about [-1, 1], not clamped.
    """
    sigmas = sigma_steps(num_steps, sigma_max=sigma_max)
    x = x.float()
    for sigma, following in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        level = torch.full((len(x),), sigma, device=x.device)
        slope = (x - denoise_guided(denoiser, x, level, classes, guidance)) / sigma
        euler = x + (following - sigma) * slope
        if following > 0:
            level = torch.full((len(x),), following, device=x.device)
            end_slope = (euler - denoise_guided(denoiser, euler, level, classes, guidance)) / following
            euler = x + (following - sigma) * (slope + end_slope) / 2
        x = euler
    return x
