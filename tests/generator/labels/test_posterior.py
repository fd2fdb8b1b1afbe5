"""Beliefs about labels: TDSM's weights, support, the bank, transition matrix and prior."""

import numpy as np
import pytest
import torch
from oracles import three_classes
from tiny import pictures, supervision

from condense.data.types import Supervision
from condense.generator.labels.posterior import (
    PosteriorBank,
    class_prior,
    estimate_transition,
    given_label,
    label_likelihood,
)

KINDS = ("labelled", "noisy", "partial", "unlabelled", "mixture")


def symmetric(c, rate):
    return (1 - rate - rate / (c - 1)) * torch.eye(c) + rate / (c - 1)


def tensors(given: Supervision):
    return torch.from_numpy(given.candidates), torch.from_numpy(given.trusted)


def test_symmetric_noise_gives_tdsms_weights():
    """TDSM (Na et al. 2024, Eq. 8): w = p(y | observed) p(x_t | y) / sum; for symmetric T and equal classes
    p(y | observed) = T[y, observed], and p(x_t | y) is proportional to its time-dependent classifier h_y(x_t)."""
    oracle, transition, sigma = three_classes(), symmetric(3, 0.4), 0.7
    x_t = torch.randn(40, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    observed = torch.arange(40) % 3
    unnormalised = transition[:, observed].T * oracle.log_density(x_t, sigma).exp()
    tdsm = unnormalised / unnormalised.sum(1, keepdim=True)
    h = oracle.posterior(x_t, torch.full((3,), 1 / 3), sigma).float()
    likelihood = label_likelihood(
        torch.nn.functional.one_hot(observed, 3).bool(), torch.zeros(40, dtype=torch.bool), transition
    )
    torch.testing.assert_close(given_label(h, likelihood).double(), tdsm, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_pi_lies_on_the_candidates_and_sums_to_one(kind, seed):
    _, truth = pictures(40, seed=seed)
    given = supervision(kind, truth, seed)
    random = torch.Generator().manual_seed(seed)
    posterior = (30 * torch.randn(len(given), 3, generator=random)).softmax(1)  # sharp ones too
    transition = torch.randn(3, 3, generator=random).softmax(1)
    candidates, trusted = tensors(given)
    pi = given_label(posterior, label_likelihood(candidates, trusted, transition))
    torch.testing.assert_close(pi.sum(1), torch.ones(len(given)))
    assert (pi >= 0).all()
    assert (pi[trusted] * ~candidates[trusted] == 0).all()
    single = trusted & (candidates.sum(1) == 1)
    torch.testing.assert_close(pi[single], candidates[single].float())


def test_likelihood_of_each_kind():
    transition = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.8, 0.0], [0.1, 0.1, 0.8]])
    candidates = torch.tensor([[0, 1, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1], [1, 1, 0]], dtype=torch.bool)
    trusted = torch.tensor([True, False, True, True, False])
    expected = [[0, 1, 0], [0.3, 0.8, 0.1], [1, 0, 1], [1, 1, 1], [2.0, 3.0, 3 * 0.01 / 0.17]]
    torch.testing.assert_close(label_likelihood(candidates, trusted, transition), torch.tensor(expected))


def test_bank_starts_uniform_on_the_candidates_then_averages():
    bank = PosteriorBank(torch.tensor([[1, 0, 1], [1, 1, 1]], dtype=torch.bool), torch.ones(2, dtype=torch.bool), 0.75)
    torch.testing.assert_close(bank[torch.tensor([0])], torch.tensor([[0.5, 0.0, 0.5]]))
    first, second = torch.tensor([[0.25, 0.5, 0.25]]), torch.tensor([[0.75, 0.0, 0.25]])
    bank.update(torch.tensor([1]), first)
    torch.testing.assert_close(bank[torch.tensor([1])], first)  # the first visit replaces the guess
    bank.update(torch.tensor([1]), second)
    torch.testing.assert_close(bank[torch.tensor([1])], 0.75 * first + 0.25 * second)
    assert bank.visited.tolist() == [False, True]
    assert bank.posterior.dtype == torch.float16


