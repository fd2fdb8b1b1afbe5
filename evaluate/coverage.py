"""Coverage of the real images by a condensed set, per class, in pixel space."""

from __future__ import annotations

import numpy as np

from condense.data.types import ImageData, Truth
from condense.evaluate.generation import density_coverage
from condense.sets.condensed_set import CondensedSet

NEIGHBOURS, PER_CLASS = 5, 100


def pixel_coverage(condensed: CondensedSet, test: ImageData, truth: Truth) -> float | None:
    """Coverage of the first 100 test images of each class by the set's images of it, mean over classes, in [0, 1].

    Packed images are cut apart, see `CondensedSet.unpacked`.
    A real image is covered if an image of the set is nearer than its 5th nearest real neighbour of the class.
    Distances are in pixels, so they depend on no trained network; they suit comparisons within one table but do not
    measure semantic similarity. Source: Naeem et al. (2020), https://arxiv.org/abs/2002.09797.

    Returns:
        The coverage, or None if a class has fewer than 6 test images.
    """
    condensed = condensed.unpacked()
    made = condensed.unit_images().reshape(len(condensed), -1)
    shares = []
    for y in range(condensed.num_classes):
        own = np.flatnonzero(truth.labels == y)[:PER_CLASS]
        if len(own) <= NEIGHBOURS:
            return None
        real = (test.images[own].reshape(len(own), -1) / np.float32(255)).astype(np.float32)
        shares.append(density_coverage(real, made[condensed.labels == y], (NEIGHBOURS,))[NEIGHBOURS][1])
    return float(np.mean(shares))
