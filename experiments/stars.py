"""How often equal methods wrongly get a star, and unequal ones rightly: simulated columns of 13 methods.

    python experiments/stars.py

Every line: seeds, how the methods differ, share of experiments with any star by our rule, that of
`condense.evaluate.comparisons`, and by paired t tests with Holm's correction against the best as if it were fixed; then
the share of really lower methods that bear a star. The rule is vectorised here over all experiments;
a test in tests/evaluate/test_comparisons.py holds the package to the same bound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

METHODS, EXPERIMENTS, SEED_EFFECT = 13, 4000, 10.0
Floats = npt.NDArray[np.float64]


def simulate(
    deviations: Floats, means: Floats, seeds: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Stars by our rule, [experiments, methods], and whether any test about a fixed best rejects, [experiments]."""
    noise = random.normal(size=(EXPERIMENTS, METHODS, seeds))
    shared = SEED_EFFECT * random.normal(size=(EXPERIMENTS, 1, seeds))
    found = means[:, None] + deviations[:, None] * noise + shared
    own = found.mean(2)
    left = found - own[:, :, None] - found.mean(1)[:, None] + found.mean((1, 2))[:, None, None]
    freedom = (METHODS - 1) * (seeds - 1)
    residual = np.sqrt((left**2).sum((1, 2)) / freedom)
    half = stats.studentized_range.ppf(0.95, METHODS, freedom) * residual / seeds**0.5
    best = own.argmax(1)
    difference = found - found[np.arange(EXPERIMENTS), best][:, None]
    spread = difference.std(2, ddof=1)
    spread[np.arange(EXPERIMENTS), best] = np.inf
    t = np.abs(difference.mean(2)) * seeds**0.5 / spread
    p = 2 * stats.t.sf(t, seeds - 1)
    stars = (difference.mean(2) < -half[:, None]) & (p < 0.05)
    return stars, p.min(1) * (METHODS - 1) < 0.05


def main() -> None:
    """Print a line for each case."""
    random, equal = np.random.default_rng(0), np.ones(METHODS)
    one, none = np.eye(METHODS)[0], np.zeros(METHODS)
    cases = {
        "equal": (equal, none),
        "one four times as variable": (equal + 3 * one, none),
        "deviations from 0.3 to 3": (np.linspace(0.3, 3, METHODS), none),
        "one ahead by 3 deviations": (equal, 3 * one),
        "one ahead by 5 deviations": (equal, 5 * one),
        "one ahead by 10 deviations": (equal, 10 * one),
    }
    for seeds in (3, 5):
        for name, (deviations, means) in cases.items():
            stars, fixed = simulate(deviations, means, seeds, random)
            power = f"{stars[:, 1:].mean():.2f}" if means.any() else "-"
            print(
                f"{seeds}  {name:28s} any star {stars.any(1).mean():.3f}  fixed best {fixed.mean():.3f}  right {power}"
            )


if __name__ == "__main__":
    main()