def test_bank_does_not_believe_a_label_that_may_be_wrong():
    one = torch.tensor([[0, 1, 0], [0, 1, 0]], dtype=torch.bool)
    bank = PosteriorBank(one, torch.tensor([True, False]), 0.75)
    torch.testing.assert_close(
        bank[torch.arange(2)], torch.tensor([[0, 1, 0], [1 / 3, 1 / 3, 1 / 3]]), atol=1e-3, rtol=0
    )


def test_bank_refreshes_images_never_visited_first():
    bank = PosteriorBank(torch.ones(5, 2, dtype=torch.bool), torch.ones(5, dtype=torch.bool), 0.75)
    bank.update(torch.tensor([0, 3]), torch.full((2, 2), 0.5))
    asked, waiting = torch.tensor([0, 4, 3, 1]), torch.tensor([False, False, False, False, True])
    assert bank.most_overdue(asked, 3, torch.zeros_like(waiting)).tolist() == [4, 1, 0]
    assert bank.most_overdue(asked, 3, waiting).tolist() == [1, 0, 3]


def noisy_draws(transition, prior, n, seed=0):
    generator = np.random.default_rng(seed)
    num_classes = len(prior)
    labels = generator.choice(num_classes, n, p=prior)
    observed = np.array([generator.choice(num_classes, p=transition[y]) for y in labels])
    return labels, Supervision.from_labels(observed, num_classes, trusted=False)


def exact_posteriors(spread, n=20_000):
    """Labels through a known T, and p(y | x) of images whose classes lie `spread` apart: T, supervision, f."""
    transition, prior = np.array([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.3, 0.3, 0.4]]), [0.2, 0.5, 0.3]
    labels, given = noisy_draws(transition, prior, n)
    oracle = three_classes()
    oracle.means *= spread
    x = oracle.draw(torch.from_numpy(labels), torch.Generator().manual_seed(0))
    return torch.from_numpy(transition).float(), given, oracle.posterior(x, torch.tensor(prior)).float()


def test_transition_is_recovered_from_exact_posteriors():
    transition, given, posterior = exact_posteriors(spread=4)
    found = estimate_transition(posterior, given, symmetric(3, 0.2))
    torch.testing.assert_close(found, transition, atol=0.02, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_transition_estimate_is_sharper_than_the_soft_confusion_where_classes_overlap():
    transition, given, posterior = exact_posteriors(spread=1)
    found = estimate_transition(posterior, given, symmetric(3, 0.2))
    soft = posterior.T @ torch.from_numpy(given.candidates).float()  # in expectation E[f f^T] T: too flat
    soft /= soft.sum(1, keepdim=True)
    assert (found - transition).abs().max() < 0.5 * (soft - transition).abs().max()


def test_transition_estimate_keeps_its_start_where_there_is_nothing_to_learn():
    start = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    candidates = np.array([[1, 0], [0, 1], [0, 1], [1, 1]], dtype=np.bool_)
    belief = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    trusting = Supervision(candidates, np.ones(4, dtype=np.bool_))
    torch.testing.assert_close(estimate_transition(belief, trusting, start), start)
    # the second class is believed of no image with an untrusted label
    mixed = Supervision(candidates, np.array([False, False, True, True]))
    torch.testing.assert_close(estimate_transition(belief, mixed, start)[1], start[1])
    vague = Supervision.from_labels(np.arange(300) % 3, 3, trusted=False)
    found = estimate_transition(torch.full((300, 3), 1 / 3), vague, symmetric(3, 0.3))
    torch.testing.assert_close(found, symmetric(3, 0.3))


@pytest.mark.parametrize("taken_for_one", [3, 10])
def test_merged_classes_do_not_override_the_labels(taken_for_one):
    """A network sure that `taken_for_one` classes are all class 0 must not fit a matrix to its own mistake."""
    c, start = 10, symmetric(10, 0.18)
    transition = symmetric(c, 0.4)
    exact = transition.double().numpy()
    truth, given = noisy_draws(exact / exact.sum(1, keepdims=True), [1 / c] * c, 6_000)
    believed = np.where(truth < taken_for_one, 0, truth)
    posterior = 0.9 * torch.eye(c)[torch.from_numpy(believed)] + 0.01
    found = estimate_transition(posterior, given, start)
    torch.testing.assert_close(found[0], start[0])
    torch.testing.assert_close(found[taken_for_one:], transition[taken_for_one:], atol=0.05, rtol=0)
    pi = given_label(posterior, label_likelihood(*tensors(given), found))
    ours = pi[torch.from_numpy(given.observed == 1) & torch.from_numpy(truth == 1)]
    assert (ours[:, 1] > 0.25).all()  # under the fitted row: 0.07 and less


def test_class_prior_undoes_a_known_transition():
    transition, prior = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]), [0.1, 0.6, 0.3]
    _, given = noisy_draws(transition, prior, 30_000)
    found = class_prior(given, torch.full((30_000, 3), 1 / 3), torch.from_numpy(transition))
    torch.testing.assert_close(found, torch.tensor(prior), atol=0.02, rtol=0)
    assert found.sum() == pytest.approx(1, abs=1e-6)
    naive = np.bincount(given.observed) / 30_000
    assert np.abs(naive - prior).max() > 0.1, "the counts as observed would be far off"


