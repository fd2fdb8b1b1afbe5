"""The diffusion classifier against Bayes, Theorem 2 against its closed form."""

import math

import pytest
import torch
from oracles import three_classes
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn

from condense.errors import UserError
from condense.generator.classifier import (
    Schedule,
    centred_interval,
    centred_schedule,
    class_errors,
    fit_temperature,
    held_out_loss,
    logits_from_errors,
    uniform_schedule,
)
from condense.generator.denoiser import Denoiser, NoiseDistribution, loss_weight
from condense.generator.networks import AllClass, Conditional, UNetShape

MEDIAN = math.exp(-1.2)


def closed_form_interval(width, noise):
    """`centred_interval` by l (l + width) = median^2, which holds because ln sigma is symmetric."""
    left = (-width + math.sqrt(width**2 + 4 * math.exp(2 * noise.mean))) / 2
    return left, left + width


@pytest.mark.parametrize("width", [1e-4, 0.01, 0.1, 0.5, 1, 3, 6.4, 20, 79, 300])
@pytest.mark.parametrize("noise", [NoiseDistribution(), NoiseDistribution(0.4, 0.7), NoiseDistribution(-3, 2)])
def test_brents_interval_is_the_closed_forms(width, noise):
    assert centred_interval(width, noise) == pytest.approx(closed_form_interval(width, noise), rel=1e-8)


def test_interval_of_the_paper():
    left, right = centred_interval(6.4)
    assert (round(left, 5), round(right, 5)) == (0.01414, 6.41414)
    mass = quad(lambda s: norm.pdf(math.log(s), -1.2, 1.2) / s, left, right)[0]
    assert mass == pytest.approx(0.989, abs=5e-4)
    below = quad(lambda s: norm.pdf(math.log(s), -1.2, 1.2) / s, 0, left)[0]
    assert below == pytest.approx((1 - mass) / 2, abs=1e-5)


@pytest.mark.parametrize("width", [0, -1, math.inf, math.nan])
def test_width_must_be_positive(width):
    with pytest.raises(UserError, match="width"):
        centred_interval(width)


@pytest.mark.parametrize("schedule", [centred_schedule, uniform_schedule])
def test_schedules_need_a_level_and_their_masses_sum_to_one(schedule):
    with pytest.raises(UserError, match="at least one noise level, found 0"):
        schedule(0)
    for steps in (1, 2, 7):
        assert sum(schedule(steps).masses) == pytest.approx(1)
        assert len(schedule(steps).sigmas) == steps


def test_one_level_is_the_median_and_levels_are_symmetric_about_it():
    assert centred_schedule(1).sigmas == pytest.approx((MEDIAN,))
    sigmas = centred_schedule(8).sigmas
    left, right = centred_interval(6.4)
    assert left < sigmas[0] and sigmas[-1] < right
    for low, high in zip(sigmas, reversed(sigmas), strict=True):
        assert low * high == pytest.approx(MEDIAN**2)


def test_uniform_levels_are_the_middles_of_equal_cells():
    assert uniform_schedule(4, 0.0, 80.0).sigmas == pytest.approx((10, 30, 50, 70))


class KnownError(Denoiser):
    """Misses x_0 = 0 by exactly h_y / lambda(sigma) in the square, so that every weighted error is h_y."""

    def __init__(self, h):
        nn.Module.__init__(self)
        self.h, self.num_classes = torch.tensor(h), len(h)

    def forward(self, x, sigma, classes=None, augment=None):
        miss = (self.h / loss_weight(sigma)[:, None]).sqrt() / math.sqrt(x[0].numel())
        return miss[:, :, None, None, None].expand(-1, -1, *x.shape[1:])


@pytest.mark.parametrize("steps", [1, 2, 8, 33])
@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("schedule", [centred_schedule, uniform_schedule])
def test_the_scale_of_the_logits_does_not_depend_on_the_number_of_evaluations(steps, pairs, schedule):
    errors = class_errors(
        KnownError([1.0, 4.0, 9.0]), torch.zeros(2, 1, 3, 3), schedule(steps), torch.Generator(), pairs=pairs
    )
    torch.testing.assert_close(errors, torch.tensor([[1.0, 4.0, 9.0]] * 2))


def test_expected_logits_of_real_errors_do_not_depend_on_the_number_of_levels():
    x = three_classes().draw(torch.arange(3).repeat(5), torch.Generator().manual_seed(0))
    logits = {}
    for steps in (16, 128):
        errors = class_errors(
            three_classes(), x, centred_schedule(steps), torch.Generator().manual_seed(1), pairs=1024 // steps
        )
        logits[steps] = errors - errors.mean(1, keepdim=True)
    torch.testing.assert_close(logits[16], logits[128], atol=0.04 * float(logits[128].abs().max()), rtol=0)


def likelihood_schedule(levels, low=2e-3, high=60.0):
    """Masses that turn EDM's weight into the likelihood's, and the temperature that makes the logits nats.

    By the I-MMSE relation, log p(x | y) = -int E||D(x + s eps, s, y) - x||^2 s^-3 ds + a constant that all classes
    share (Kong et al. 2023, https://arxiv.org/abs/2302.03792). The classifier sums lambda(s_j) mass_j ||D - x||^2 over
    temperature, so mass_j proportional to ds_j s_j^-3 / lambda(s_j) gives nats at temperature 1 / sum. EDM's own
    masses (lognormal) are not proportional to these: with them no temperature is exact.
    """
    edges = torch.logspace(math.log10(low), math.log10(high), levels + 1, dtype=torch.float64)
    sigmas = (edges[1:] * edges[:-1]).sqrt()
    raw = (edges[1:] - edges[:-1]) * sigmas**-3 / loss_weight(sigmas)
    masses = raw / raw.sum()
    return Schedule(tuple(sigmas.tolist()), tuple(masses.tolist())), 1 / float(raw.sum())


