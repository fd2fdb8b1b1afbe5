"""The time steps a diffusion classifier needs: Theorem 3's diagnostic, and the DDPM form of Theorem 2.

With ħ(τ, y) = w_τ E ‖D(x_0 + σ_τ ε, σ_τ, y) - x_0‖², the weighted error at a time step τ,

    ERR(l, r, y) = E[ħ(τ, y) | τ in [l, r]] - (ħ(l, y) + ħ(r, y)) / 2,

which is near 0 if the ends of an interval represent its interior. In EDM's form τ is the noise level, ln τ is
normal and w_τ = λ(τ); in DDPM's τ is uniform on [0, 1], its noise level that of the variance-preserving process, and
w_τ = 1 / σ_τ², the weight of a squared error of the predicted noise.
Source: "Learning Robust Diffusion Models from Imprecise Supervision", https://arxiv.org/abs/2510.03016, Theorems 2
and 3; Karras et al. (2022), https://arxiv.org/abs/2206.00364, Table 1, for the variance-preserving process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from condense.errors import UserError
from condense.generator.classifier import EDM_NOISE, Schedule
from condense.generator.denoiser import NoiseDistribution, loss_weight

_BETA_SLOPE, _BETA_MIN = 19.9, 0.1


def ddpm_interval(width: float) -> tuple[float, float]:
    """[l, l + width] centred on the median of a uniform τ in [0, 1]: F(l) + F(l + width) = 1 gives l = (1 - width) / 2.

    Raises `UserError` unless 0 < width <= 1.
    """
    if not 0 < width <= 1:
        raise UserError(f"The width of an interval of uniform time steps must lie in (0, 1], found {width}.")
    left = (1 - width) / 2
    return left, left + width


def edm_look(tau: float) -> Schedule:
    """A schedule of one noise level τ, of weight λ(τ)."""
    return Schedule((tau,), (1.0,))


def ddpm_look(tau: float) -> Schedule:
    """DDPM's one time step τ in (0, 1]: noise level σ = (exp(19.9 τ² / 2 + 0.1 τ) - 1)^½, of weight 1 / σ²."""
    sigma = math.sqrt(math.expm1(_BETA_SLOPE * tau**2 / 2 + _BETA_MIN * tau))
    return Schedule((sigma,), (1 / (sigma**2 * float(loss_weight(torch.tensor(sigma, dtype=torch.float64)))),))


def edm_steps(left: float, right: float, steps: int, noise: NoiseDistribution = EDM_NOISE) -> tuple[float, ...]:
    """`steps` noise levels at the middles of equally probable cells of [left, right], ln τ being normal.

    Raises `UserError` unless 0 < left < right and steps >= 1.
    """
    _check(left, right, steps)
    low, high = (float(ndtr((math.log(tau) - noise.mean) / noise.std)) for tau in (left, right))
    middles = (low + (high - low) * (j + 0.5) / steps for j in range(steps))
    return tuple(math.exp(noise.mean + noise.std * float(ndtri(q))) for q in middles)


def ddpm_steps(left: float, right: float, steps: int) -> tuple[float, ...]:
    """`steps` middles of equal cells of [left, right], τ being uniform. Raises as `edm_steps`."""
    _check(left, right, steps)
    return tuple(left + (right - left) * (j + 0.5) / steps for j in range(steps))


def interval_error(
    weighted_error: Callable[[float], Tensor], left: float, right: float, inside: Sequence[float]
) -> Tensor:
    """ERR(l, r, ·), of the shape that `weighted_error` gives.

    Args:
        weighted_error: ħ(τ, ·), e.g. [n, c] of images and classes, with the same noise for all τ, so that differences
            between time steps are not due to chance.
        left: l.
        right: r.
        inside: equally probable time steps that stand for τ given [l, r]; see `edm_steps`, `ddpm_steps`.
    """
    mean = torch.stack([weighted_error(tau).double() for tau in inside]).mean(0)
    return mean - (weighted_error(left).double() + weighted_error(right).double()) / 2


def _check(left: float, right: float, steps: int) -> None:
    if not (0 < left < right and steps >= 1):
        raise UserError(f"Time steps need 0 < l < r and at least one of them, found [{left}, {right}] and {steps}.")
