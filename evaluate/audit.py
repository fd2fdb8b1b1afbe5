"""Label audit: how many labels are right, which classes are taken for which, and what the noise looked like.

Functions of labels and probabilities; who gave them (the truth, or a classifier) is the caller's to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense.classifiers.confident_learning import Counts, Matrix, confident_classes, confusion, shares
from condense.data.types import Labels, Mask, Supervision, Truth


@dataclass(frozen=True, eq=False)
class Agreement:
    """Labels beside those of an authority.

    Attributes:
        share: of images in [0, 1] whose label is the authority's.
        confusion: counts [c, c], rows the labels, columns the authority's classes.
    """

    share: float
    confusion: Counts

    @property
    def per_class(self) -> Matrix:
        """Share of each label's images that the authority calls the same, float64 [c]."""
        return shares(self.confusion).diagonal()


@dataclass(frozen=True, eq=False)
class NoiseAudit:
    """The noise of given labels as out-of-fold probabilities show it.

    Attributes:
        transition: estimate of T[y, z], the chance that an image of class y is given the label z: [c, c].
        confident: the class each image confidently has, int64 [n], -1 for none, see `confident_classes`.
        suspected: bool [n], whose label is confidently another one.
        injected: counts [c, c] of (true class, given label), None without the truth.
        gap: mean over classes of the total variation between rows of the estimate and of `injected`, in [0, 1].
        precision: share of suspected labels that are wrong.
        recall: share of wrong labels that are suspected.
    """

    transition: Matrix
    confident: Labels
    suspected: Mask
    injected: Counts | None
    gap: float | None
    precision: float | None
    recall: float | None


def agreement(labels: Labels, authority: Labels, num_classes: int) -> Agreement:
    """How far `labels` int64 [n] are those of an authority int64 [n]; images with a -1 in either are left out."""
    counts = confusion(labels, authority, num_classes)
    return Agreement(float(counts.trace() / max(counts.sum(), 1)), counts)


def matrix_gap(first: Matrix, second: Matrix) -> float:
    """Mean over rows of the total variation ½ Σ|a - b| between two row-stochastic matrices [c, c]."""
    return float(0.5 * abs(first - second).sum(1).mean())


def estimated_transition(confident: Labels, given: Labels, num_classes: int) -> Matrix:
    """T[y, z], the chance that an image of class y is given the label z, from confident classes: float64 [c, c].

    The confident joint, each given label scaled to its count, then turned so that rows are classes (Northcutt et al.
    2021, Eq. 3). A class that no image confidently has keeps its labels.
    """
    counts = np.bincount(given[given >= 0], minlength=num_classes)
    joint = shares(confusion(given, confident, num_classes)) * counts[:, None]  # [z, y]
    transition = shares(joint.T)
    unseen = np.flatnonzero(~transition.any(1))
    transition[unseen, unseen] = 1
    return transition


def audit_noise(
    probabilities: npt.NDArray[np.floating], supervision: Supervision, truth: Truth | None = None
) -> NoiseAudit:
    """What out-of-fold probabilities [n, c] say of single given labels; judged by the truth where it is known."""
    given, num_classes = supervision.observed, supervision.num_classes
    confident = confident_classes(probabilities, given)
    transition = estimated_transition(confident, given, num_classes)
    suspected = (given >= 0) & (confident >= 0) & (confident != given)
    if truth is None:
        return NoiseAudit(transition, confident, suspected, None, None, None, None)
    injected = confusion(truth.labels, given, num_classes)
    wrong = (given >= 0) & (given != truth.labels)
    found = float((wrong & suspected).sum())
    return NoiseAudit(
        transition,
        confident,
        suspected,
        injected,
        matrix_gap(transition, shares(injected)),
        found / suspected.sum() if suspected.any() else None,
        found / wrong.sum() if wrong.any() else None,
    )
