"""Confusion counts, and confident learning: an image's confident class, whatever its given label.

Source: Northcutt et al. (2021), "Confident Learning", https://arxiv.org/abs/1911.00068.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense.data.types import Labels

Counts = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float64]


def confusion(rows: Labels, columns: Labels, num_classes: int) -> Counts:
    """Counts [c, c] of pairs of labels; pairs with a -1 are left out."""
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    known = (rows >= 0) & (columns >= 0)
    np.add.at(counts, (rows[known], columns[known]), 1)
    return counts


def shares(counts: npt.NDArray[np.integer] | Matrix) -> Matrix:
    """Each row divided by its sum; empty rows stay 0."""
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), np.finfo(np.float64).tiny))


def confident_classes(probabilities: npt.NDArray[np.floating], given: Labels) -> Labels:
    """The class each image confidently has: int64 [n], -1 for none.

    The most probable of the classes y with p_y at least the mean of p_y over the images labelled y.
    Source: confident learning, Northcutt et al. (2021), Section 3.1, https://arxiv.org/abs/1911.00068.

    Args:
        probabilities: out-of-fold p(y | x) [n, c].
        given: int64 [n], -1 for images without a single label.
    """
    num_classes = probabilities.shape[1]
    thresholds = np.full(num_classes, np.inf)
    for y in np.unique(given[given >= 0]):
        thresholds[y] = probabilities[given == y, y].mean()
    confident = probabilities >= thresholds - 1e-6
    best = np.where(confident, probabilities, -1.0).argmax(1)
    return np.where(confident.any(1), best, -1).astype(np.int64)


def confident_joint(probabilities: npt.NDArray[np.floating], given: Labels) -> Matrix:
    """Estimated shares of (given label i, true class j): float64 [c, c], adding up to 1.

    An image counts for its confident class, see `confident_classes`; rows are then brought to the shares of the given
    labels (Eq. 3). Labels without any confident image are assumed right.

    Args:
        probabilities: of classifiers that did not see the image's label, [n, c].
        given: int64 [n], -1 for images without a single label.
    """
    num_classes = probabilities.shape[1]
    counts = confusion(given, confident_classes(probabilities, given), num_classes)
    empty = np.flatnonzero(~counts.any(1))
    counts[empty, empty] = 1  # no evidence against the label
    rows = shares(counts) * np.bincount(given[given >= 0], minlength=num_classes)[:, None]
    return np.asarray(rows / rows.sum())
