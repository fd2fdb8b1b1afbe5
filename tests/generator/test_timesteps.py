"""Theorem 3's diagnostic against closed forms: polynomials, and Gaussian classes whose errors are known exactly."""

import math

import oracles
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from condense.errors import UserError
from condense.generator.classifier import EDM_NOISE, centred_interval, class_errors
from condense.generator.timesteps import (
    ddpm_interval,
    ddpm_look,
    ddpm_steps,
    edm_look,
    edm_steps,
    interval_error,
)

DATA = 0.5  # EDM's sigma_data


def polynomial(*coefficients: float):
    return lambda tau: torch.tensor([sum(a * tau**k for k, a in enumerate(coefficients))], dtype=torch.float64)


def test_a_straight_line_has_no_error_under_uniform_steps_and_a_parabola_a_known_one() -> None:
    left, right = 0.2, 0.9
    inside = ddpm_steps(left, right, 1000)
    assert float(interval_error(polynomial(3, -2), left, right, inside)) == pytest.approx(0, abs=1e-12)
    found = float(interval_error(polynomial(0, 0, 1), left, right, inside))
    assert found == pytest.approx(-((right - left) ** 2) / 6, rel=1e-5)  # mean of tau^2 less that of its ends


def test_the_mean_is_that_of_the_noise_distribution_within_the_interval() -> None:
    left, right = 0.05, 4.0
    law = stats.lognorm(s=EDM_NOISE.std, scale=math.exp(EDM_NOISE.mean))
    inside = edm_steps(left, right, 2000)
    mass = law.cdf(right) - law.cdf(left)
    for power in (1, 2):
        wanted = integrate.quad(lambda tau, k=power: tau**k * law.pdf(tau), left, right, epsabs=1e-12)[0] / mass
        ends = (left**power + right**power) / 2
        found = float(interval_error(polynomial(*[0] * power, 1), left, right, inside))
        assert found == pytest.approx(wanted - ends, rel=1e-4)


def test_both_forms_of_the_interval_are_centred_on_the_median() -> None:
    for width in (0.1, 0.5, 1.0):
        left, right = ddpm_interval(width)
        assert (left, right - left) == (pytest.approx((1 - width) / 2), pytest.approx(width))
        assert left + right == pytest.approx(1)  # F(l) + F(r) = 1 with F(tau) = tau
    left, right = centred_interval(6.4)
    law = stats.lognorm(s=EDM_NOISE.std, scale=math.exp(EDM_NOISE.mean))
    assert law.cdf(left) + law.cdf(right) == pytest.approx(1)
    middle = edm_steps(left, right, 1)
    assert middle[0] == pytest.approx(math.exp(EDM_NOISE.mean)) and ddpm_steps(0.1, 0.9, 1) == (0.5,)


def gaussian_classes(stds: list[float]) -> oracles.MixtureDenoiser:
    """One isotropic Gaussian per class, in 48 dimensions."""
    means = torch.randn(len(stds), 1, 3, 4, 4, generator=torch.Generator().manual_seed(5)) * 0.2
    return oracles.MixtureDenoiser(torch.ones(len(stds), 1), means, torch.tensor(stds)[:, None])


def exact_error(denoiser: oracles.MixtureDenoiser, of: int, sigma: float) -> Tensor:
    """E ‖D(x_0 + sigma eps, sigma, y) - x_0‖² of images of class `of`, for every y: [c].

    D = a x + (1 - a) mu_y with a = s_y² / (s_y² + sigma²), so D - x_0 = (1 - a) (mu_y - x_0) + a sigma eps.
    """
    d, mu, std = 48, denoiser.means[:, 0], denoiser.stds[:, 0]
    a = std**2 / (std**2 + sigma**2)
    apart = (mu - mu[of]).square().flatten(1).sum(1)
    return (1 - a) ** 2 * (apart + d * std[of] ** 2) + a**2 * d * sigma**2


@pytest.mark.parametrize("form", ["edm", "ddpm"])
def test_errors_of_an_exact_denoiser_have_the_closed_form(form: str) -> None:
    """Monte Carlo over images and noise is within four standard errors of the exact ERR, and these are small."""
    denoiser, of, parts = gaussian_classes([0.5, 0.3, 0.8]), 1, 60
    generator = torch.Generator().manual_seed(0)
    left, right = centred_interval(6.4) if form == "edm" else ddpm_interval(0.6)
    look = edm_look if form == "edm" else ddpm_look
    inside = edm_steps(left, right, 12) if form == "edm" else ddpm_steps(left, right, 12)

    def exact(tau: float) -> Tensor:
        (sigma,) = look(tau).sigmas
        weight = (sigma**2 + DATA**2) / (sigma * DATA) ** 2 if form == "edm" else 1 / sigma**2
        return weight * exact_error(denoiser, of, sigma)

    def one(seed: int) -> Tensor:
        x_0 = denoiser.draw(torch.full((16,), of), generator)

        def measured(tau: float) -> Tensor:
            noise = torch.Generator().manual_seed(seed)  # the same at every time step
            return class_errors(denoiser, x_0, look(tau), noise).double().mean(0)

        return interval_error(measured, left, right, inside)

    found = torch.stack([one(seed) for seed in range(parts)])  # [parts, c]
    error = found.std(0) / parts**0.5
    wanted = interval_error(exact, left, right, inside)
    assert ((found.mean(0) - wanted).abs() < 4 * error).all()
    largest = torch.stack([exact(tau) for tau in (left, *inside, right)]).amax(0)
    assert (error < 0.03 * largest).all() and (wanted.abs() > 4 * error).any()


def test_a_class_as_wide_as_edm_takes_the_data_to_be_has_no_error_at_all() -> None:
    """With s_y = sigma_data the weight undoes what the noise does: ħ is the dimension at every noise level."""
    denoiser = gaussian_classes([DATA])

    def exact(tau: float) -> Tensor:
        return (tau**2 + DATA**2) / (tau * DATA) ** 2 * exact_error(denoiser, 0, tau)

    assert torch.allclose(exact(0.3), torch.tensor([48.0], dtype=torch.float64))
    left, right = centred_interval(6.4)
    assert float(interval_error(exact, left, right, edm_steps(left, right, 50))) == pytest.approx(0, abs=1e-9)


def test_impossible_intervals_are_refused() -> None:
    for width in (0.0, -0.1, 1.5, math.nan):
        with pytest.raises(UserError, match="must lie in"):
            ddpm_interval(width)
    for left, right, steps in ((0.0, 1.0, 2), (0.5, 0.5, 2), (0.1, 0.9, 0)):
        with pytest.raises(UserError, match="0 < l < r"):
            edm_steps(left, right, steps)
