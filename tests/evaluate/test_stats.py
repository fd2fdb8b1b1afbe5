import itertools

import numpy as np
import pytest
from scipy import stats

from condense.errors import UserError
from condense.evaluate.stats import (
    Residual,
    compare_paired,
    half_width_of_range,
    p_of_range,
    residual_of,
    summarise,
    summarise_nested,
)


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_interval_agrees_with_scipy(n):
    values = np.random.default_rng(n).normal(70, 3, n)
    ours = summarise(list(values))
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert ours.mean - ours.ci95 == pytest.approx(low)
    assert ours.mean + ours.ci95 == pytest.approx(high)
    assert ours.std == pytest.approx(stats.tstd(values))


def test_two_values_by_hand():
    ours = summarise([69.0, 71.0])
    assert ours.mean == 70
    assert ours.std == pytest.approx(2**0.5)
    assert ours.ci95 == pytest.approx(12.7062, abs=1e-4)  # t(0.975, 1) = 12.7062, s/√n = 1


def test_one_value_has_no_spread():
    ours = summarise([70.0])
    assert (ours.mean, ours.std, ours.ci95) == (70.0, None, None)


def test_nothing_to_summarise():
    with pytest.raises(UserError):
        summarise([])


def test_nested_by_hand():
    """Sets [1, 3] and [6, 8]: means 2 and 7, within² = (1 + 1 + 1 + 1) / 2 = 2, S² = 12.5, between² = 12.5 - 2 / 2."""
    ours = summarise_nested([[1.0, 3.0], [6.0, 8.0]])
    assert (ours.mean, ours.num_sets, ours.num_networks) == (4.5, 2, 4)
    assert ours.std_within == pytest.approx(2**0.5)
    assert ours.std_between == pytest.approx(11.5**0.5)
    assert ours.ci95 == pytest.approx(12.7062 * (12.5 / 2) ** 0.5, rel=1e-5)


@pytest.mark.parametrize(("sets", "networks"), [(2, 5), (5, 2), (4, 3)])
def test_nested_components_are_those_of_the_analysis_of_variance(sets, networks):
    values = np.random.default_rng(sets).normal(70, 1, (sets, networks)) + 3 * np.arange(sets)[:, None]
    ours = summarise_nested(values.tolist())
    between_squares = networks * values.mean(1).var(ddof=1)
    assert stats.f_oneway(*values).statistic == pytest.approx(between_squares / ours.std_within**2)
    assert ours.std_between**2 == pytest.approx((between_squares - ours.std_within**2) / networks)
    low, high = stats.t.interval(0.95, sets - 1, values.mean(), (between_squares / (sets * networks)) ** 0.5)
    assert (ours.mean - ours.ci95, ours.mean + ours.ci95) == (pytest.approx(low), pytest.approx(high))


def test_nested_interval_covers_and_the_naive_one_does_not():
    """Sets differ by 2, networks by 1: of 1,500 experiments, the share whose interval holds the true mean."""
    random = np.random.default_rng(0)
    drawn = 2 * random.normal(size=(1500, 4, 1)) + random.normal(size=(1500, 4, 5))
    nested = np.mean([abs(s.mean) <= s.ci95 for s in map(summarise_nested, drawn)])
    naive = np.mean([abs(s.mean) <= s.ci95 for s in (summarise(values.ravel()) for values in drawn)])
    assert nested == pytest.approx(0.95, abs=0.02) and naive < 0.75
    between = np.mean([s.std_between**2 for s in map(summarise_nested, drawn)])
    assert between == pytest.approx(4, rel=0.08)


def test_nested_with_unequally_many_networks():
    """E[S²] = between² + within² · mean of 1 / n_i, whatever the n_i."""
    random = np.random.default_rng(1)
    sizes = (1, 2, 6)
    estimates = []
    for _ in range(3000):
        groups = [5 * random.normal() + random.normal(size=n) for n in sizes]
        estimates.append(summarise_nested(groups).std_between ** 2)
    assert np.mean(estimates) == pytest.approx(25, rel=0.08)


