"""Accuracy per class and the most frequent confusions, from the confusion matrix of test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense.classifiers.confident_learning import Counts, shares
from condense.run import JSON

MOST_TOLD = 10


@dataclass(frozen=True, eq=False)
class Mistakes:
    """Predictions of one or more networks on test images.

    Attributes:
        counts: int64 [c, c], rows are true classes, columns predictions, summed over the networks.
        classes: c names.
    """

    counts: Counts
    classes: tuple[str, ...]

    @property
    def per_class(self) -> npt.NDArray[np.float64]:
        """Accuracy in percent on each class [c], mean over the networks; NaN for a class without test images."""
        found = 100 * shares(self.counts).diagonal()
        return np.where(self.counts.any(1), found, np.nan)

    @property
    def worst(self) -> list[tuple[int, int, float]]:
        """(true class, prediction, percent of the class) of the (at most 10) most frequent errors, worst first."""
        wrong = 100 * shares(self.counts)
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_TOLD]
        pairs = [divmod(int(place), len(wrong)) for place in order]
        return [(y, z, float(wrong[y, z])) for y, z in pairs if wrong[y, z] > 0]

    def to_json(self) -> dict[str, JSON]:
        """`per_class`: percent by class name, null without test images; `confused`: the `worst`, by class names."""
        known = [None if np.isnan(value) else float(value) for value in self.per_class]
        return {
            "per_class": dict(zip(self.classes, known, strict=True)),
            "confused": [
                {"class": self.classes[y], "taken_for": self.classes[z], "percent": percent}
                for y, z, percent in self.worst
            ],
        }


def together(several: Sequence[Mistakes | None]) -> Mistakes | None:
    """The predictions for several sets of the same classes together; None if those for one set are not known."""
    known = [each for each in several if each is not None]
    if not known or len(known) < len(several):
        return None
    return Mistakes(np.sum([each.counts for each in known], axis=0), known[0].classes)
