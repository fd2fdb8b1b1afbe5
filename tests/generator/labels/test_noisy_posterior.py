"""p(y | x_t) against Bayes at every noise level, and the diffusion classifier it is at level 0."""

import pytest
import torch
from oracles import MixtureDenoiser, three_classes

from condense.generator.classifier import Schedule, class_errors, logits_from_errors
from condense.generator.denoiser import SIGMA_DATA
from condense.generator.labels.noisy_posterior import noisy_posterior

SIGMAS = (0.1, 0.3, 0.5, 0.7, 1.0, 2.0, 4.0, 10.0)


def gaussians(num_classes, dim, spread, std, seed=0):
    random = torch.Generator().manual_seed(seed)
    means = spread * torch.randn(num_classes, 1, 1, 1, dim, generator=random)
    return MixtureDenoiser(torch.ones(num_classes, 1), means, torch.full((num_classes, 1), std))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(
    ("num_classes", "dim", "spread", "std"),
    [(10, 256, 0.3, 0.3), (10, 256, 0.1, 0.3), (5, 16, 0.5, 0.3), (3, 64, 0.3, 0.8)],
)
def test_it_is_bayes_posterior_of_a_gaussian_mixture_at_every_noise_level(sigma, num_classes, dim, spread, std):
    oracle, random = gaussians(num_classes, dim, spread, std), torch.Generator().manual_seed(1)
    labels = torch.arange(num_classes).repeat(40)
    x_0 = oracle.draw(labels, random)
    x_t = x_0 + sigma * torch.randn(x_0.shape, generator=random)
    prior = torch.linspace(1, 2, num_classes) / torch.linspace(1, 2, num_classes).sum()
    level = torch.full((len(x_t),), sigma)
    found = noisy_posterior(oracle, x_t, level, random, temperature=1.0, log_prior=prior.log())
    exact = oracle.posterior(x_t, prior, sigma)
    assert float((found - exact).abs().sum(1).mean() / 2) < 0.05


def test_levels_may_differ_within_a_batch():
    oracle = gaussians(4, 32, 0.3, 0.3)
    x_t = torch.randn(2, 1, 1, 32)
    levels, log_prior = torch.tensor([0.5, 3.0]), torch.full((4,), 0.25).log()

    def of(images, sigma):
        return noisy_posterior(
            oracle, images, sigma, torch.Generator().manual_seed(0), temperature=1.0, log_prior=log_prior
        )

    # the noise of an antithetic pair cancels for isotropic Gaussians, so batches may differ in it
    torch.testing.assert_close(of(x_t, levels)[1:], of(x_t[1:], levels[1:]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_of_a_clean_image_it_is_the_diffusion_classifier_at_one_level(temperature):
    oracle, log_prior = three_classes(), torch.tensor([0.2, 0.5, 0.3]).log()
    x = torch.tensor([[[[0.3, -0.2]]]])
    found = noisy_posterior(
        oracle, x, torch.zeros(1), torch.Generator().manual_seed(7), temperature=temperature, log_prior=log_prior
    )
    errors = class_errors(oracle, x, Schedule((SIGMA_DATA,), (1.0,)), torch.Generator().manual_seed(7))
    torch.testing.assert_close(found, logits_from_errors(errors, temperature, log_prior).softmax(1))


def test_the_temperature_fades_where_noise_makes_pixels_independent():
    oracle = gaussians(10, 256, 0.3, 0.3)
    random = torch.Generator().manual_seed(2)
    x_0 = oracle.draw(torch.arange(10).repeat(20), random)
    log_prior = torch.full((10,), 0.1).log()
    distance = []
    for sigma in (4.0, 10.0):
        x_t = x_0 + sigma * torch.randn(x_0.shape, generator=random)
        level = torch.full((len(x_t),), sigma)
        soft = noisy_posterior(oracle, x_t, level, random, temperature=6.0, log_prior=log_prior)
        distance.append(float((soft - oracle.posterior(x_t, log_prior.exp(), sigma)).abs().sum(1).mean() / 2))
    assert distance[0] < 0.05 and distance[1] < 0.01


def test_it_costs_two_passes():
    oracle = gaussians(3, 4, 0.3, 0.3)
    x_t = torch.zeros(5, 1, 1, 4)
    noisy_posterior(
        oracle, x_t, torch.ones(5), torch.Generator().manual_seed(0), temperature=1.0, log_prior=torch.zeros(3)
    )
    assert oracle.evaluations == 2 * 5, "an antithetic pair of each image"
