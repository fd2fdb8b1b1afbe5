"""The second opinion: its pool against Bayes, its exponents, its matrix, and who asks it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from three_classes import PRIOR, drawn, gaussian
from tiny import NETWORK, train_options, training_set

from condense.data.types import Supervision, TrainingSet
from condense.errors import UserError
from condense.generator.labels import labeller, second_opinion
from condense.generator.labels.fold_networks import FoldNetworks, num_views
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.posterior import estimate_transition, self_confidence
from condense.generator.labels.second_opinion import SecondOpinion, earned_exponents, fit_exponents, pool
from condense.generator.labels.suggestions import diffusion_posterior, suggest, weighed
from condense.generator.labels.suggestions import second_opinion as labels_beside
from condense.generator.model import Generator
from condense.generator.training.fitting import ask_beside
from condense.generator.training.prerequisites import prepare
from condense.generator.training.session import train_generator
from condense.preprocessing import standardisation
from condense.run import Run


@pytest.fixture(autouse=True)
def many_labels(monkeypatch):
    """The labeller is asked."""
    monkeypatch.setattr(labeller, "FEW", 0)


LABELLER = {"folds": 2, "rounds": 1, "epochs": 2, "width": 4, "crops": False, "batch_size": 8}
ASKED = {"transition": "labeller", "labeller": LABELLER, "held_out": 0.3}


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


def test_a_generator_beside_a_labeller_has_to_earn_its_weight():
    """The labeller is right; the generator guesses, or has an independent view as good."""
    n, matrix = 4000, 0.7 * torch.eye(3) + 0.1
    truth = drawn(n)
    likelihood = matrix.T[torch.multinomial(matrix[truth], 1, generator=torch.Generator().manual_seed(1))[:, 0]]
    second, guesses, independent = (gaussian(n, 0.7, *seen) for seen in ((truth, 2), (drawn(n, 4), 5), (truth, 3)))
    for few in (40, n):
        told = guesses[:few], second[:few], likelihood[:few], PRIOR.log()
        assert earned_exponents(*told) == second_opinion.ALONE
        assert few == n or fit_exponents(*told)[0] > 0
    assert earned_exponents(independent, second, likelihood, PRIOR.log()) == pytest.approx((1, 1), abs=0.3)


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


def test_forming_it_takes_the_better_judge():
    """The labeller knows the classes, the generator's logits are noise."""
    data = training_set("noisy", per_class=100)
    truth, held = training_set("labelled", per_class=100).supervision.observed, np.arange(0, 300, 2)
    sure = np.full((300, 3), 0.05, dtype=np.float32)
    sure[np.arange(300), truth] = 0.9
    made = generator(second_opinion=False)
    made.log_prior = torch.full((3,), 1 / 3).log()
    made.transition = torch.from_numpy(transition_of(truth, data.supervision.observed))
    judge = FoldNetworks([], standardisation(data.images.images), 1.0, False, False, 0)
    noise = torch.randn(len(held), 3, generator=torch.Generator().manual_seed(0))
    ask_beside(made, judge, data, held, sure[held], 3 * noise)
    assert made.opinion.exponents[0] < 0.2 and made.opinion.exponents[1] > 0.5
    ask_beside(made, judge, data, held, sure[held], None)
    assert made.opinion.exponents == second_opinion.ALONE


