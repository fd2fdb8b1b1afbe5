"""Heun's sampler against distributions whose flow is known."""

import math

import pytest
import torch
from oracles import MixtureDenoiser

from condense.errors import UserError
from condense.generator.denoiser import Denoiser
from condense.generator.networks import AllClass, Conditional, UNetShape
from condense.generator.sampler import denoise_guided, heun, sigma_steps

SIGMA_MAX = 80.0


def gaussians():
    """Two classes of one Gaussian each: N(0.3, 0.2^2) and N(-0.5, 0.6^2) in each of two pixels."""
    means = torch.tensor([[0.3, 0.3], [-0.5, -0.5]]).reshape(2, 1, 1, 1, 2)
    return MixtureDenoiser(torch.ones(2, 1), means, torch.tensor([[0.2], [0.6]]))


def exact_flow(noise, mean, std):
    """The probability flow of N(mean, std^2) from sigma_max to 0: distances to the mean shrink by one factor."""
    return mean + (SIGMA_MAX * noise - mean) * std / math.sqrt(std**2 + SIGMA_MAX**2)


def test_sigmas_are_edms():
    sigmas = sigma_steps(18)
    assert len(sigmas) == 19
    assert sigmas[0] == pytest.approx(80) and sigmas[17] == pytest.approx(0.002) and sigmas[18] == 0
    middle = (80 ** (1 / 7) + 0.5 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert sigma_steps(3)[1] == pytest.approx(middle)
    with pytest.raises(UserError, match="at least 2 steps, found 1"):
        sigma_steps(1)


@pytest.mark.parametrize(("label", "mean", "std"), [(0, 0.3, 0.2), (1, -0.5, 0.6)])
def test_samples_follow_the_exact_flow_and_twice_the_steps_cut_the_error_by_four(label, mean, std):
    noise = torch.randn(200, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    exact = exact_flow(noise, mean, std)
    classes = torch.full((200,), label)
    error = {n: float((heun(gaussians(), 80 * noise, classes, num_steps=n) - exact).abs().max()) for n in (18, 36)}
    assert error[18] < 0.1 * float((exact - mean).abs().max())
    assert error[36] < error[18] / 4


def test_mean_and_variance_of_each_class():
    noise = torch.randn(4000, 1, 1, 2, generator=torch.Generator().manual_seed(1))
    drawn = heun(gaussians(), 80 * noise, torch.arange(2).repeat(2000), num_steps=40)
    for label, mean, std in ((0, 0.3, 0.2), (1, -0.5, 0.6)):
        own = drawn[label::2]
        assert own.mean() == pytest.approx(mean, abs=4 * std / math.sqrt(4000))
        assert own.std() == pytest.approx(std, rel=0.05)


def test_a_class_of_two_components_keeps_its_moments_and_shares():
    means = torch.tensor([[-0.7, 0.4], [0.0, 0.0]]).reshape(2, 2, 1, 1, 1)
    oracle = MixtureDenoiser(torch.tensor([[0.3, 0.7], [0.5, 0.5]]), means, torch.tensor([[0.1, 0.2], [1.0, 1.0]]))
    noise = torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(2))
    drawn = heun(oracle, 80 * noise, torch.zeros(4000, dtype=torch.int64), num_steps=60).flatten()
    left = drawn[drawn < -0.25]
    assert len(left) / 4000 == pytest.approx(0.3, abs=0.03)
    assert left.mean() == pytest.approx(-0.7, abs=0.02) and left.std() == pytest.approx(0.1, abs=0.015)
    mean = 0.3 * -0.7 + 0.7 * 0.4
    variance = 0.3 * (0.01 + 0.49) + 0.7 * (0.04 + 0.16) - mean**2
    assert drawn.mean() == pytest.approx(mean, abs=0.04)
    assert drawn.var() == pytest.approx(variance, rel=0.06)


@pytest.mark.parametrize(
    ("kind", "guidance", "each"), [(AllClass, 0.0, 1), (Conditional, 0.0, 1), (AllClass, 1.0, 1), (Conditional, 1.0, 3)]
)
def test_an_image_costs_2n_minus_1_evaluations(kind, guidance, each):
    denoiser = Denoiser(kind(UNetShape(channels=8, multipliers=(1,), blocks=1), 1, 3)).eval()
    heun(denoiser, torch.zeros(4, 1, 4, 4), torch.tensor([0, 1, 2, 0]), num_steps=6, guidance=guidance)
    assert denoiser.evaluations == 4 * (2 * 6 - 1) * each


def test_guidance_moves_away_from_the_mean_of_the_classes():
    oracle, x, sigma = gaussians(), torch.full((2, 1, 1, 2), 0.1), torch.tensor([0.5, 0.5])
    classes = torch.tensor([0, 1])
    everything = oracle.all_classes(x, sigma)
    own = everything[torch.arange(2), classes]
    torch.testing.assert_close(denoise_guided(oracle, x, sigma, classes, 0.0), own)
    guided = denoise_guided(oracle, x, sigma, classes, 2.0)
    torch.testing.assert_close(guided, 3 * own - 2 * everything.mean(1))


def test_guidance_pushes_overlapping_classes_apart():
    noise = torch.randn(300, 1, 1, 2, generator=torch.Generator().manual_seed(3))
    gap = {}
    for guidance in (0.0, 1.0):
        drawn = heun(gaussians(), 80 * noise, torch.arange(300) % 2, guidance=guidance)
        gap[guidance] = float(drawn[::2].mean() - drawn[1::2].mean())
    assert gap[0.0] == pytest.approx(0.8, abs=0.1)
    assert gap[1.0] > gap[0.0] + 0.2
