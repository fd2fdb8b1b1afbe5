"""Early elimination against the whole classifier: same winner, same odds among survivors, fewer evaluations."""

import math

import numpy as np
import pytest
import torch
from oracles import MixtureDenoiser
from tiny import CONDITIONAL, NETWORK, train_options, training_set
from torch import nn

from condense.generator.classifier import Calibration, Schedule, centred_schedule, class_errors, logits_from_errors
from condense.generator.denoiser import Denoiser, loss_weight
from condense.generator.elimination import class_logits, surviving_logits
from condense.generator.labels.posterior import given_label
from condense.generator.model import Generator
from condense.generator.networks import AllClass, Conditional, UNetShape
from condense.generator.training.session import train_generator
from condense.generator.training.trainer import Trainer
from condense.run import Run

SCHEDULE = centred_schedule(4)
CLASSES = 20


def many_classes(num_classes=CLASSES, std=0.25):
    """Gaussians around points of [-1, 1]^4, some of them close to each other, as 1x2x2 "images"."""
    means = torch.rand(num_classes, 1, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return MixtureDenoiser(torch.ones(num_classes, 1), means, torch.full((num_classes, 1), std))


def prior_of(num_classes):
    return torch.rand(num_classes, generator=torch.Generator().manual_seed(1)).softmax(0).log()


def whole(denoiser, x, log_prior, *, schedule=SCHEDULE, temperature=0.5, pairs=1):
    errors = class_errors(denoiser, x, schedule, torch.Generator().manual_seed(2), pairs=pairs)
    return logits_from_errors(errors, temperature, log_prior)


def raced(denoiser, x, log_prior, margin, *, schedule=SCHEDULE, temperature=0.5, pairs=1, candidates=None):
    return surviving_logits(
        denoiser,
        x,
        schedule,
        torch.Generator().manual_seed(2),
        Calibration(temperature, log_prior),
        margin=margin,
        candidates=candidates,
        pairs=pairs,
    )


@pytest.mark.parametrize("pairs", [1, 3])
def test_exact_denoisers_keep_their_winner_and_the_survivors_odds(pairs):
    oracle, prior = many_classes(), prior_of(CLASSES)
    x = oracle.draw(torch.arange(CLASSES).repeat(20), torch.Generator().manual_seed(3))
    full = whole(oracle, x, prior, pairs=pairs)
    spent = oracle.evaluations * CLASSES  # the oracle counts images, whole passes ask for every class
    oracle.evaluations = 0
    logits, alive = raced(oracle, x, prior, 3.0, pairs=pairs)
    assert oracle.evaluations < 0.6 * spent
    assert torch.equal(logits.argmax(1), full.argmax(1))
    several = alive.sum(1) > 1
    assert several.sum() > 20 and (~alive).sum() > 0.5 * alive.numel()
    inside = logits.masked_fill(~alive, -math.inf)[several]
    expected = full.masked_fill(~alive, -math.inf)[several]
    torch.testing.assert_close(inside.softmax(1), expected.softmax(1), atol=1e-4, rtol=0)
    variation = (logits.softmax(1) - full.softmax(1)).abs().sum(1) / 2
    assert variation.max() < math.exp(-3), "what all who were dropped may hold together"


def test_a_wider_margin_costs_more_and_an_endless_one_everything():
    oracle, prior = many_classes(), prior_of(CLASSES)
    x = oracle.draw(torch.arange(CLASSES).repeat(5), torch.Generator().manual_seed(3))
    cost = []
    for margin in (0.0, 3.0, 10.0, math.inf):
        oracle.evaluations = 0
        logits, alive = raced(oracle, x, prior, margin)
        cost.append(oracle.evaluations)
    assert cost == sorted(cost) and len(set(cost)) == 4
    assert cost[-1] == len(x) * CLASSES * 2 * 4 and alive.all()
    full = whole(oracle, x, prior)
    torch.testing.assert_close(logits.log_softmax(1), full.log_softmax(1), atol=1e-4, rtol=1e-4)


class Known(Denoiser):
    """Misses x_0 = 0 so that class y's weighted error is h_y, or h_y (1 + lean_y) on one side and less on the other."""

    def __init__(self, h, lean):
        nn.Module.__init__(self)
        self.h, self.lean, self.num_classes, self.evaluations = torch.tensor(h), torch.tensor(lean), len(h), 0

    def forward(self, x, sigma, classes=None, augment=None):
        self.evaluations += len(x)
        side = torch.sign(x.flatten(1)[:, :1])
        h = (self.h * (1 + side * self.lean)).gather(1, classes)
        miss = (h / loss_weight(sigma)[:, None]).sqrt() / math.sqrt(x[0].numel())
        return miss[:, :, None, None, None].expand(-1, -1, *x.shape[1:])


def known(h, lean, margin, log_prior=None, candidates=None):
    denoiser, c = Known(h, lean), len(h)
    prior = torch.zeros(c) if log_prior is None else log_prior
    logits, alive = raced(denoiser, torch.zeros(2, 1, 3, 3), prior, margin, temperature=1.0, candidates=candidates)
    return logits, alive, denoiser.evaluations


def test_dropped_classes_keep_their_gap_and_a_sole_survivor_is_not_evaluated_further():
    logits, alive, evaluations = known([4.0, 40.0, 8.0], [0.0, 0.0, 0.0], 5.0)
    # a quarter of the error a level: 9 nats behind after the first; class 2 is 1, 2, 3, 4 nats behind
    assert alive.tolist() == [[True, False, True]] * 2
    torch.testing.assert_close(logits - logits[:, :1], torch.tensor([[0.0, -9.0, -4.0]] * 2))
    assert evaluations == 2 * (2 * 3 + 3 * 2 * 2)
    logits, alive, evaluations = known([4.0, 40.0, 32.0], [0.0, 0.0, 0.0], 5.0)
    assert alive.sum() == 2 and evaluations == 2 * 2 * 3
    torch.testing.assert_close(logits - logits[:, :1], torch.tensor([[0.0, -9.0, -7.0]] * 2))


def test_the_prior_counts():
    prior = torch.tensor([0.0, 6.0, 0.0])
    logits, alive, _ = known([4.0, 40.0, 4.0], [0.0, 0.0, 0.0], 5.0, log_prior=prior)
    # 6 nats ahead by the prior, 9 behind by every level: dropped at the second, 12 behind
    assert alive.tolist() == [[True, False, True]] * 2
    torch.testing.assert_close(logits[:, 0] - logits[:, 1], torch.tensor([12.0, 12.0]))


def test_a_difference_within_the_noise_drops_no_class():
    """9 nats behind a level; all on one side, their standard error is 9 after a level, 9 √2 after two."""
    even, uneven = (known([4.0, 40.0], [0.0, lean], 5.0) for lean in (0.0, 0.9))
    assert not even[1].all() and not uneven[1].all()
    assert (even[2], uneven[2]) == (2 * 2 * 2, 2 * 2 * 2 * 2)
    assert known([4.0, 40.0], [0.0, 0.9], 18.1)[1].all() and not known([4.0, 40.0], [0.0, 0.0], 18.1)[1].all()


def test_allowed_classes_are_compared_with_the_best_allowed_one():
    candidates = torch.tensor([[False, True, True, False], [True, True, False, False]])
    logits, alive, _ = known([4.0, 40.0, 44.0, 60.0], [0.0] * 4, 5.0, candidates=candidates)
    assert alive.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert float(logits[0, 1] - logits[0, 2]) == pytest.approx(4 / 4 * 4)


def awake(kind=Conditional):
    """A network of random weights whose classes differ far more than the sign of the noise."""
    torch.manual_seed(0)
    network = kind(UNetShape(channels=8, multipliers=(1, 1), blocks=1), 1, 5)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    if kind is Conditional:
        network.unet.embed_class.weight.data *= 10
    return Denoiser(network).eval().requires_grad_(False)


def images(n=7):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_prediction_does_not_depend_on_its_batch():
    denoiser, prior = awake(), prior_of(5)
    together, alive = raced(denoiser, images(), prior, 1.0, temperature=0.1)
    assert 0.1 < alive.float().mean() < 0.9
    apart = [raced(denoiser, images()[i : i + 1], prior, 1.0, temperature=0.1) for i in range(7)]
    assert torch.equal(torch.cat([found for _, found in apart]), alive)
    torch.testing.assert_close(
        torch.cat([logits for logits, _ in apart]).log_softmax(1), together.log_softmax(1), atol=1e-3, rtol=1e-3
    )


def logits_of(denoiser, margin):
    return class_logits(
        denoiser,
        images(),
        SCHEDULE,
        torch.Generator().manual_seed(2),
        Calibration(0.1, prior_of(5)),
        margin=margin,
    )


def test_one_pass_networks_and_no_margin_evaluate_everything():
    for denoiser, margin, each in ((awake(AllClass), 1.0, 1), (awake(), None, 5)):
        logits = logits_of(denoiser, margin)
        assert denoiser.evaluations == 7 * 2 * 4 * each
        torch.testing.assert_close(logits, whole(denoiser, images(), prior_of(5), temperature=0.1))
    denoiser = awake()
    logits_of(denoiser, 1.0)
    assert 7 * 2 * 5 < denoiser.evaluations < 7 * 2 * 4 * 5


def test_a_single_level_leaves_nothing_to_save():
    oracle = many_classes()
    x = oracle.draw(torch.arange(CLASSES), torch.Generator().manual_seed(3))
    logits, _ = raced(oracle, x, prior_of(CLASSES), 0.0, schedule=Schedule((0.8,), (1.0,)))
    full = whole(oracle, x, prior_of(CLASSES), schedule=Schedule((0.8,), (1.0,)))
    torch.testing.assert_close(logits.log_softmax(1), full.log_softmax(1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("eliminate", [None, 4.0])
def test_a_generator_takes_its_margin_along(eliminate, tmp_path):
    train = training_set("mixture")
    options = train_options(steps=30, eliminate=eliminate, learning_rate=3e-3)
    made = train_generator(train, CONDITIONAL, options, 0, Run(tmp_path))
    found = Generator.load(Run(tmp_path))
    assert made.eliminate == found.eliminate == eliminate
    posterior = found.label_posterior(train.images.images, train.supervision)
    np.testing.assert_allclose(posterior.sum(1), 1, atol=1e-5)
    everything = len(train) * 2 * 4 * 3
    assert (found.evaluations == everything) if eliminate is None else (found.evaluations < everything)
    found.eliminate = None
    before = found.label_posterior(train.images.images, train.supervision)
    assert (before.argmax(1) == posterior.argmax(1)).mean() > 0.95


def test_training_refreshes_its_beliefs_for_less():
    spent = {}
    for eliminate in (None, 0.0):
        options = train_options(steps=40, eliminate=eliminate, refresh_share=1.0, learning_rate=3e-3)
        trainer = Trainer(training_set(), CONDITIONAL, options, 0)
        list(trainer.steps())
        spent[eliminate] = trainer.ema_denoiser.evaluations
    assert spent[None] == 40 * 16 * 2 * 2 * 3
    assert spent[0.0] < 0.95 * spent[None]


def test_the_margin_changes_nothing_of_a_network_that_needs_none():
    options = {"steps": 3}
    weights = []
    for eliminate in (None, 1.0):
        trainer = Trainer(training_set(), NETWORK, train_options(**options, eliminate=eliminate), 0)
        list(trainer.steps())
        weights.append(torch.cat([weight.flatten() for weight in trainer.denoiser.parameters()]))
    assert torch.equal(*weights)


def test_under_candidate_sets_the_mean_belief_of_no_class_moves():
    oracle, prior, random = many_classes(), prior_of(CLASSES), torch.Generator().manual_seed(5)
    labels = torch.arange(CLASSES).repeat(20)
    x = oracle.draw(labels, random)
    candidates = torch.rand(len(x), CLASSES, generator=random) < 0.5
    candidates[torch.arange(len(x)), labels] = True
    logits, alive = raced(oracle, x, prior, 3.0, candidates=candidates)
    exact = given_label(whole(oracle, x, prior).softmax(1), candidates.float())
    found = given_label(logits.softmax(1), candidates.float())
    assert (~alive).sum() > 0.5 * alive.numel()
    assert (found - exact).mean(0).abs().max() < 1e-3
    assert torch.equal(found.argmax(1), exact.argmax(1))
