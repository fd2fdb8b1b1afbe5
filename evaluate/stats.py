"""Mean, spread and confidence interval of a few accuracies; of several sets; of one method against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from condense.errors import UserError

_MOST_SIGNS = 16


@dataclass(frozen=True)
class Summary:
    """A sample in three numbers.

    Attributes:
        mean: its mean.
        std: sample standard deviation (n - 1 below), None for a single value.
        ci95: half width of the 95 % Student-t interval of the mean, None for a single value.
    """

    mean: float
    std: float | None
    ci95: float | None


def summarise(values: Sequence[float]) -> Summary:
    """Mean, s = sqrt(Σ(v - mean)² / (n - 1)) and t_{0.975, n-1} · s / sqrt(n) of n values.

    Raises:
        UserError: there is no value.
    """
    n = len(values)
    if n == 0:
        raise UserError("there are no accuracies to summarise; train at least one network.")
    mean = float(np.mean(values))
    if n == 1:
        return Summary(mean, None, None)
    std = float(np.std(values, ddof=1))
    return Summary(mean, std, float(stats.t.ppf(0.975, n - 1)) * std / n**0.5)


@dataclass(frozen=True)
class NestedSummary:
    """Several sets, each judged by several networks.

    Attributes:
        mean: of the sets' means.
        std_between: estimated standard deviation of the true means of sets, None for one set.
        std_within: of networks trained on one set, None where every set has one network.
        ci95: half width of the 95 % interval of the mean over all sets the method could make, None for one set.
        num_sets: how many sets.
        num_networks: how many networks in all.
    """

    mean: float
    std_between: float | None
    std_within: float | None
    ci95: float | None
    num_sets: int
    num_networks: int


def summarise_nested(groups: Sequence[Sequence[float]]) -> NestedSummary:
    """Mean and variance components of v_ij = μ + a_i + e_ij, accuracy of network j on set i.

    Networks of one set share what chance did to the set, so counting them all as independent would give an interval
    too narrow. The unit is the set: with v̄_i the mean of set i, of n_i networks, and s sets

        mean = Σ v̄_i / s,      interval: mean ± t_{0.975, s-1} · S / √s,   S² = Σ (v̄_i - mean)² / (s - 1),
        within² = Σ_ij (v_ij - v̄_i)² / Σ (n_i - 1),      between² = max(0, S² - within² · mean of 1 / n_i).

    For equally many networks a set this is the exact interval of the balanced one-way random model, S² / s being
    its mean square between sets over the number of networks; otherwise it is approximate.
    Source: Searle, Casella & McCulloch (1992), Variance Components, Sections 3.5 and 3.6; Burdick & Graybill (1992).

    Args:
        groups: the accuracies of each set.

    Raises:
        UserError: there is no set, or one without networks.
    """
    if len(groups) == 0 or not all(len(group) for group in groups):
        raise UserError("every set needs at least one accuracy; train at least one network on each.")
    sizes = [len(group) for group in groups]
    over_sets = summarise([float(np.mean(group)) for group in groups])
    freedom = sum(sizes) - len(groups)
    within = sum(float(np.var(group)) * len(group) for group in groups) / freedom if freedom else None
    between = None
    if over_sets.std is not None:
        share = 0.0 if within is None else within * float(np.mean([1 / size for size in sizes]))
        between = max(0.0, over_sets.std**2 - share) ** 0.5
    return NestedSummary(
        over_sets.mean, between, None if within is None else within**0.5, over_sets.ci95, len(groups), sum(sizes)
    )


@dataclass(frozen=True)
class Paired:
    """One method against another over the same seeds.

    Attributes:
        difference: mean of a - b.
        ci95: half width of its 95 % Student-t interval.
        p_t: two-sided p-value of the paired t test: the more powerful for few seeds, but takes differences as normal.
        p_permutation: two-sided p-value of the exact test that flips the signs of the differences: it assumes nothing
            but that under equality each sign is as likely; of n seeds it cannot fall below 2 / 2ⁿ. None for more
            than 16 seeds, which the t test serves well.
        num_pairs: n.
    """

    difference: float
    ci95: float
    p_t: float
    p_permutation: float | None
    num_pairs: int


def compare_paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare two methods seed by seed; with several networks a set, give the mean of each set.

    Sources: Student (1908) for the t test; Fisher (1935), The Design of Experiments, Section 21, for the other.

    Args:
        a: accuracies of one method, one a seed.
        b: those of the other, of the same seeds in the same order.

    Raises:
        UserError: the numbers differ, or are below 2.
    """
    if len(a) != len(b) or len(a) < 2:
        raise UserError(f"a paired test needs the same two or more seeds of both methods, found {len(a)} and {len(b)}.")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    summary = summarise(differences.tolist())
    assert summary.std is not None and summary.ci95 is not None
    if summary.std == 0:  # t is infinite, or 0 / 0 where all are equal
        p_t = 0.0 if summary.mean else 1.0
    else:
        p_t = float(stats.ttest_1samp(differences, 0).pvalue)
    return Paired(summary.mean, summary.ci95, p_t, _p_of_signs(differences), len(a))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected so that the chance of any false alarm among them stays below the level.

    Of m values in rising order the k-th, counted from 0, is multiplied by m - k, and none is below its predecessor.
    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for k, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - k) * p_values[place]))
        corrected[place] = largest
    return corrected


def _p_of_signs(differences: npt.NDArray[np.float64]) -> float | None:
    if len(differences) > _MOST_SIGNS:
        return None
    every = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=2**_MOST_SIGNS, vectorized=True
    )
    return float(every.pvalue)
