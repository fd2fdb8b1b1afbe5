"""Classes drawn with their probability: sums, certainties, frequencies."""

import pytest
import torch

from condense import precision
from condense.generator.training.class_sampling import draw_classes, inclusion_probabilities

SHARE = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_probabilities_sum_to_k_and_follow_the_shares_below_one(k):
    found = inclusion_probabilities(SHARE, k)
    torch.testing.assert_close(found.sum(1), torch.full((4,), float(k), dtype=torch.float64))
    assert (found > 0).all() and (found <= 1).all()
    torch.testing.assert_close(found[0, 1:], found[0, 1].expand(3))
    torch.testing.assert_close(found[1], torch.full((4,), k / 4, dtype=torch.float64))
    torch.testing.assert_close(found[3], torch.full((4,), k / 4, dtype=torch.float64))


def test_what_would_exceed_one_is_certain_and_the_rest_shares_what_is_left():
    found = inclusion_probabilities(torch.tensor([[0.9, 0.06, 0.03, 0.01]]), 2)
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.6, 0.3, 0.1]], dtype=torch.float64))


def test_classes_can_be_made_certain():
    always = torch.tensor([[False, True, False, False]])
    found = inclusion_probabilities(torch.tensor([[0.4, 0.0, 0.4, 0.2]]), 2, always)
    torch.testing.assert_close(found, torch.tensor([[0.4, 1.0, 0.4, 0.2]], dtype=torch.float64), atol=1e-6, rtol=0)


def test_all_classes_are_taken_where_k_reaches_their_number():
    drawn = draw_classes(SHARE, 7, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.classes.sort(1).values, torch.arange(4).expand(4, -1))
    assert torch.equal(drawn.inverse, torch.ones(4, 4))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_draws_are_k_different_classes_with_their_probabilities(k):
    n = 20_000
    share = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
    drawn = draw_classes(share.expand(n, -1), k, torch.Generator().manual_seed(k))
    assert drawn.classes.shape == (n, k)
    taken = torch.zeros(n, 5).scatter(1, drawn.classes, 1.0)
    assert (taken.sum(1) == k).all()
    expected = inclusion_probabilities(share[None], k)[0]
    torch.testing.assert_close(taken.mean(0).double(), expected, atol=0.015, rtol=0)
    torch.testing.assert_close(drawn.inverse.double(), 1 / expected[drawn.classes], atol=1e-4, rtol=1e-5)


def test_a_sum_over_draws_is_unbiased_where_keeping_the_largest_is_not():
    generator = torch.Generator().manual_seed(3)
    share, terms = torch.rand(1, 10, generator=generator), torch.randn(10, generator=generator)
    drawn = draw_classes(share.expand(50_000, -1), 2, generator)
    estimate = (share[0, drawn.classes] * terms[drawn.classes] * drawn.inverse).sum(1).mean()
    whole = (share[0] * terms).sum()
    largest = share[0].topk(2)
    assert abs(float((largest.values * terms[largest.indices]).sum() - whole)) > 0.3
    assert abs(float(estimate - whole)) < 0.05


def test_the_same_generator_draws_the_same_classes():
    first, again = (draw_classes(SHARE, 2, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.classes, again.classes)


def test_without_float64_the_same_classes_are_drawn_but_for_rounding(monkeypatch):
    share = torch.rand(500, 30, generator=torch.Generator().manual_seed(0)) ** 4
    exact = inclusion_probabilities(share, 3)
    monkeypatch.setattr(precision, "WITHOUT_FLOAT64", ("cpu",))
    found = inclusion_probabilities(share, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.float(), rtol=1e-5, atol=1e-7)
    drawn = draw_classes(share, 3, torch.Generator().manual_seed(1))
    assert all(len(set(row)) == 3 for row in drawn.classes.tolist()) and drawn.inverse.isfinite().all()
    torch.testing.assert_close(drawn.inverse, (1 / exact.gather(1, drawn.classes)).float(), rtol=1e-4, atol=0)