def transition_of(truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    counts = np.zeros((3, 3), dtype=np.float32)
    np.add.at(counts, (truth, labels), 1)
    return counts / counts.sum(1, keepdims=True)


def generator(kind: str = "noisy", run: Run | None = None, **changed: object) -> Generator:
    options = train_options(**{**ASKED, **changed})
    return train_generator(training_set(kind), NETWORK, options, 0, run or Run(None))


def test_it_is_kept_with_the_generator_and_gives_the_same_answers(tmp_path):
    made, data = generator(run=Run(tmp_path)), training_set()
    back = Generator.load(Run(tmp_path))
    assert isinstance(made.opinion, SecondOpinion) and back.opinion.numbers() == made.opinion.numbers()
    for one, other in zip(*(suggest(who, data, Run(None)).__dict__.values() for who in (made, back)), strict=True):
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
    counted, views = made.opinion.judge.evaluations, num_views(mirrored=data.images.may_flip, crops=False)
    made.opinion.judge.beliefs(data.take(np.arange(7)), Run(None), None)
    assert made.opinion.judge.evaluations == counted + 2 * 7 * views


def test_training_images_are_judged_by_the_networks_that_did_not_see_them(tmp_path):
    data = training_set()
    fitted = labeller.fit(data, LabellerOptions.model_validate(LABELLER), 3, Run(tmp_path))
    np.testing.assert_array_equal(fitted.networks.out_of_fold(data), fitted.suggestions.from_image)
    back = FoldNetworks.of(fitted.networks.tensors(), fitted.networks.numbers(), (1, 8, 8))
    np.testing.assert_array_equal(back.out_of_fold(data), fitted.suggestions.from_image)
    new = back.posterior(data.images.images)
    assert not np.allclose(new, fitted.suggestions.from_image)
    each = [
        torch.from_numpy(replace(back, networks=[one]).posterior(data.images.images)).log() for one in back.networks
    ]
    mean = torch.stack(each).mean(0).softmax(1)  # both share the exponent, so logits average as log posteriors do
    np.testing.assert_allclose(new, mean.numpy(), atol=1e-5)


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
    f, h = (
        torch.from_numpy(part).clamp_min(1e-8).log()
        for part in (by_itself.from_image, made.opinion.judge.out_of_fold(data))
    )
    expected = pool(f, h, made.log_prior, made.opinion.exponents).softmax(1)
    np.testing.assert_allclose(found.from_image, expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(found.transition, made.transition.numpy())
    joint = expected.numpy() * made.transition.numpy().T[data.supervision.observed]
    np.testing.assert_allclose(found.posterior, joint / joint.sum(1, keepdims=True), atol=1e-5)


def test_a_diffusion_classifier_without_weight_is_not_asked(monkeypatch):
    made, data = generator(), training_set()
    made.opinion.exponents = (0.0, 1.3)
    asked = weighed(
        made, data.supervision, diffusion_posterior(made, data, Run(None)), labels_beside(made, data, Run(None))
    )
    monkeypatch.delattr(type(made), "posterior")
    np.testing.assert_allclose(suggest(made, data, Run(None)).posterior, asked.posterior, atol=1e-6)


def test_images_of_other_data_or_labels_are_new_to_it():
    made, data = generator(), training_set()
    h = made.opinion.judge
    np.testing.assert_array_equal(labels_beside(made, data, Run(None)), h.out_of_fold(data))
    other = TrainingSet(data.images, Supervision(data.supervision.candidates[::-1].copy(), data.supervision.trusted))
    np.testing.assert_array_equal(labels_beside(made, other, Run(None)), h.posterior(data.images.images))


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("noisy", {"second_opinion": False}),
        ("noisy", {"transition": "estimate"}),
        ("partial", {}),
        ("noisy", {"objective": "tdsm"}),
    ],
)
def test_there_is_no_second_opinion_unless_asked_for_or_if_declined(kind, changed):
    assert generator(kind, **changed).opinion is None


def test_the_generator_trains_with_the_matrix_of_the_labeller(tmp_path):
    prepared = prepare(training_set(), NETWORK, train_options(**ASKED), 0, Run(tmp_path), torch.device("cpu"))
    np.testing.assert_array_equal(generator().transition.numpy(), prepared.labeller.suggestions.transition)
    assert prepared.images_seen < prepared.evaluations == prepared.labeller.network_evaluations
    assert set(prepared.seconds) == {"labeller"}


@pytest.mark.parametrize(
    "change",
    [{"folds": 3}, {"folds": 0}, {"mean": []}, {"std": [0.0]}, {"exponent": "1"}, {"seed": None}, {"crops": ...}],
)
def test_networks_described_as_something_else_are_refused(change, tmp_path):
    made = generator(run=Run(tmp_path))
    numbers = {**made.opinion.judge.numbers(), **change}
    numbers = {name: value for name, value in numbers.items() if value is not ...}
    with pytest.raises((KeyError, TypeError, ValueError, UserError)):
        FoldNetworks.of(made.opinion.judge.tensors(), numbers, (1, 8, 8))


def test_weights_of_another_network_are_refused():
    networks = generator().opinion.judge
    tensors = networks.tensors()
    tensors["1.head.weight"] = torch.zeros(3, 4_000_000)  # of a network of a million channels
    with pytest.raises(ValueError, match="another network"):
        FoldNetworks.of(tensors, networks.numbers(), (1, 8, 8))
    with pytest.raises(ValueError, match="3 channels"):
        FoldNetworks.of(networks.tensors(), networks.numbers(), (3, 8, 8))


def test_labels_without_doubt_are_never_marked():
    assert not suggest(generator(), training_set("labelled"), Run(None)).likely_wrong.any()
