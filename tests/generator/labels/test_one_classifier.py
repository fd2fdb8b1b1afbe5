"""VolMinNet's classifier as a second opinion: its leaning, its matrix, mirror images, and what it is kept with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from three_classes import drawn, gaussian
from tiny import NETWORK, train_options, training_set

from condense.data.types import Supervision, TrainingSet
from condense.generator.labels import one_classifier
from condense.generator.labels.one_classifier import (
    MOST_LEANING,
    OneClassifier,
    counted_labels,
    fit_leaning,
    labels_learned,
    settled,
    without_leaning,
)
from condense.generator.labels.second_opinion import pool
from condense.generator.labels.suggestions import second_opinion, suggest
from condense.generator.model import Generator
from condense.generator.training.session import train_generator
from condense.run import Run

VOLMIN = {"transition": "volmin", "helper": {"steps": 40, "batch_size": 16}, "held_out": 0.3}


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
    assert fit_leaning(leans, learned, 0.9999) == 0 and fit_leaning(leans, learned, 0.0) == MOST_LEANING
    assert fit_leaning(leans, np.zeros_like(learned), agreement) == 0


def test_labels_learned_are_single_doubtful_ones_that_were_not_held_out():
    data = training_set("mixture")
    held = np.array([0, 5])
    found, noisy = labels_learned(data.supervision, held), data.supervision.noisy.copy()
    noisy[held] = False
    assert 0 < noisy.sum() < len(data)
    np.testing.assert_array_equal(found.any(1), noisy)
    np.testing.assert_array_equal(found.argmax(1)[noisy], data.supervision.observed[noisy])


def generator(kind: str = "noisy", run: Run | None = None, **changed: object) -> Generator:
    options = train_options(**{**VOLMIN, **changed})
    return train_generator(training_set(kind), NETWORK, options, 0, run or Run(None))


def test_labels_of_other_data_were_not_learned():
    """Then nothing is subtracted."""
    made, data = generator(), training_set()
    made.opinion.judge.leaning = 3.0
    plain = made.opinion.judge.log_posterior(data.images.images).exp().numpy()
    other = TrainingSet(data.images, Supervision(data.supervision.candidates[::-1].copy(), data.supervision.trusted))
    np.testing.assert_allclose(second_opinion(made, other, Run(None)), plain, atol=1e-6)
    assert not np.allclose(second_opinion(made, data, Run(None)), plain)


def test_mirror_images_are_judged_too():
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    judge = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    one, both = OneClassifier(judge, torch.eye(3)), OneClassifier(judge, torch.eye(3), mirrored=True)
    plain, mirrored = (one.log_posterior(x).exp() for x in (images, images[:, :, ::-1].copy()))
    torch.testing.assert_close(both.log_posterior(images).exp(), (plain + mirrored) / 2)
    assert both.evaluations == 10 == one.evaluations
    turned = both.log_posterior(images[:, :, ::-1].copy())
    torch.testing.assert_close(turned, both.log_posterior(images))


def test_counted_labels_are_spread_over_all_that_may_be_wrong(monkeypatch):
    data = training_set("mixture")
    noisy = np.flatnonzero(data.supervision.noisy)
    np.testing.assert_array_equal(counted_labels(data), noisy)
    monkeypatch.setattr(one_classifier, "COUNTED", 4)
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


def test_settling_counts_every_pass_and_the_matrix():
    data = training_set("noisy", per_class=400)
    held = np.arange(0, 1200, 3)
    judge = Brightness()
    found, of_held = settled(judge, torch.full((3, 3), 1 / 3), data, held, mirrored=False, bf16=False)
    assert found.evaluations == sum(judge.seen) == 1200 + 400
    truth = training_set("labelled", per_class=400).supervision.observed
    made = np.array([np.bincount(data.supervision.observed[truth == y], minlength=3) for y in range(3)]) / 400
    np.testing.assert_allclose(found.transition.numpy(), made, atol=0.03)
    assert of_held.shape == (400, 3) and (of_held.argmax(1) == truth[held]).all()
    without, nothing = settled(judge, torch.eye(3), data, held[:0], mirrored=False, bf16=False)
    assert without.leaning == 0 and nothing is None


def test_it_is_kept_with_the_generator_and_weighed_in(tmp_path):
    made, data = generator(run=Run(tmp_path)), training_set()
    back = Generator.load(Run(tmp_path))
    assert isinstance(back.opinion.judge, OneClassifier) and back.opinion.numbers() == made.opinion.numbers()
    found, again = (suggest(who, data, Run(None)) for who in (made, back))
    np.testing.assert_array_equal(found.posterior, again.posterior)
    f = torch.from_numpy(suggest(replace(made, opinion=None), data, Run(None)).from_image).clamp_min(1e-8).log()
    h = torch.from_numpy(second_opinion(made, data, Run(None))).clamp_min(1e-8).log()
    expected = pool(f, h, made.log_prior, made.opinion.exponents).softmax(1)
    np.testing.assert_allclose(found.from_image, expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(found.transition, made.opinion.judge.transition.numpy())
    joint = expected.numpy() * found.transition.T[data.supervision.observed]
    np.testing.assert_allclose(found.posterior, joint / joint.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("transition", ["volmin", "labeller"])
def test_few_labels_are_judged_by_it(transition):
    assert isinstance(generator(transition=transition).opinion.judge, OneClassifier)
