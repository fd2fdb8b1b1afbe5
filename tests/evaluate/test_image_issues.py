"""Near-duplicates and outliers among features whose distances are known."""

import numpy as np

from condense.evaluate.image_issues import conflicting, image_issues


def cloud() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (200, 8)).astype(np.float32)


def test_near_duplicates_are_grouped_and_only_those_that_disagree_conflict():
    features = cloud()
    features[10], features[11] = features[3] + 0.01, features[3] - 0.01
    features[50] = features[60]
    found = image_issues(features)
    assert found.twins == ((3, 10, 11), (50, 60))
    labels = np.zeros(200, np.int64)
    assert conflicting(found.twins, labels) == []
    labels[11] = 1
    assert conflicting(found.twins, labels) == [(3, 10, 11)]
    labels[11], labels[60] = -1, -1
    assert conflicting(found.twins, labels) == []


def test_an_image_far_from_all_others_is_an_outlier():
    features = cloud()
    assert image_issues(features).outlier.sum() <= 2
    features[17] += 30
    found = image_issues(features)
    assert found.outlier[17] and found.outlier.sum() <= 3 and found.distance.argmax() == 17


def test_images_that_are_all_alike_have_no_outlier():
    found = image_issues(np.ones((4, 2), np.float32))
    assert found.twins == ((0, 1, 2, 3),) and not found.outlier.any()
    assert image_issues(np.array([[0.0], [1.0]], np.float32)).twins == ()
