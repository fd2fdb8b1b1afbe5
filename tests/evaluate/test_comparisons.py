"""Stars: at most one experiment in twenty has a false one, though the best is chosen by the same data."""

import numpy as np
import pytest
from scipy import stats

from condense.evaluate.comparisons import Against, against

METHODS, EXPERIMENTS = 13, 300


def compared(accuracies: np.ndarray) -> dict[str, Against]:
    """The methods [13, seeds] against the one with the highest mean."""
    scores = {f"method {i}": dict(enumerate(row)) for i, row in enumerate(accuracies.tolist())}
    return against(scores, max(scores, key=lambda name: float(np.mean(list(scores[name].values())))))


@pytest.mark.parametrize("seeds", [3, 5])
def test_thirteen_equal_methods_rarely_get_a_star(seeds: int) -> None:
    """Seeds differ by tens, sets by one: any star in at most 5 % of experiments; about a fixed best, more."""
    random = np.random.default_rng(seeds)
    any_star = naive = 0
    for _ in range(EXPERIMENTS):
        drawn = 10 * random.normal(size=seeds) + random.normal(size=(METHODS, seeds))
        found = compared(drawn)
        assert len(found) == METHODS - 1
        any_star += any(each.lower for each in found.values())
        naive += any(each.paired.p_t * (METHODS - 1) < 0.05 for each in found.values())  # Bonferroni about a fixed best
    bound = stats.binom.ppf(0.999, EXPERIMENTS, 0.05)
    assert any_star <= bound
    assert naive / EXPERIMENTS > 0.05 and naive > any_star


def test_methods_that_differ_by_much_get_a_star() -> None:
    """Three seeds; one method ahead of twelve by ten times the deviation of a set: nearly all are starred."""
    random = np.random.default_rng(1)
    ahead = 10.0 * (np.arange(METHODS) == 4)[:, None]
    share = []
    for _ in range(100):
        found = compared(ahead + 10 * random.normal(size=3) + random.normal(size=(METHODS, 3)))
        assert "method 4" not in found  # it is the best
        share.append(np.mean([each.lower for each in found.values()]))
    assert np.mean(share) > 0.85


def test_p_and_interval_and_star_say_the_same() -> None:
    random = np.random.default_rng(2)
    seen = set()
    for _ in range(4):
        found = compared(np.arange(METHODS)[:, None] * 0.7 + random.normal(size=(METHODS, 5)))
        for each in found.values():
            assert each.lower == (each.p < 0.05 and each.paired.difference < 0)
            seen.add(each.lower)
    assert seen == {True, False}


def test_a_method_of_its_own_spread_is_not_starred_by_the_others_calm() -> None:
    """Two calm methods make the common deviation small; the pair of the wild one must agree."""
    calm = {"best": {0: 70.0, 1: 71.0, 2: 72.0}} | {f"calm {i}": {0: 69.9, 1: 71.1, 2: 71.9} for i in range(10)}
    wild = {"wild": {0: 75.0, 1: 50.0, 2: 65.0}}
    found = against(calm | wild, "best")
    assert found["wild"].paired.difference < -5 and found["wild"].paired.p_t > 0.05 and not found["wild"].lower