def test_class_prior_of_trusted_labels_counts_the_labelled_part():
    candidates = np.array([[1, 0, 0]] * 30 + [[0, 1, 0]] * 10 + [[1, 1, 1]] * 500, dtype=np.bool_)
    given = Supervision(candidates, np.ones(540, dtype=np.bool_))
    found = class_prior(given, torch.full((540, 3), 1 / 3), torch.eye(3))
    torch.testing.assert_close(found, torch.tensor([0.75, 0.25, 0.0]), atol=0.01, rtol=0)
    assert (found > 0).all(), "a class may be rare, never impossible"


def test_class_prior_of_partial_labels_is_the_mean_belief_within_the_candidates():
    candidates = np.array([[1, 1, 0]] * 40, dtype=np.bool_)
    posterior = torch.tensor([[0.24, 0.06, 0.7]]).repeat(40, 1)
    posterior[:10] = torch.tensor([0.06, 0.24, 0.7])
    given = Supervision(candidates, np.ones(40, dtype=np.bool_))
    found = class_prior(given, posterior, torch.eye(3))
    torch.testing.assert_close(found, torch.tensor([0.65, 0.35, 0.0]), atol=0.01, rtol=0)
    averaged = class_prior(given, posterior, torch.eye(3), torch.tensor([0.0, 0.0, 1.0]), 0.5)
    torch.testing.assert_close(averaged, torch.tensor([0.325, 0.175, 0.5]), atol=0.01, rtol=0)


def test_what_is_known_by_labels_is_not_averaged_into_the_class_prior():
    given = Supervision(np.array([[1, 0, 0]] * 30 + [[0, 1, 0]] * 10, dtype=np.bool_), np.ones(40, dtype=np.bool_))
    found = class_prior(given, torch.full((40, 3), 1 / 3), torch.eye(3), torch.full((3,), 1 / 3), 0.9)
    torch.testing.assert_close(found, torch.tensor([0.75, 0.25, 0.0]), atol=0.01, rtol=0)


def test_the_class_prior_of_partial_labels_leaves_no_class_behind():
    """Beliefs contain the prior, and the prior is made from them: in this loop, vague beliefs must not lose a class."""
    c, n = 6, 20_000
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(c, (n,), generator=draws)
    candidates = (torch.rand(n, c, generator=draws) < 0.5).scatter(1, labels[:, None], True)
    evidence = 0.1 * torch.randn(n, c, generator=draws)  # in nats: next to nothing is known of the images
    given = Supervision(candidates.numpy(), np.ones(n, dtype=np.bool_))
    prior = histogram = torch.full((c,), 1 / c)
    for _ in range(30):
        prior = class_prior(given, (evidence + prior.log()).softmax(1), torch.eye(c), prior, 0.9)
        likeliest = given_label((evidence + histogram.log()).softmax(1), candidates.float()).argmax(1)
        histogram = (torch.bincount(likeliest, minlength=c) / n).clamp_min(1e-3)
    torch.testing.assert_close(prior, torch.full((c,), 1 / c), atol=0.02, rtol=0)
    assert histogram.min() < 0.03, "as the likeliest classes are counted, the last ones are all but lost"


def test_class_prior_is_uniform_when_nothing_is_known():
    given = Supervision(np.ones((5, 4), dtype=np.bool_), np.ones(5, dtype=np.bool_))
    torch.testing.assert_close(class_prior(given, torch.eye(5, 4), torch.eye(4)), torch.full((4,), 0.25))
