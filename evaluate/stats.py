"""Mean, spread and confidence interval of a few accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from condense.errors import UserError


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
