"""Means, standard deviations and intervals of a few accuracies, of several sets, and of paired differences."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from condense.errors import UserError

_MOST_SIGNS = 16


@dataclass(frozen=True)
class Summary:
    """Summary of a sample, in the unit of its values.

    Attributes:
        mean: its mean.
        std: sample standard deviation (denominator n - 1), None for a single value.
        ci95: half width of the 95 % Student-t interval of the mean, None for a single value.
    """

    mean: float
    std: float | None
    ci95: float | None


def summarise(values: Sequence[float]) -> Summary:
    """Mean, s = sqrt(Σ(v - mean)² / (n - 1)) and t_{0.975, n-1} · s / sqrt(n) of n values.

    Raises:
        UserError: there are no values.
    """
    n = len(values)
    if n == 0:
        raise UserError("there are no accuracies to summarise; train at least one network.")
    mean = float(np.mean(values))
    if n == 1:
        return Summary(mean, None, None)
    std = float(np.std(values, ddof=1))
    return Summary(mean, std, _critical_t(n - 1) * std / n**0.5)


@functools.cache
def _critical_t(freedom: int) -> float:
    return float(stdtrit(freedom, 0.975))


@dataclass(frozen=True)
class NestedSummary:
    """Summary of several sets, each scored by several networks.

    Attributes:
        mean: mean of the sets' means.
        std_between: estimated standard deviation of the true means of sets, None for one set.
        std_within: standard deviation of networks trained on one set, None if every set has one network.
        ci95: half width of the 95 % interval of the mean over all sets the method could make, None for one set.
        num_sets: number of sets.
        num_networks: number of networks of all sets.
    """

    mean: float
    std_between: float | None
    std_within: float | None
    ci95: float | None
    num_sets: int
    num_networks: int


def summarise_nested(groups: Sequence[Sequence[float]]) -> NestedSummary:
    """Mean and variance components of v_ij = μ + a_i + e_ij, accuracy of network j on set i.

    Networks trained on one set share its random effect, so treating them all as independent would give too narrow an
    interval. The unit is the set: with v̄_i the mean over the n_i networks of set i, and s sets,

        mean = Σ v̄_i / s,      interval: mean ± t_{0.975, s-1} · S / √s,   S² = Σ (v̄_i - mean)² / (s - 1),
        within² = Σ_ij (v_ij - v̄_i)² / Σ (n_i - 1),      between² = max(0, S² - within² · mean of 1 / n_i).

    With equally many networks per set this is the exact interval of the balanced one-way random model, where S² / s is
    the mean square between sets divided by the total number of networks; otherwise it is approximate.
    Source: Searle, Casella & McCulloch (1992), Variance Components, Sections 3.5 and 3.6; Burdick & Graybill (1992).

    Args:
        groups: the accuracies of each set.

    Raises:
        UserError: there is no set, or a set without networks.
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
    """Comparison of two methods over the same seeds.

    Attributes:
        difference: mean of a - b.
        ci95: half width of its 95 % Student-t interval.
        p_t: two-sided p-value of the paired t test: more powerful for few seeds, but assumes normal differences.
        p_permutation: two-sided p-value of the exact sign-flip test, which assumes only that under equality both signs
            are equally likely; with n seeds it is at least 2 / 2ⁿ. None for more than 16 seeds, where the t test
            suffices.
        num_pairs: number of seeds n.
    """

    difference: float
    ci95: float
    p_t: float
    p_permutation: float | None
    num_pairs: int


