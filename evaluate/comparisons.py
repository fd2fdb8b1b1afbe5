"""The methods of one setting and size against each other, their seeds as pairs.

A seed decides the noise in the labels, and sets of one seed share it: what is compared is the difference on each seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from condense.evaluate.stats import Paired, compare_paired, holm

LEVEL = 0.05
FEWEST_SEEDS = 3  # for a verdict: two equal differences, which chance may bring, would make the t test sure

BySeed = Mapping[str, Mapping[int, float]]  # of each method the mean accuracy of its set, by seed
NOTE = (
    "* lower than the highest: paired t test over the seeds, p < 0.05 after Holm's correction for all methods of the "
    "column. What bears no mark is not shown to differ."
)


@dataclass(frozen=True)
class Against:
    """A method against the best one of its column.

    Attributes:
        paired: the method - the best one, over the seeds both have.
        p: of the paired t test, corrected for all methods compared with the best one.
    """

    paired: Paired
    p: float

    @property
    def lower(self) -> bool:
        """Whether the method is shown to be worse."""
        return self.paired.difference < 0 and self.p < LEVEL


def every_pair(scores: BySeed) -> list[tuple[str, str, Paired]]:
    """Each two methods with at least two seeds in common, once, in their order; p-values are not corrected."""
    found = ((a, b, _paired(scores[a], scores[b], 2)) for a, b in itertools.combinations(scores, 2))
    return [(a, b, paired) for a, b, paired in found if paired is not None]


def against(scores: BySeed, best: str) -> dict[str, Against]:
    """Every other method with at least three seeds in common with the best one."""
    found = {name: _paired(own, scores[best], FEWEST_SEEDS) for name, own in scores.items() if name != best}
    tested = {name: paired for name, paired in found.items() if paired is not None}
    corrected = holm([paired.p_t for paired in tested.values()])
    return {name: Against(paired, p) for (name, paired), p in zip(tested.items(), corrected, strict=True)}


def _paired(a: Mapping[int, float], b: Mapping[int, float], fewest: int) -> Paired | None:
    common = sorted(a.keys() & b.keys())
    return compare_paired([a[seed] for seed in common], [b[seed] for seed in common]) if len(common) >= fewest else None
