"""The second opinion: its pool against Bayes, its exponents, its matrix, and that only `relabel` asks it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import NETWORK, train_options, training_set

from condense.data.types import Supervision, TrainingSet
from condense.generator.labels import second_opinion
from condense.generator.labels.posterior import estimate_transition, self_confidence
from condense.generator.labels.second_opinion import (
    SecondOpinion,
    counted_labels,
    fit_exponents,
    fit_leaning,
    form_opinion,
    labels_learned,
    pool,
    without_leaning,
)
from condense.generator.labels.suggestions import learned, suggest
from condense.generator.model import Generator
from condense.generator.training.session import train_generator
from condense.run import Run

PRIOR = torch.tensor([0.5, 0.3, 0.2])
VOLMIN = {"transition": "volmin", "helper": {"steps": 40, "batch_size": 16}, "held_out": 0.3}


def gaussian(n: int, noise: float, truth: torch.Tensor, seed: int) -> torch.Tensor:
    """Log p(y | u) [n, 3], u = the class plus normal noise, by Bayes' rule."""
    u = truth + noise * torch.randn(n, generator=torch.Generator().manual_seed(seed))
    misfit = -((u[:, None] - torch.arange(3.0)) ** 2) / (2 * noise**2)
    return (misfit + PRIOR.log()).log_softmax(1)


def drawn(n: int, seed: int = 0) -> torch.Tensor:
    return torch.multinomial(PRIOR, n, replacement=True, generator=torch.Generator().manual_seed(seed))


def test_the_pool_of_independent_views_is_bayes_rule():
    """With both exponents 1, p(y | u, v) ~ p(y | u) p(y | v) / p(y); the prior counts once."""
    u, v, noise = torch.tensor([0.3, 1.2]), torch.tensor([0.9, 2.2]), 0.7
    classes = torch.arange(3.0)
    misfit = [-((seen[:, None] - classes) ** 2) / (2 * noise**2) for seen in (u, v)]
    first, second = ((m + PRIOR.log()).log_softmax(1) for m in misfit)
    bayes = (misfit[0] + misfit[1] + PRIOR.log()).softmax(1)
    torch.testing.assert_close(pool(first, second, PRIOR.log(), (1.0, 1.0)).softmax(1), bayes)
    torch.testing.assert_close(pool(first, second, PRIOR.log(), (1.0, 0.0)).softmax(1), first.exp())
    torch.testing.assert_close(pool(first, second, PRIOR.log(), (0.0, 0.0)).softmax(1), PRIOR.expand(2, 3))


def test_exponents_favour_the_better_model_and_undo_wrong_certainty():
    """From noisy labels alone: independent views get 1 and 1, one twice too sure a half, one that guesses nothing."""
    n, matrix = 4000, 0.7 * torch.eye(3) + 0.1
    truth = drawn(n)
    labels = torch.multinomial(matrix[truth], 1, generator=torch.Generator().manual_seed(1))[:, 0]
    likelihood = matrix.T[labels]
    first, second = gaussian(n, 0.7, truth, 2), gaussian(n, 0.7, truth, 3)
    assert fit_exponents(first, second, likelihood, PRIOR.log()) == pytest.approx((1.0, 1.0), abs=0.15)
    too_sure = (2 * (first - PRIOR.log()) + PRIOR.log()).log_softmax(1)
    assert fit_exponents(too_sure, second, likelihood, PRIOR.log()) == pytest.approx((0.5, 1.0), abs=0.15)
    guesses = gaussian(n, 0.7, drawn(n, 4), 5)
    assert fit_exponents(guesses, second, likelihood, PRIOR.log()) == pytest.approx((0.0, 1.0), abs=0.15)


def test_few_held_out_images_leave_the_exponents_where_they_are_usual():
    truth = drawn(2)
    first, second = gaussian(2, 0.7, truth, 2), gaussian(2, 0.7, truth, 3)
    found = fit_exponents(first, second, torch.eye(3)[truth] * 0.6 + 0.1, PRIOR.log())
    assert found == pytest.approx((second_opinion.USUAL, second_opinion.USUAL), abs=0.3)


