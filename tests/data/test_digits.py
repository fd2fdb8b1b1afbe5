"""The embedded default data set."""

import numpy as np
from sklearn.datasets import load_digits

from condense.data import sources


def test_digits_are_scikit_learns_in_a_fixed_stratified_split():
    source = sources.load("digits")
    assert source.test is not None
    assert source.test_truth is not None
    assert source.truth is not None
    assert source.train.images.shape == (1297, 8, 8, 1)
    assert source.test.images.shape == (500, 8, 8, 1)
    assert source.supervision.kind == "labelled"
    np.testing.assert_array_equal(source.supervision.observed, source.truth.labels)

    original = load_digits()
    np.testing.assert_allclose(np.bincount(source.test_truth.labels), np.bincount(original.target) * 500 / 1797, atol=1)
    pictures = np.concatenate([source.train.images, source.test.images])
    labels = np.concatenate([source.truth.labels, source.test_truth.labels])
    assert multiset(pictures[..., 0] * (16 / 255), labels) == multiset(original.images, original.target)

    assert source.test.fingerprint().startswith("35f6288e08eb9ef5")  # the split of every published number
    assert sources.load("digits").train.fingerprint() == source.train.fingerprint()


def multiset(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    return sorted(
        (np.rint(image).astype(np.uint8).tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )
