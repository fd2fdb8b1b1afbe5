"""Held-out splits: exact, stratified, and blind to the truth."""

import numpy as np
import pytest

from condense.data.splits import held_out, pick_per_class, proportional_counts
from condense.data.types import Supervision
from condense.errors import UserError


def labelled(counts: list[int]) -> Supervision:
    labels = np.repeat(np.arange(len(counts)), counts)
    return Supervision.from_labels(labels, len(counts), trusted=False)


def test_every_class_gives_its_share_and_nothing_is_lost():
    supervision = labelled([200, 100, 60])
    train, held = held_out(supervision, 0.1, seed=0)
    np.testing.assert_array_equal(np.bincount(supervision.observed[held]), [20, 10, 6])
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(360))
    assert train.dtype == held.dtype == np.int64
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()


def test_images_without_a_single_label_are_a_group_of_their_own():
    candidates = np.zeros((300, 3), dtype=np.bool_)
    candidates[np.arange(100), np.arange(100) % 2] = True
    candidates[100:200, :2] = True
    candidates[200:] = True
    supervision = Supervision(candidates, np.ones(300, dtype=np.bool_))
    _, held = held_out(supervision, 0.2, seed=0)
    np.testing.assert_array_equal(np.bincount(supervision.observed[held] + 1), [40, 10, 10])


def test_the_seed_decides_the_split():
    supervision = labelled([50, 50])
    first, again, other = (held_out(supervision, 0.2, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_class_always_keeps_an_image_to_train_on():
    supervision = labelled([10, 1])
    train, held = held_out(supervision, 0.9, seed=0)
    assert set(supervision.observed[train]) == {0, 1}
    assert len(held) == 9


def test_nothing_held_out_on_request():
    train, held = held_out(labelled([5, 5]), 0, seed=0)
    assert (len(train), len(held)) == (10, 0)


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_impossible_fractions_are_refused(fraction):
    with pytest.raises(UserError, match="held-out fraction"):
        held_out(labelled([5, 5]), fraction, seed=0)


def test_largest_remainders():
    np.testing.assert_array_equal(proportional_counts(np.array([50, 30, 21]), 10), [5, 3, 2])
    np.testing.assert_array_equal(proportional_counts(np.array([1, 1, 1]), 2), [1, 1, 0])


def test_picks_are_uniform_within_a_class():
    labels = np.repeat([0, 1], [4, 6])
    generator = np.random.default_rng(0)
    picked = np.sum([pick_per_class(labels, np.array([1, 3]), generator) for _ in range(4000)], axis=0) / 4000
    np.testing.assert_allclose(picked, np.repeat([1 / 4, 1 / 2], [4, 6]), atol=0.04)
