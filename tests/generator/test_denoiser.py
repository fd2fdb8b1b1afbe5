"""Preconditioning, noise distribution and the two networks behind one `Denoiser`."""

import math

import pytest
import torch
from torch import nn

from condense.generator.denoiser import Denoiser, NoiseDistribution, loss_weight, squared_errors
from condense.generator.networks import AllClass, Conditional, UNetShape

SHAPE = UNetShape(channels=8, multipliers=(1, 2), blocks=1)


def wide_awake(network):
    """The network with ordinary weights in place of the near-zero ones it starts with."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return Denoiser(network).eval()


class Recorder(AllClass):
    """Answers with a constant and keeps what it was given."""

    def __init__(self, answer):
        super().__init__(SHAPE, 1, 2)
        self.answer = answer

    def forward(self, x, c_noise, augment):
        self.given = x, c_noise
        return torch.full((len(x), 2, *x.shape[1:]), self.answer)


def test_network_sees_unit_variance_and_the_quarter_logarithm():
    network = Recorder(0.0)
    sigma = torch.tensor([0.002, 0.5, 80.0]).repeat_interleave(20_000)
    random = torch.Generator().manual_seed(0)
    x_0 = 0.5 * torch.randn(60_000, 1, 1, 1, generator=random)
    x_t = x_0 + sigma[:, None, None, None] * torch.randn(x_0.shape, generator=random)
    Denoiser(network).all_classes(x_t, sigma)
    seen, c_noise = network.given
    torch.testing.assert_close(seen.reshape(3, -1).std(1), torch.ones(3), atol=0.02, rtol=0)
    torch.testing.assert_close(c_noise, sigma.log() / 4)


def test_skip_and_output_scales_are_edms():
    sigma, x = torch.tensor([0.1, 2.0]), torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    total = sigma**2 + 0.25
    skip = Denoiser(Recorder(0.0)).all_classes(x, sigma)
    torch.testing.assert_close(skip[:, 1], (0.25 / total)[:, None, None, None] * x)
    moved = Denoiser(Recorder(1.0)).all_classes(x, sigma) - skip
    torch.testing.assert_close(moved[:, 0, 0, 0, 0], 0.5 * sigma / total.sqrt())


def test_weight_makes_every_noise_level_count_alike():
    # lambda c_out^2 = 1: the weighted loss of the raw network is the same size at every sigma (EDM, Appendix B.6)
    sigma = torch.logspace(-3, 2, 20, dtype=torch.float64)
    c_out = sigma * 0.5 / (sigma**2 + 0.25).sqrt()
    torch.testing.assert_close(loss_weight(sigma) * c_out**2, torch.ones_like(sigma))


def test_noise_levels_are_lognormal_or_loguniform():
    plain = NoiseDistribution().sample(100_000, torch.Generator().manual_seed(0)).log()
    assert plain.mean() == pytest.approx(-1.2, abs=0.02)
    assert plain.std() == pytest.approx(1.2, abs=0.02)
    high = NoiseDistribution(uniform_share=1.0).sample(100_000, torch.Generator().manual_seed(0)).log()
    assert high.min() >= 0 and high.max() <= math.log(80) + 1e-6
    assert high.mean() == pytest.approx(math.log(80) / 2, abs=0.02)
    mixed = NoiseDistribution(uniform_share=0.25).sample(100_000, torch.Generator().manual_seed(0))
    above_20 = 0.25 * math.log(80 / 20) / math.log(80)  # the lognormal share is 0.02 % there
    assert (mixed > 20).float().mean() == pytest.approx(above_20, abs=0.005)


@pytest.mark.parametrize("kind", [AllClass, Conditional])
def test_some_and_one_are_parts_of_all(kind):
    denoiser = wide_awake(kind(SHAPE, 2, 3))
    random = torch.Generator().manual_seed(1)
    x, sigma = torch.randn(4, 2, 8, 8, generator=random), torch.tensor([0.1, 0.5, 1.0, 5.0])
    classes = torch.tensor([[2, 0], [1, 2], [0, 1], [1, 0]])
    with torch.no_grad():
        everything = denoiser.all_classes(x, sigma)
        some = denoiser(x, sigma, classes)
        one = denoiser.one_class(x, sigma, classes[:, 1])
    assert (everything[:, 0] - everything[:, 1]).abs().max() > 1e-3
    picked = torch.stack([everything[i, classes[i]] for i in range(4)])
    torch.testing.assert_close(some, picked, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one, picked[:, 1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [AllClass, Conditional])
def test_evaluations_count_images_through_the_network(kind):
    denoiser = Denoiser(kind(SHAPE, 1, 3)).eval()
    x, sigma = torch.zeros(5, 1, 8, 8), torch.ones(5)
    passes = []
    denoiser.network.register_forward_hook(lambda _, given, out: passes.append(len(given[0])))
    denoiser.all_classes(x, sigma)
    denoiser(x, sigma, torch.zeros(5, 2, dtype=torch.int64))
    denoiser.one_class(x, sigma, torch.zeros(5, dtype=torch.int64))
    expected = 5 * 3 if kind is AllClass else 5 * (3 + 2 + 1)
    assert denoiser.evaluations == sum(passes) == expected


def test_zero_augmentation_is_no_augmentation():
    denoiser = wide_awake(AllClass(SHAPE, 1, 2))
    x, sigma = torch.ones(2, 1, 8, 8), torch.ones(2)
    with torch.no_grad():
        plain, zero = denoiser.all_classes(x, sigma), denoiser.all_classes(x, sigma, torch.zeros(2, 4))
        other = denoiser.all_classes(x, sigma, torch.ones(2, 4))
    assert torch.equal(plain, zero)
    assert not torch.equal(plain, other)


def test_errors_are_summed_over_pixels_not_averaged():
    x_0 = torch.zeros(1, 2, 3, 3)
    assert squared_errors(torch.full((1, 2, 2, 3, 3), 2.0), x_0).tolist() == [[72.0, 72.0]]
