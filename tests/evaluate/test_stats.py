import numpy as np
import pytest
from scipy import stats

from condense.errors import UserError
from condense.evaluate.stats import summarise


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
