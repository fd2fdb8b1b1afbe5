"""What is believed of a training set's labels: where it comes from, and what is refused."""

import dataclasses

import numpy as np
import pytest
from tiny import training_set

from condense.data.types import Supervision, TrainingSet
from condense.errors import UserError


def with_beliefs(beliefs):
    train = training_set()
    return TrainingSet(train.images, train.supervision, train.corruption, beliefs)


def test_labels_as_beliefs():
    candidates = np.array([[0, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=np.bool_)
    found = Supervision(candidates, np.array([False, True, True])).as_beliefs()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[0, 1, 0], [0.5, 0, 0.5], [1 / 3] * 3], dtype=np.float32))


def test_beliefs_come_before_labels_and_follow_their_images():
    beliefs = np.random.default_rng(0).dirichlet(np.ones(3), 60).astype(np.float32)
    train = with_beliefs(beliefs)
    np.testing.assert_array_equal(train.believed(), beliefs)
    np.testing.assert_array_equal(train.take(np.array([7, 3])).beliefs, beliefs[[7, 3]])
    plain = training_set()
    np.testing.assert_array_equal(plain.believed(), plain.supervision.as_beliefs())
    assert plain.take(np.array([1])).beliefs is None


def test_training_sets_that_may_be_mirrored_are_other_ones_to_a_checkpoint():
    train = training_set()
    mirrored, not_mirrored = (
        dataclasses.replace(train, images=dataclasses.replace(train.images, flip=flip)).identity()
        for flip in (True, False)
    )
    assert mirrored != not_mirrored and mirrored | {"flip": False} == not_mirrored
    relabelled = dataclasses.replace(train, supervision=train.take(np.arange(59, -1, -1)).supervision)
    assert relabelled.identity()["labels"] != train.identity()["labels"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (np.full((59, 3), 1 / 3, np.float32), r"beliefs are float32 \[59, 3\]; they must be float32 \[60, 3\]"),
        (np.full((60, 3), 1 / 3), "beliefs are float64"),
        (np.tile(np.float32([0.5, 0.6, -0.1]), (60, 1)), r"image 0 are not probabilities \(smallest -0.1, sum 1; 60"),
        (np.tile(np.float32([0.5, 0.5, 0.1]), (60, 1)), r"sum 1.1; 60 such images"),
        (np.full((60, 3), np.nan, np.float32), "image 0 are not probabilities"),
    ],
)
def test_what_is_no_probability_is_refused(wrong, told):
    with pytest.raises(UserError, match=f"patterns: .*{told}"):
        with_beliefs(wrong)