def distance_to_bayes(levels, pairs):
    oracle, prior = three_classes(), torch.tensor([0.2, 0.5, 0.3])
    x = oracle.draw(torch.arange(3).repeat(20), torch.Generator().manual_seed(0))
    schedule, temperature = likelihood_schedule(levels)
    errors = class_errors(oracle, x, schedule, torch.Generator().manual_seed(1), pairs=pairs)
    found = logits_from_errors(errors, temperature, prior.log()).softmax(1)
    bayes = oracle.posterior(x, prior).float()
    assert (bayes.max(1).values < 0.95).float().mean() > 0.5, "the classes must overlap for this to mean much"
    return float((found - bayes).abs().max())


def test_exact_denoisers_converge_to_the_bayes_posterior():
    coarse, fine = distance_to_bayes(10, 2), distance_to_bayes(150, 12)
    assert fine < 0.03
    assert coarse > 2 * fine


def test_edms_weights_rank_classes_as_bayes_does_where_bayes_is_sure():
    oracle, prior = three_classes(), torch.full((3,), 1 / 3)
    x = oracle.draw(torch.arange(3).repeat(100), torch.Generator().manual_seed(0))
    errors = class_errors(oracle, x, centred_schedule(8), torch.Generator().manual_seed(1), pairs=8)
    bayes = oracle.posterior(x, prior)
    sure = bayes.max(1).values > 0.8
    assert sure.sum() > 100
    agree = (errors.argmin(1) == bayes.argmax(1))[sure].float().mean()
    assert agree > 0.95


def test_antithetic_noise_cancels_what_is_odd_in_it():
    # for one Gaussian the error is quadratic in eps; its odd part, the same magnitude for +eps and -eps, must vanish
    oracle = three_classes()
    x = torch.tensor([[[[0.4, 0.3]]]])
    runs = [
        class_errors(oracle, x, Schedule((0.5,), (1.0,)), torch.Generator().manual_seed(s))[0, 1] for s in range(50)
    ]
    # x is class 1's mean: D - x = pull s eps, so each error is pull^2 s^2 |eps|^2, without an odd part at all
    pull = 0.09 / (0.09 + 0.25)
    random = [torch.randn(2, generator=torch.Generator().manual_seed(s)) for s in range(50)]
    weight = float(loss_weight(torch.tensor(0.5)))
    exact = torch.stack([weight * pull**2 * 0.25 * eps.square().sum() for eps in random])
    torch.testing.assert_close(torch.stack(runs), exact)


@pytest.mark.parametrize("kind", [AllClass, Conditional])
def test_a_prediction_does_not_depend_on_its_batch(kind):
    torch.manual_seed(0)
    network = kind(UNetShape(channels=8, multipliers=(1, 1), blocks=1, attention=(1,)), 1, 3)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.15)
    denoiser, schedule = Denoiser(network).eval(), centred_schedule(2)
    x = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def errors(images):
        with torch.no_grad():
            return class_errors(denoiser, images, schedule, torch.Generator().manual_seed(5))

    together = errors(x)
    torch.testing.assert_close(torch.cat([errors(x[i : i + 1]) for i in range(7)]), together)
    torch.testing.assert_close(errors(x.flip(0)).flip(0), together)


@pytest.mark.parametrize(("kind", "each"), [(AllClass, 1), (Conditional, 3)])
def test_cost_is_two_evaluations_per_level_and_pair(kind, each):
    denoiser = Denoiser(kind(UNetShape(channels=8, multipliers=(1,), blocks=1), 1, 3))
    class_errors(denoiser, torch.zeros(5, 1, 4, 4), centred_schedule(4), torch.Generator(), pairs=3)
    assert denoiser.evaluations == 5 * 2 * 4 * 3 * each


def imprecise_labels(n, temperature):
    """Errors [n, 3], and the likelihood of labels drawn at a known temperature and then corrupted."""
    random = torch.Generator().manual_seed(0)
    errors = torch.rand(n, 3, generator=random) * 40
    prior = torch.tensor([0.5, 0.3, 0.2]).log()
    posterior = logits_from_errors(errors, temperature, prior).softmax(1)
    labels = torch.multinomial(posterior, 1, generator=random)[:, 0]
    transition = 0.7 * torch.eye(3) + 0.1
    observed = torch.multinomial(transition[labels], 1, generator=random)[:, 0]
    return errors, transition.T[observed], prior


def test_temperature_is_found_again_from_many_imprecise_labels():
    assert fit_temperature(*imprecise_labels(4000, 7.0), 20.0) == pytest.approx(7.0, rel=0.2)


def test_few_labels_leave_the_temperature_near_the_guess():
    assert fit_temperature(*imprecise_labels(5, 7.0), 20.0) == pytest.approx(20.0, rel=0.3)
    nothing = torch.ones(400, 3), torch.ones(400, 3), torch.zeros(3)
    assert fit_temperature(*nothing, 4.0) == pytest.approx(4.0)


def test_held_out_loss_by_hand():
    logits = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    likelihood = torch.tensor([[0.8, 0.4], [1.0, 1.0]])
    assert held_out_loss(logits, likelihood) == pytest.approx(-math.log(0.2 + 0.3) / 2, abs=1e-6)