def compare_paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare two methods seed by seed; with several networks per set, pass the mean of each set.

    Sources: Student (1908) for the t test; Fisher (1935), The Design of Experiments, Section 21, for sign flips.

    Args:
        a: accuracies of one method, one per seed.
        b: accuracies of the other, for the same seeds in the same order.

    Raises:
        UserError: the numbers of seeds differ, or are below 2.
    """
    if len(a) != len(b) or len(a) < 2:
        raise UserError(
            f"a paired test needs the same two or more seeds for both methods, found {len(a)} and {len(b)}."
        )
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    summary = summarise(differences.tolist())
    assert summary.std is not None and summary.ci95 is not None
    if summary.std == 0:  # t is infinite, or 0 / 0 where all are equal
        p_t = 0.0 if summary.mean else 1.0
    else:
        p_t = float(2 * stdtr(len(a) - 1, -abs(summary.mean) * len(a) ** 0.5 / summary.std))
    return Paired(summary.mean, summary.ci95, p_t, _p_of_signs(differences), len(a))


@dataclass(frozen=True)
class Residual:
    """Residual variation of accuracies after effects of method and seed.

    Attributes:
        std: estimated standard deviation of a set's accuracy about the sum of its method's and its seed's effect.
        freedom: degrees of freedom of the estimate.
        num_methods: number of methods it is estimated from.
    """

    std: float
    freedom: int
    num_methods: int


def residual_of(scores: Mapping[str, Mapping[int, float]]) -> Residual | None:
    """The error of y_is = μ_i + β_s + ε_is, by least squares over all methods i and seeds s present.

    β_s absorbs the noise draw that sets of one seed share. Pooling over methods makes three seeds informative: 13
    methods leave (13 - 1)(3 - 1) = 24 degrees of freedom, a single pair of methods only 2.
    Source: Scheffé (1959), The Analysis of Variance, Chapter 4.

    Returns:
        The residual, or None if there are no degrees of freedom.
    """
    cells = [(method, seed, value) for method, own in scores.items() for seed, value in own.items()]
    methods, seeds = list(scores), sorted({seed for _, seed, _ in cells})
    design = np.zeros((len(cells), len(methods) + len(seeds)))
    for row, (method, seed, _) in enumerate(cells):
        design[row, methods.index(method)] = design[row, len(methods) + seeds.index(seed)] = 1
    values = np.array([value for _, _, value in cells], dtype=np.float64)
    rank = int(np.linalg.matrix_rank(design)) if cells else 0
    freedom = len(cells) - rank
    if freedom < 1:
        return None
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return Residual(float(((values - fitted) ** 2).sum() / freedom) ** 0.5, freedom, len(methods))


def p_of_range(difference: float, num_seeds: int, residual: Residual) -> float:
    """p-value of one difference of two means among all those of `residual.num_methods` methods, by Tukey and Kramer.

    The studentised range covers the largest of all differences, hence also that from a "best" method chosen by the
    same data: if all methods were equal, the probability that any p falls below 0.05 would be 0.05.
    Sources: Tukey (1953); Kramer (1956); Hayter (1984) for unequal numbers, https://doi.org/10.1214/aos/1176346392.

    Args:
        difference: difference of the means of both methods over their common seeds.
        num_seeds: number of common seeds.
        residual: see `residual_of`.
    """
    if residual.std == 0:
        return 0.0 if difference else 1.0
    q = abs(difference) * num_seeds**0.5 / residual.std
    from scipy import stats  # takes half a second to import

    return float(stats.studentized_range.sf(q, residual.num_methods, residual.freedom))


def half_width_of_range(num_seeds: int, residual: Residual) -> float:
    """Half width of the simultaneous 95 % intervals of all differences, see `p_of_range`."""
    return float(_critical_range(residual.num_methods, residual.freedom) * residual.std / num_seeds**0.5)


@functools.cache
def _critical_range(num_methods: int, freedom: int) -> float:
    from scipy import stats

    return float(stats.studentized_range.ppf(0.95, num_methods, freedom))


def _p_of_signs(differences: npt.NDArray[np.float64]) -> float | None:
    n = len(differences)
    if n > _MOST_SIGNS:
        return None
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)  # [2ⁿ, n]
    sums, found = np.abs(signs @ differences), abs(differences.sum())
    return float(np.mean(sums >= found * (1 - 1e-12) - 1e-300))