def test_the_matrix_is_counted_above_each_class_own_confidence():
    """Northcutt et al. (2021), Eqs. 1 and 2, by hand; no common threshold counts both classes."""
    posterior = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.58, 0.42], [0.95, 0.05], [0.55, 0.45]])
    labels = Supervision.from_labels(np.array([0, 0, 1, 1, 1, 0]), 2, trusted=False)
    own = self_confidence(posterior, labels)
    torch.testing.assert_close(own, torch.tensor([(0.9 + 0.8 + 0.55) / 3, (0.4 + 0.42 + 0.05) / 3]))
    # as 0: rows 0, 1, 4, above 0.75; as 1, above 0.29: rows 2, 3, 5
    found = estimate_transition(posterior, labels, torch.eye(2), own, strength=0.0)
    torch.testing.assert_close(found, torch.tensor([[2 / 3, 1 / 3], [1 / 3, 2 / 3]]))
    common = estimate_transition(posterior, labels, torch.eye(2), 0.5, strength=1.0)
    torch.testing.assert_close(common, torch.tensor([[4 / 7, 3 / 7], [0.0, 1.0]]))


def test_an_unused_label_gets_the_mean_as_its_threshold():
    posterior = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    own = self_confidence(posterior, Supervision.from_labels(np.array([0, 1]), 3, trusted=False))
    torch.testing.assert_close(own, torch.tensor([0.7, 0.6, 0.2]))


def test_a_leaning_towards_labels_learned_is_found_and_undone():
    """Bayes' posteriors with 1.5 nats added to each label learned; agreement as on images that were not."""
    labels = np.arange(3)[drawn(6000, 7)]
    learned = np.eye(3, dtype=bool)[labels]
    honest = gaussian(6000, 0.7, drawn(6000), 2)
    leans = (honest + 1.5 * torch.from_numpy(learned)).log_softmax(1)
    agreement = float(honest.exp()[torch.from_numpy(learned)].mean())
    found = fit_leaning(leans, learned, agreement)
    assert found == pytest.approx(1.5, abs=1e-3)
    torch.testing.assert_close(without_leaning(leans, learned, found), honest, atol=2e-3, rtol=0)
    assert fit_leaning(leans, learned, 0.9999) == 0 and fit_leaning(leans, learned, 0.0) == second_opinion.MOST_LEANING
    assert fit_leaning(leans, np.zeros_like(learned), agreement) == 0


def test_labels_learned_are_single_doubtful_ones_that_were_not_held_out():
    data = training_set("mixture")
    held = np.array([0, 5])
    found, noisy = labels_learned(data.supervision, held), data.supervision.noisy.copy()
    noisy[held] = False
    assert 0 < noisy.sum() < len(data)
    np.testing.assert_array_equal(found.any(1), noisy)
    np.testing.assert_array_equal(found.argmax(1)[noisy], data.supervision.observed[noisy])


def test_labels_of_other_data_were_not_learned():
    made, data = generator(), training_set()
    held = np.flatnonzero(~learned(made, data).any(1))
    assert len(held) == round(0.3 * len(data))
    other = TrainingSet(data.images, Supervision(data.supervision.candidates[::-1].copy(), data.supervision.trusted))
    assert not learned(made, other).any() and not learned(made, data.take(np.arange(9))).any()


def test_mirror_images_are_judged_too():
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    judge = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    one, both = SecondOpinion(judge, torch.eye(3)), SecondOpinion(judge, torch.eye(3), mirrored=True)
    plain, mirrored = (one.log_posterior(x, bf16=False).exp() for x in (images, images[:, :, ::-1].copy()))
    torch.testing.assert_close(both.log_posterior(images, bf16=False).exp(), (plain + mirrored) / 2)
    assert both.evaluations == 10 == one.evaluations
    turned = both.log_posterior(images[:, :, ::-1].copy(), bf16=False)
    torch.testing.assert_close(turned, both.log_posterior(images, bf16=False))


def test_counted_labels_are_spread_over_all_that_may_be_wrong(monkeypatch):
    data = training_set("mixture")
    noisy = np.flatnonzero(data.supervision.noisy)
    np.testing.assert_array_equal(counted_labels(data), noisy)
    monkeypatch.setattr(second_opinion, "COUNTED", 4)
    few = counted_labels(data)
    assert len(set(few)) == 4 and (few[0], few[-1]) == (noisy[0], noisy[-1]) and set(few) <= set(noisy)


