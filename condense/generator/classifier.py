"""The diffusion classifier: a generator read as p(y | x).

logit_y(x_0) = -sum_j w_j ||D(x_0 + s_j eps_j, s_j, y) - x_0||^2 / temperature + log prior_y, with the error summed
over pixels, the same antithetic noise for every class, and w_j = lambda(s_j) times the mass of the j-th cell, so
that the scale does not depend on the number of noise levels T.
Source: Li et al. (2023), https://arxiv.org/abs/2303.16203; Chen et al. (2024), https://arxiv.org/abs/2305.15241;
DMIS (2025), https://arxiv.org/abs/2510.03016, Theorem 2, for the choice of noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from torch import Tensor

from condense.errors import UserError
from condense.generator.denoiser import Denoiser, NoiseDistribution, loss_weight, squared_errors
from condense.generator.losses import forward_loss

EDM_NOISE = NoiseDistribution()
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


@dataclass(frozen=True)
class Schedule:
    """Noise levels s_j [T] of the classifier and the probability mass [T] of each one's cell (sums to 1)."""

    sigmas: tuple[float, ...]
    masses: tuple[float, ...]

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return iter(zip(self.sigmas, self.masses, strict=True))


def centred_interval(width: float, noise: NoiseDistribution = EDM_NOISE) -> tuple[float, float]:
    """[l, l + width] whose mass under the noise distribution is centred on the median: F(l) + F(l + width) = 1.

    Solved by Brent's method. Source: DMIS, Theorem 2. Raises `UserError` unless width > 0.
    """
    if not (width > 0 and math.isfinite(width)):
        raise UserError(f"The width of the time-step interval must be positive, found {width}.")
    median = math.exp(noise.mean)

    def imbalance(left: float) -> float:
        z_left, z_right = ((math.log(s) - noise.mean) / noise.std for s in (left, left + width))
        return float(ndtr(z_left) - ndtr(-z_right))

    left = float(brentq(imbalance, 1e-12 * median, median, xtol=1e-15, rtol=1e-12))
    return left, left + width


def centred_schedule(steps: int, width: float = 6.4, noise: NoiseDistribution = EDM_NOISE) -> Schedule:
    """T = `steps` noise levels at the medians of equally probable cells of the centred interval (Theorem 2).

    T = 1 gives the median e^mean.
    """
    _check_steps(steps)
    left, right = centred_interval(width, noise)
    low, high = (float(ndtr((math.log(s) - noise.mean) / noise.std)) for s in (left, right))
    quantiles = [low + (high - low) * (j + 0.5) / steps for j in range(steps)]
    sigmas = tuple(math.exp(noise.mean + noise.std * float(ndtri(q))) for q in quantiles)
    return Schedule(sigmas, (1 / steps,) * steps)


def uniform_schedule(steps: int, low: float = SIGMA_MIN, high: float = SIGMA_MAX) -> Schedule:
    """The alternative: T = `steps` midpoints of equal cells of the whole range of sigma (Chen et al. 2024)."""
    _check_steps(steps)
    sigmas = tuple(low + (high - low) * (j + 0.5) / steps for j in range(steps))
    return Schedule(sigmas, (1 / steps,) * steps)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise UserError(f"The diffusion classifier needs at least one noise level, found {steps}.")


@dataclass(frozen=True, eq=False)
class NoisyView:
    """One noisy view of the images: its level, its weight in the error, and sigma eps [C, H, W], the same for all."""

    sigma: float
    weight: float
    noise: Tensor


def draw_views(x_0: Tensor, schedule: Schedule, generator: torch.Generator, pairs: int) -> list[NoisyView]:
    """2 * T * `pairs` views, level by level; each view with noise +eps is followed by the one with -eps."""
    looks = []
    for sigma, mass in schedule:
        weight = float(loss_weight(torch.tensor(sigma, dtype=torch.float64))) * mass / (2 * pairs)
        for _ in range(pairs):
            noise = torch.randn(x_0.shape[1:], generator=generator, device=generator.device)
            noise = sigma * noise.to(x_0.device)
            looks += [NoisyView(sigma, weight, noise), NoisyView(sigma, weight, -noise)]
    return looks


def class_errors(
    denoiser: Denoiser, x_0: Tensor, schedule: Schedule, generator: torch.Generator, *, pairs: int = 1
) -> Tensor:
    """sum_j w_j ||D(x_0 + s_j eps, s_j, y) - x_0||^2, averaged over `pairs` antithetic pairs (+eps, -eps).

    The noise is the same for every class and every image, so a prediction does not depend on its batch.

    Args:
        denoiser: in eval mode (dropout would act as unshared noise).
        x_0: clean images [B, C, H, W] in [-1, 1].
        schedule: noise levels and masses.
        generator: source of the noise; a CPU generator gives the same on every device.
        pairs: antithetic pairs per noise level; 2 * T * pairs passes in all.

    Returns:
        float32 [B, c].
    """
    looks = draw_views(x_0, schedule, generator, pairs)
    # all views in one batch: small batches leave the device idle
    x_t = torch.cat([x_0 + look.noise for look in looks])
    sigmas = torch.cat([torch.full((len(x_0),), look.sigma, device=x_0.device) for look in looks])
    weights = torch.cat([torch.full((1,), look.weight, device=x_0.device) for look in looks])
    errors = squared_errors(denoiser.all_classes(x_t, sigmas), x_0.repeat(len(looks), 1, 1, 1))
    total: Tensor = (weights[:, None, None] * errors.reshape(len(looks), len(x_0), -1)).sum(0)
    return total


@dataclass(frozen=True, eq=False)
class Calibration:
    """Turns class errors into logits, see `logits_from_errors`: a temperature above 0 and a log class prior [c]."""

    temperature: float
    log_prior: Tensor


def logits_from_errors(errors: Tensor, temperature: float, log_prior: Tensor) -> Tensor:
    """-errors / temperature + log prior: [B, c], [c] -> [B, c]; softmax of it is the posterior."""
    return -errors.float() / temperature + log_prior.to(errors.device)


def fit_temperature(errors: Tensor, likelihood: Tensor, log_prior: Tensor, guess: float) -> float:
    """Maximum-a-posteriori temperature on held-out labels: argmax sum_i log sum_y p(z_i | y) f_y(x_i).

    Imprecise labels carry little information on the temperature, so a log-normal prior around `guess` (0.3 in the
    logarithm) dominates with a few hundred held-out images and fades with thousands.

    Args:
        errors: held-out class errors [m, c] (see `class_errors`).
        likelihood: p(z | y) of each held-out label under each class [m, c].
        log_prior: log class prior [c].
        guess: centre of the prior.

    Returns:
        The best of 81 temperatures spaced evenly in the logarithm over four decades around `guess`.
    """

    def cost(temperature: float) -> float:
        misfit = len(errors) * held_out_loss(logits_from_errors(errors, temperature, log_prior), likelihood)
        return misfit + math.log(temperature / guess) ** 2 / (2 * 0.3**2)

    return min((guess * 10 ** (-2 + 4 * i / 80) for i in range(81)), key=cost)


def held_out_loss(logits: Tensor, likelihood: Tensor) -> float:
    """Negative log likelihood of imprecise labels, -mean log sum_y p(z | y) softmax(logits)_y, in nats."""
    return float(forward_loss(logits, likelihood.to(logits.device)).mean())
