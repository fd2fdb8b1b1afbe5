"""Comparisons of the methods of one column with each other, paired by seed.

A column holds methods scored alike: one setting, size, protocol, network, kind of labels and packing. The seed
determines the label noise, which sets of one seed share, so the difference is taken on each seed.

The best method of a column is chosen by the same accuracies it is then compared with, so a test that takes it as fixed
calls some of 13 equal methods worse in 10 to 15 % of experiments. The studentised range allows for the choice. Hsu's
multiple comparisons with the best (1984) would star more methods, but its intervals state "not above the best of the
others", which is true of equal methods too; a star here means "below". The range assumes equal variances of the
methods; a method with a much larger one could be starred too easily, so its own pairs must agree.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from condense.evaluate.stats import (
    Paired,
    Residual,
    compare_paired,
    half_width_of_range,
    p_of_range,
    residual_of,
)

LEVEL = 0.05
FEWEST_SEEDS = 3  # for a verdict: with two seeds, differences that are equal by chance would give p = 0 in the t test

BySeed = Mapping[str, Mapping[int, float]]  # for each method, the mean accuracy of its set by seed
NOTE = (
    "* lower than the highest of its column: simultaneous 95 % intervals for all differences of the column (Tukey's "
    "studentised range, seeds as blocks), so that with equal methods any star appears in at most 5 % of "
    "experiments; and the method's own paired t test agrees. Methods without a star are not shown to differ."
)


@dataclass(frozen=True)
class Against:
    """Comparison of a method with the best one of its column.

    Attributes:
        paired: differences (method minus best) over the seeds both have.
        residual: residual variation in the column after effects of method and seed.
    """

    paired: Paired
    residual: Residual

    @property
    def half_width(self) -> float:
        """Half width of the simultaneous 95 % interval of the difference, in the unit of the scores."""
        return half_width_of_range(self.paired.num_pairs, self.residual)

    @property
    def p(self) -> float:
        """p-value of no difference: the larger of the studentised range's and the pair's own t test's."""
        return max(p_of_range(self.paired.difference, self.paired.num_pairs, self.residual), self.paired.p_t)

    @property
    def lower(self) -> bool:
        """Whether the method is shown to be worse: p < 0.05."""
        return self.paired.difference < -self.half_width and self.paired.p_t < LEVEL


def every_pair(scores: BySeed) -> list[tuple[str, str, Paired]]:
    """All pairs of methods with at least two seeds in common, in order; p-values are not corrected."""
    found = ((a, b, _paired(scores[a], scores[b], 2)) for a, b in itertools.combinations(scores, 2))
    return [(a, b, paired) for a, b, paired in found if paired is not None]


def against(scores: BySeed, best: str) -> dict[str, Against]:
    """Compare every other method with `best`, if they have at least three seeds in common."""
    found = {name: _paired(own, scores[best], FEWEST_SEEDS) for name, own in scores.items() if name != best}
    tested = {name: paired for name, paired in found.items() if paired is not None}
    residual = residual_of({name: scores[name] for name in (best, *tested)})
    return {} if residual is None else {name: Against(paired, residual) for name, paired in tested.items()}


def _paired(a: Mapping[int, float], b: Mapping[int, float], fewest: int) -> Paired | None:
    common = sorted(a.keys() & b.keys())
    return compare_paired([a[seed] for seed in common], [b[seed] for seed in common]) if len(common) >= fewest else None
