"""Label audit: how many labels are right, which classes are confused, and estimates of the noise.

All functions take labels and probabilities; their origin (the truth, or a classifier) is known only to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense.classifiers.confident_learning import Counts, Matrix, confident_classes, confusion, shares
from condense.data.types import Labels, Mask, Supervision, Truth


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of labels with those of an authority (the truth, or a classifier).

    Attributes:
        share: fraction of images, in [0, 1], whose label is the authority's.
        confusion: counts [c, c], rows are the labels, columns the authority's classes.
    """

    share: float
    confusion: Counts

    @property
    def per_class(self) -> Matrix:
        """Fraction of each label's images with the same label by the authority, float64 [c]."""
        return shares(self.confusion).diagonal()


@dataclass(frozen=True, eq=False)
class NoiseAudit:
    """The noise in given labels, estimated from out-of-fold probabilities.

    The last four are None without the truth; precision and recall also where they would divide by zero.

    Attributes:
        transition: estimate of T[y, z], the probability that an image of class y is given the label z: [c, c].
        confident: confident class of each image, int64 [n], -1 for none, see `confident_classes`.
        suspected: bool [n], images whose confident class is not their label.
        injected: counts [c, c] of (true class, given label).
        gap: mean over classes of the total variation between rows of the estimate and of `injected`, in [0, 1].
        precision: fraction of suspected labels that are wrong.
        recall: fraction of wrong labels that are suspected.
    """

    transition: Matrix
    confident: Labels
    suspected: Mask
    injected: Counts | None
    gap: float | None
    precision: float | None
    recall: float | None


def agreement(labels: Labels, authority: Labels, num_classes: int) -> Agreement:
    """Agreement of `labels` int64 [n] with an authority's int64 [n]; images with -1 in either are left out."""
    counts = confusion(labels, authority, num_classes)
    return Agreement(float(counts.trace() / max(counts.sum(), 1)), counts)


def matrix_gap(first: Matrix, second: Matrix) -> float:
    """Mean over rows of the total variation ½ Σ|a - b| between two row-stochastic matrices [c, c]."""
    return float(0.5 * abs(first - second).sum(1).mean())


def estimated_transition(confident: Labels, given: Labels, num_classes: int) -> Matrix:
    """T[y, z], the probability that an image of class y is given the label z, from confident classes: float64 [c, c].

    The confident joint, with each given label scaled to its count, transposed and normalised by class (Northcutt et al.
    2021, Eq. 3). For a class that is no image's confident class, T[y, y] = 1.
    """
    counts = np.bincount(given[given >= 0], minlength=num_classes)
    joint = shares(confusion(given, confident, num_classes)) * counts[:, None]  # [z, y]
    transition = shares(joint.T)
    unseen = np.flatnonzero(~transition.any(1))
    transition[unseen, unseen] = 1
    return transition


def audit_noise(
    probabilities: npt.NDArray[np.floating],
    supervision: Supervision,
    truth: Truth | None = None,
    unjudged: Mask | None = None,
) -> NoiseAudit:
    """Audit single given labels by out-of-fold probabilities; score the audit by the truth where it is known.

    Args:
        probabilities: p(y | x) [n, c].
        supervision: the n images' given labels.
        truth: their classes, if known.
        unjudged: bool [n], images whose probabilities say nothing about their label: they have no confident class.
    """
    given, num_classes = supervision.observed, supervision.num_classes
    confident = confident_classes(probabilities, given)
    if unjudged is not None:
        confident = np.where(unjudged, -1, confident)
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
