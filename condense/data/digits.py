"""scikit-learn's handwritten digits: 1797 grey images of 8x8, part of scikit-learn, no download."""

from __future__ import annotations

from functools import cache

import numpy as np

from condense import rng
from condense.data.clean_sets import clean_source
from condense.data.splits import pick_per_class, proportional_counts
from condense.data.types import Images, Labels, Source

NUM_TEST = 500


@cache
def _read() -> tuple[Images, Labels]:
    """All images and their labels; the file is text, and slow to read."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None], digits.target.astype(np.int64)


def load() -> Source:
    """1297 training and 500 test images, stratified by class; the split is always the same one.

    Pixel values 0..16 are scaled to 0..255. Source: scikit-learn, `sklearn.datasets.load_digits` (UCI
    "Optical Recognition of Handwritten Digits", test part).
    """
    images, labels = _read()
    images, labels = images.copy(), labels.copy()
    classes = tuple("0123456789")
    counts = proportional_counts(np.bincount(labels), NUM_TEST)
    chosen = pick_per_class(labels, counts, np.random.default_rng(rng.derive(0, "digits test split")))
    train, test = (images[~chosen], labels[~chosen]), (images[chosen], labels[chosen])
    return clean_source("digits", classes, train, test, "sklearn.datasets.load_digits", flip=False)
