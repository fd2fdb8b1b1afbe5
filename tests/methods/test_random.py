"""Random: real images by observed label."""

import numpy as np
import pytest
from tiny import pictures, training_set

from condense.data.types import Supervision, TrainingSet
from condense.errors import UserError
from condense.methods import random
from condense.run import Run


def draw(train, ipc, seed=0):
    return random.condense(train, ipc, random.Options(), seed, Run(None))


def test_images_are_the_sources_and_carry_their_given_label():
    train = training_set("noisy")
    made = draw(train, 5)
    np.testing.assert_array_equal(made.images, train.images.images[made.source_index])
    np.testing.assert_array_equal(made.labels, train.supervision.observed[made.source_index])
    assert len(set(made.source_index.tolist())) == 15


def test_every_image_of_a_class_is_as_likely_as_any():
    train = training_set("labelled", per_class=4)
    counts = np.zeros(12)
    for seed in range(120):
        counts[draw(train, 1, seed).source_index] += 1
    assert counts.min() > 12 and counts.max() < 50  # 30 expected


def test_too_few_images_of_a_class_are_refused_by_name():
    images, truth = pictures(4)
    labels = np.where(truth.labels == 1, 0, truth.labels)
    train = TrainingSet(images, Supervision.from_labels(labels, 3, trusted=False))
    with pytest.raises(UserError, match=r"'light' has 0, ipc is 2; lower ipc, drop the class"):
        draw(train, 2)
    with pytest.raises(UserError, match=r"'striped' has 4, ipc is 5"):
        draw(training_set("labelled", per_class=4), 5)


def test_partial_labels_are_refused_with_the_reason():
    with pytest.raises(UserError, match=r"have several candidate labels .* sorts real images by their one label"):
        draw(training_set("partial"), 1)
    mixture = training_set("mixture")
    count = int((~mixture.supervision.single & ~mixture.supervision.unlabelled).sum())
    with pytest.raises(UserError, match=f"{count} of 60 images"):
        draw(mixture, 1)


def test_images_without_a_single_label_do_not_count():
    train = training_set("unlabelled")
    made = draw(train, 3)
    assert train.supervision.single[made.source_index].all()
    images, _ = pictures()
    nothing = Supervision(np.ones((60, 3), dtype=np.bool_), np.ones(60, dtype=np.bool_))
    with pytest.raises(UserError, match="Too few images with a single label"):
        draw(TrainingSet(images, nothing), 1)