class Brightness(torch.nn.Module):
    """Recognises the three patterns of `tiny.pictures` by mean and spread, with a confidence set by `scale`."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.seen = torch.nn.Parameter(torch.tensor(scale)), []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x))
        flat = x.flatten(1)
        facts = torch.stack([-flat.mean(1) - 0.2, flat.mean(1), 2 * flat.std(1) - 1], 1)
        return self.scale * facts


def test_forming_counts_every_pass_and_takes_the_better_judge():
    data = training_set("noisy", per_class=400)
    held = np.arange(0, 1200, 3)
    ignorant = np.random.default_rng(0).dirichlet(np.full(3, 0.2), len(held)).astype(np.float32)
    uniform = torch.full((3,), 1 / 3)
    judge = Brightness()
    blank = torch.full((3, 3), 1 / 3)
    found = form_opinion(judge, blank, data, held, ignorant, uniform.log(), mirrored=False, bf16=False)
    assert found.evaluations == sum(judge.seen) == 1200 + 400
    assert found.exponents[0] < 0.2 and found.exponents[1] > 0.5
    truth = training_set("labelled", per_class=400).supervision.observed
    made = np.array([np.bincount(data.supervision.observed[truth == y], minlength=3) for y in range(3)]) / 400
    np.testing.assert_allclose(found.transition.numpy(), made, atol=0.03)
    without = form_opinion(judge, torch.eye(3), data, held[:0], None, uniform.log(), mirrored=False, bf16=False)
    assert without.exponents == (second_opinion.USUAL, second_opinion.USUAL) and without.leaning == 0


def generator(kind: str = "noisy", run: Run | None = None, **changed: object) -> Generator:
    options = train_options(**{**VOLMIN, **changed})
    return train_generator(training_set(kind), NETWORK, options, 0, run or Run(None))


def test_it_is_kept_with_the_generator_and_gives_the_same_answers(tmp_path):
    made, data = generator(run=Run(tmp_path)), training_set()
    back = Generator.load(Run(tmp_path))
    assert isinstance(made.opinion, SecondOpinion) and back.opinion.numbers() == made.opinion.numbers()
    for one, other in zip(*(suggest(who, data, Run(None)).__dict__.values() for who in (made, back)), strict=True):
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
    counted = made.opinion.evaluations
    made.opinion.log_posterior(data.images.images[:7], bf16=False)
    assert made.opinion.evaluations == counted + 7


def test_suggestions_use_it_and_the_diffusion_classifier_does_not():
    made, data = generator(), training_set()
    alone = replace(made, opinion=None)
    images = data.images.images
    np.testing.assert_array_equal(alone.posterior(images), made.posterior(images))
    np.testing.assert_array_equal(
        alone.label_posterior(images, data.supervision), made.label_posterior(images, data.supervision)
    )
    found, by_itself = (suggest(who, data, Run(None)) for who in (made, alone))
    np.testing.assert_array_equal(by_itself.from_image, made.posterior(images))
    mine = made.opinion.log_posterior(images, bf16=made.bf16)
    f = torch.from_numpy(by_itself.from_image).clamp_min(1e-8).log()
    mine = without_leaning(mine, learned(made, data), made.opinion.leaning)
    expected = pool(f, mine, made.log_prior, made.opinion.exponents).softmax(1)
    np.testing.assert_allclose(found.from_image, expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(found.transition, made.opinion.transition.numpy())
    np.testing.assert_array_equal(by_itself.transition, made.transition.numpy())
    joint = expected.numpy() * made.opinion.transition.numpy().T[data.supervision.observed]
    np.testing.assert_allclose(found.posterior, joint / joint.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("noisy", {"second_opinion": False}),
        ("noisy", {"transition": "estimate"}),
        ("partial", {}),
        ("noisy", {"objective": "tdsm"}),
    ],
)
def test_there_is_no_second_opinion_without_volminnet_or_if_declined(kind, changed):
    assert generator(kind, **changed).opinion is None


def test_labels_without_doubt_are_never_marked():
    assert not suggest(generator(), training_set("labelled"), Run(None)).likely_wrong.any()