def test_what_one_set_or_one_network_cannot_tell_is_none():
    one_set = summarise_nested([[70.0, 72.0]])
    assert (one_set.std_between, one_set.ci95) == (None, None) and one_set.std_within == pytest.approx(2**0.5)
    one_each = summarise_nested([[70.0], [72.0]])
    assert one_each.std_within is None and one_each.std_between == pytest.approx(2**0.5)
    assert one_each.ci95 == summarise([70.0, 72.0]).ci95
    for groups in ([], [[70.0], []]):
        with pytest.raises(UserError, match="at least one accuracy"):
            summarise_nested(groups)


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_paired_tests_against_scipy_and_all_signs(n):
    random = np.random.default_rng(n)
    a, b = random.normal(71, 2, n), random.normal(70, 2, n)
    ours = compare_paired(a, b)
    theirs = stats.ttest_rel(a, b)
    assert ours.p_t == pytest.approx(theirs.pvalue)
    interval = theirs.confidence_interval()
    assert (ours.difference - ours.ci95, ours.difference + ours.ci95) == (
        pytest.approx(interval.low),
        pytest.approx(interval.high),
    )
    flips = [abs(np.dot(signs, a - b)) for signs in itertools.product((1, -1), repeat=n)]
    assert ours.p_permutation == pytest.approx(np.mean(np.array(flips) >= abs((a - b).sum()) - 1e-9))
    swapped = compare_paired(b, a)
    assert (swapped.difference, swapped.p_t) == (pytest.approx(-ours.difference), pytest.approx(ours.p_t))


def test_paired_test_sees_what_an_unpaired_one_misses():
    """Seeds differ by tens, the methods by one on every seed."""
    seeds = np.array([30.0, 45.0, 60.0, 75.0, 90.0, 50.0])
    wobble = np.array([0.1, -0.1, 0.2, -0.2, 0.1, -0.1])
    ours = compare_paired(seeds + 1 + wobble, seeds)
    assert ours.p_t < 0.001 and ours.p_permutation == pytest.approx(2 / 2**6)
    assert stats.ttest_ind(seeds + 1 + wobble, seeds).pvalue > 0.9


def test_paired_test_of_equal_differences():
    assert compare_paired([1.0, 1.0], [1.0, 1.0]).p_t == 1
    always = compare_paired([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert (always.difference, always.ci95, always.p_t, always.p_permutation) == (1, 0, 0, 0.25)
    assert compare_paired(list(range(17)), [0.5] * 17).p_permutation is None


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([], [])])
def test_pairs_must_match(a, b):
    with pytest.raises(UserError, match=f"found {len(a)} and {len(b)}"):
        compare_paired(a, b)


def by_seed(values: np.ndarray) -> dict[str, dict[int, float]]:
    """Accuracies [methods, seeds] as the column of a table."""
    return {f"method {i}": dict(enumerate(row)) for i, row in enumerate(values.tolist())}


def test_the_residual_is_that_of_the_two_way_analysis_of_variance() -> None:
    """Balanced: Σ (y_is - ȳ_i - ȳ_s + ȳ)² over (k - 1)(n - 1); a missing cell costs one degree of freedom."""
    values = np.random.default_rng(0).normal(70, 2, (4, 3))
    left = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    scores = by_seed(values)
    found = residual_of(scores)
    assert found is not None and (found.freedom, found.num_methods) == (6, 4)
    assert found.std == pytest.approx(((left**2).sum() / 6) ** 0.5)
    shifted = residual_of(by_seed(values + np.array([30.0, -20.0, 5.0])))  # what a seed brings to all is taken out
    assert shifted is not None and shifted.std == pytest.approx(found.std)
    del scores["method 1"][2]
    gap = residual_of(scores)
    assert gap is not None and gap.freedom == 5
    assert residual_of({"alone": {0: 1.0, 1: 2.0}}) is None and residual_of({}) is None


def test_the_range_of_two_methods_is_the_paired_test() -> None:
    """For two methods the studentised range is √2 times the absolute t of the differences."""
    values = np.random.default_rng(1).normal(70, 2, (2, 6))
    residual = residual_of(by_seed(values))
    assert residual is not None
    theirs = stats.ttest_rel(*values)
    assert p_of_range(values[0].mean() - values[1].mean(), 6, residual) == pytest.approx(theirs.pvalue, rel=1e-4)
    interval = theirs.confidence_interval()
    assert half_width_of_range(6, residual) == pytest.approx((interval.high - interval.low) / 2, rel=1e-4)
    still = residual_of(by_seed(np.array([[1.0, 2.0], [3.0, 4.0]])))
    assert still is not None and (p_of_range(2.0, 2, still), p_of_range(0.0, 2, still)) == (0.0, 1.0)


def test_tukey_agrees_with_scipy() -> None:
    """Without anything from the seeds, and one way only, scipy's Tukey HSD has the same interval."""
    values = np.random.default_rng(2).normal(0, 1, (5, 4))
    theirs = stats.tukey_hsd(*values)
    one_way = Residual(float(values.var(axis=1, ddof=1).mean() ** 0.5), 15, 5)
    assert p_of_range(values[0].mean() - values[3].mean(), 4, one_way) == pytest.approx(theirs.pvalue[0, 3], rel=1e-4)
    interval = theirs.confidence_interval()
    assert half_width_of_range(4, one_way) == pytest.approx((interval.high[0, 3] - interval.low[0, 3]) / 2, rel=1e-4)
