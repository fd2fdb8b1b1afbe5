"""Class-wise metrics on a Gaussian mixture whose distances are known."""

import numpy as np
import pytest

from condense.errors import UserError
from condense.evaluate.generation import frechet_distance
from condense.evaluate.quality import Sample, quality, split_real

CLASSES = ("a", "b", "c")
MEANS = np.array([[0.0, 0, 0, 0], [30, 0, 0, 0], [0, 30, 0, 0]])


def mixture(per_class, seed, shift=0.0, scale=1.0):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    features = MEANS[labels] + shift + scale * generator.normal(size=(len(labels), 4))
    return Sample(features, 9.0 * np.eye(3)[labels], labels)


def relabelled(sample, labels):
    return Sample(sample.features, sample.logits, labels)


def test_class_wise_distances_of_a_known_mixture():
    real, fake = mixture(700, 0), mixture(700, 1, shift=0.5, scale=2.0)
    found = quality(real, fake, CLASSES)
    # each class: ||shift||² + tr(I + 4I - 2·2I) = 4·0.25 + 4·1
    assert found["CW-FD"] == pytest.approx(4 * 0.25 + 4, rel=0.1)
    # overall the classes' means add their spread: far from the class-wise value but the same shift
    assert found["FD"] == pytest.approx(frechet_distance(real.features, fake.features))
    assert found["IS"] == pytest.approx(3, rel=0.01)


def test_wrong_labels_show_class_by_class_only():
    real, fake = mixture(300, 0), mixture(300, 1)
    right = quality(real, fake, CLASSES)
    wrong = quality(real, relabelled(fake, (fake.labels + 1) % 3), CLASSES)
    assert wrong["FD"] == right["FD"] and wrong["Density k=5"] == right["Density k=5"]
    distances = [((MEANS[y] - MEANS[y - 1]) ** 2).sum() for y in range(3)]  # 900, 900 and 1800
    assert right["CW-FD"] < 1 and wrong["CW-FD"] == pytest.approx(np.mean(distances), rel=0.05)
    assert right["CW-Coverage k=5"] > 0.8 and wrong["CW-Coverage k=5"] == 0 == wrong["CW-Density k=5"]
    assert wrong["CW-KD"] > 100 * abs(right["CW-KD"])
    assert "CW-IS" not in right


def test_class_wise_is_the_mean_over_classes():
    real, fake = mixture(40, 0), mixture(20, 1, shift=0.3)
    each = [frechet_distance(real.features[real.labels == y], fake.features[fake.labels == y]) for y in range(3)]
    assert quality(real, fake, CLASSES)["CW-FD"] == pytest.approx(np.mean(each))


def test_one_image_a_class_has_no_class_wise_spread():
    found = quality(mixture(40, 0), mixture(1, 1), CLASSES, ks=(3,))
    assert found["CW-FD"] is None and found["CW-KD"] is None
    assert found["FD"] > 0 and 0 < found["CW-Coverage k=3"] < 1


def test_too_few_images_of_a_class_are_named():
    real = mixture(40, 0)
    few = real.take(np.flatnonzero((real.labels != 1) | (np.arange(120) < 44)))
    with pytest.raises(UserError, match="Class 'b' has 4 real and 2 generated images; k = 5 nearest neighbours need 6"):
        quality(few, mixture(2, 1), CLASSES)
    none = mixture(2, 1).take(np.arange(4))
    with pytest.raises(UserError, match="Class 'c' has 40 real and 0 generated"):
        quality(real, none, CLASSES)


def test_reference_and_stand_in_are_disjoint_balanced_and_known():
    labels = np.random.default_rng(0).permutation(np.repeat([-1, 0, 1, 2], [10, 50, 30, 4]))
    reference, stand_in = split_real(labels, 3, ipc=10, limit=40, seed=0)
    assert not set(reference) & set(stand_in) and len(reference) == 40
    assert np.bincount(labels[stand_in]).tolist() == [10, 10, 2]  # a class gives at most half away
    assert (labels[reference] >= 0).all() and np.bincount(labels[reference]).tolist() == [26, 13, 1]
    again = split_real(labels, 3, ipc=10, limit=40, seed=0)
    other = split_real(labels, 3, ipc=10, limit=40, seed=1)
    assert (again[0] == reference).all() and (again[1] == stand_in).all() and set(other[1]) != set(stand_in)
    whole, held = split_real(labels, 3, ipc=10, limit=10_000, seed=0)
    assert sorted([*whole, *held]) == np.flatnonzero(labels >= 0).tolist()
