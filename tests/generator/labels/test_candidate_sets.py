"""Sets that may miss the truth against enumeration; and every kind of label: beliefs equal Bayes' rule."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import three_classes

from condense.data import corrupt
from condense.data.noise_spec import parse
from condense.data.types import ImageData, Supervision, Truth
from condense.generator.classifier import Schedule, class_errors, logits_from_errors
from condense.generator.denoiser import loss_weight
from condense.generator.labels.candidate_sets import fit_odds, log_elementary, set_likelihood
from condense.generator.labels.posterior import class_prior, estimate_transition, given_label, label_likelihood

TRANSITION = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.85, 0.1], [0.3, 0.3, 0.4]])
PRIOR = torch.tensor([0.2, 0.5, 0.3])


def random_transition(c: int) -> torch.Tensor:
    return (2 * torch.randn(c, c, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).softmax(1)


def all_sets(c: int, size: int) -> torch.Tensor:
    """Every set of `size` classes out of c: bool [number, c]."""
    chosen = list(itertools.combinations(range(c), size))
    return torch.nn.functional.one_hot(torch.tensor(chosen), c).sum(1).bool()


def test_elementary_symmetric_polynomials_by_enumeration():
    odds = random_transition(6)
    found = log_elementary(odds.log(), 6).exp()
    for size in range(1, 7):
        sets = all_sets(6, size)
        expected = torch.stack([odds[:, s].prod(1) for s in sets]).sum(0)
        torch.testing.assert_close(found[:, size], expected)
    torch.testing.assert_close(found[:, 0], torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_sets_of_a_size_have_probabilities_that_sum_to_one(size):
    odds, sets = random_transition(5), all_sets(5, size)
    found = set_likelihood(sets, odds) / math.comb(5, size)
    torch.testing.assert_close(found.sum(0), torch.ones(5))
    product = torch.stack([odds[:, s].prod(1) for s in sets]).float()
    torch.testing.assert_close(found, product / product.sum(0))


def test_independent_inclusion_given_the_size_is_what_the_formula_says():
    """Bernoulli(p_k) for each class; among sets of one size they are odds w_k = p_k / (1 - p_k)."""
    share = torch.tensor([0.9, 0.3, 0.2, 0.6], dtype=torch.float64)
    odds = share / (1 - share)
    sets = all_sets(4, 2)
    chance = torch.where(sets, share, 1 - share).prod(1)
    found = set_likelihood(sets, (odds / odds.sum()).expand(4, 4))[:, 0] / math.comb(4, 2)
    torch.testing.assert_close(found.double(), chance / chance.sum(), atol=1e-6, rtol=1e-5)


def test_one_class_and_all_classes_are_the_known_cases():
    candidates = torch.tensor([[0, 1, 0], [1, 1, 1], [1, 0, 1]], dtype=torch.bool)
    found = label_likelihood(candidates, torch.tensor([False, False, True]), TRANSITION)
    torch.testing.assert_close(found[0], TRANSITION[:, 1])
    torch.testing.assert_close(found[1], torch.ones(3))
    torch.testing.assert_close(found[2], torch.tensor([1.0, 0.0, 1.0]))


def test_a_set_is_stronger_evidence_than_one_of_its_labels_drawn_blindly():
    transition = 0.55 * torch.eye(10) + 0.045
    pair = torch.zeros(1, 10, dtype=torch.bool)
    pair[0, :2] = True
    found = set_likelihood(pair, transition)[0]
    assert found[0] / found[5] == pytest.approx(0.595 / 0.045, rel=1e-3), "the odds of a single label"
    assert found[0] / found[5] > (0.595 + 0.045) / 0.09, "a label drawn from the set would tell half as much"


def test_gradients_reach_the_transition_matrix():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float32).requires_grad_()
    candidates = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    likelihood = label_likelihood(candidates, torch.zeros(3, dtype=torch.bool), logits.softmax(1))
    (gradient,) = torch.autograd.grad(likelihood.log().sum(), logits)
    assert gradient.isfinite().all() and gradient.abs().max() > 0.01


def drawn_sets(n: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes [n] by PRIOR and sets [n, 3] of one size by TRANSITION's odds, by enumeration."""
    source = np.random.default_rng(seed)
    labels, sets = source.choice(3, n, p=PRIOR.numpy()), all_sets(3, size).numpy()
    chance = np.stack([TRANSITION.numpy()[:, s].prod(1) for s in sets], 1).astype(float)
    below = (chance / chance.sum(1, keepdims=True)).cumsum(1)[labels] < source.random((n, 1))
    return labels, sets[np.minimum(below.sum(1), len(sets) - 1)]


def test_odds_are_found_again_from_sets_and_single_labels():
    counts, sizes = torch.full((3, 3), 1e-3), torch.zeros(3, 3)
    for size in (1, 2):
        labels, candidates = drawn_sets(60_000, size, size)
        counts.index_add_(0, torch.from_numpy(labels), torch.from_numpy(candidates).float())
        sizes[:, size] = torch.from_numpy(np.bincount(labels)).float()
    torch.testing.assert_close(fit_odds(counts, sizes), TRANSITION, atol=0.015, rtol=0)


def test_odds_of_single_labels_are_their_shares():
    counts = torch.tensor([[6.0, 3.0, 1.0], [1.0, 1.0, 2.0], [1.0, 1.0, 98.0]])
    sizes = torch.stack([torch.zeros(3), counts.sum(1)], 1)
    torch.testing.assert_close(fit_odds(counts, sizes), counts / counts.sum(1, keepdim=True))


def test_transition_and_prior_are_recovered_from_sets_and_exact_posteriors():
    labels, candidates = drawn_sets(20_000, 2)
    oracle = three_classes()
    oracle.means *= 4
    x = oracle.draw(torch.from_numpy(labels), torch.Generator().manual_seed(0))
    posterior = oracle.posterior(x, torch.full((3,), 1 / 3)).float()
    given = Supervision(candidates, np.zeros(20_000, dtype=np.bool_))
    assert given.kind == "noisy-partial"
    found = estimate_transition(posterior, given, 0.8 * torch.eye(3) + 0.2 / 3)
    torch.testing.assert_close(found, TRANSITION, atol=0.03, rtol=0)
    torch.testing.assert_close(class_prior(given, posterior, found), PRIOR, atol=0.02, rtol=0)


def test_a_long_tail_of_every_kind_is_found_as_class_prior():
    sizes = np.array([9000, 900, 100])
    labels = np.repeat(np.arange(3), sizes)
    oracle = three_classes()
    oracle.means *= 4
    x = oracle.draw(torch.from_numpy(labels), torch.Generator().manual_seed(0))
    posterior = oracle.posterior(x, torch.full((3,), 1 / 3)).float()
    images = ImageData(np.zeros((10_000, 1, 1, 1), dtype=np.uint8), ("a", "b", "c"), "tail", "train")
    for spec in ("none", "sym:0.4", "partial:0.5", "unlabeled:0.1", "annotators:0.3"):
        given = corrupt.corrupted(parse(spec), Truth(labels), images, 0)
        rate = parse(spec).rate if spec != "partial:0.5" else 0.0
        transition = (1 - rate) * torch.eye(3) + rate / 2 * (1 - torch.eye(3))
        found = class_prior(given, posterior, transition)
        torch.testing.assert_close(found, torch.tensor([0.9, 0.09, 0.01]), atol=0.02, rtol=0, msg=spec)
        assert (found > 0.001).all(), "a rare class stays possible"


def bayes_schedule(levels: int = 150) -> tuple[Schedule, float]:
    """Masses and temperature that make the classifier's logits nats (I-MMSE; see test_classifier.py)."""
    edges = torch.logspace(math.log10(2e-3), math.log10(60), levels + 1, dtype=torch.float64)
    sigmas = (edges[1:] * edges[:-1]).sqrt()
    raw = (edges[1:] - edges[:-1]) * sigmas**-3 / loss_weight(sigmas)
    return Schedule(tuple(sigmas.tolist()), tuple((raw / raw.sum()).tolist())), 1 / float(raw.sum())


@pytest.fixture(scope="module")
def looked_at():
    """Images of three overlapping classes, their classes, f(x) by exact denoisers, and log p(x | y)."""
    oracle = three_classes()
    labels = torch.multinomial(PRIOR, 60, replacement=True, generator=torch.Generator().manual_seed(0))
    x = oracle.draw(labels, torch.Generator().manual_seed(1))
    schedule, temperature = bayes_schedule()
    errors = class_errors(oracle, x, schedule, torch.Generator().manual_seed(2), pairs=18)
    return labels.numpy(), logits_from_errors(errors, temperature, PRIOR.log()).softmax(1), oracle.log_density(x)


def chance_of_label(kind: str, candidates: np.ndarray, y: int) -> float:
    """p(z | y) from the way z came about, by enumeration."""
    given = np.flatnonzero(candidates)
    if kind == "noisy":
        return float(TRANSITION[y, given[0]])
    if kind == "partial":  # each wrong class joins with probability 1/2
        return 0.25 if candidates[y] else 0.0
    if kind == "noisy-partial":
        sets = all_sets(3, len(given)).numpy()
        chances = [float(TRANSITION[y, torch.from_numpy(s)].prod()) for s in sets]
        return chances[[tuple(s) for s in sets].index(tuple(candidates))] / sum(chances)
    return 1.0 if len(given) == 3 else float(candidates[y])


@pytest.mark.parametrize("kind", ["labelled", "noisy", "partial", "noisy-partial", "unlabelled", "mixture"])
def test_beliefs_of_every_kind_equal_bayes_with_exact_denoisers(kind, looked_at):
    labels, f, log_density = looked_at
    source = np.random.default_rng(0)
    n, clean = len(labels), np.eye(3, dtype=np.bool_)[labels]
    chances = TRANSITION.double().numpy()
    noisy = np.eye(3, dtype=np.bool_)[[source.choice(3, p=chances[y] / chances[y].sum()) for y in labels]]
    sets = noisy | np.eye(3, dtype=np.bool_)[source.integers(0, 3, n)]
    forms = {
        "labelled": (clean, True),
        "noisy": (noisy, False),
        "partial": (clean | (source.random((n, 3)) < 0.5), True),
        "noisy-partial": (sets, False),
        "unlabelled": (clean | (source.random(n) < 0.5)[:, None], True),
    }
    kinds = np.array([kind] * n) if kind != "mixture" else np.array(list(forms))[np.arange(n) % 5]
    candidates = np.stack([forms[k][0][i] for i, k in enumerate(kinds)])
    given = Supervision(candidates, np.array([forms[k][1] for k in kinds]))
    assert given.kind == kind
    likelihood = label_likelihood(torch.from_numpy(candidates), torch.from_numpy(given.trusted), TRANSITION)
    found = given_label(f, likelihood)
    joint = log_density.exp() * PRIOR.double()
    joint *= torch.tensor(
        [[chance_of_label(k, s, y) for y in range(3)] for k, s in zip(kinds, candidates, strict=True)]
    )
    torch.testing.assert_close(found.double(), joint / joint.sum(1, keepdim=True), atol=0.03, rtol=0)
