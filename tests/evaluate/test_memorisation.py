import numpy as np
import pytest
import tiny

from condense.data import sources
from condense.errors import UserError
from condense.evaluate.memorisation import memorisation


@pytest.fixture(scope="module")
def train():
    return sources.load("digits").train.images


def test_a_memorised_set_is_caught(train):
    chosen = np.random.default_rng(0).choice(len(train), 50, replace=False)
    found = memorisation(train[chosen], train)
    assert found.flagged and found.copied.all() and not found.distance.any()
    assert found.neighbour.tolist() == chosen.tolist()


def test_copies_with_a_little_noise_are_caught(train):
    generator = np.random.default_rng(0)
    chosen = generator.choice(len(train), 50, replace=False)
    noisy = (train[chosen] + generator.normal(0, 5, train[chosen].shape)).astype(np.float32)
    found = memorisation(noisy, train)
    assert found.flagged and found.copied.mean() > 0.9 and (found.neighbour == chosen).all()
    assert found.distance == pytest.approx(5 / 255, rel=0.5)


def test_new_images_of_the_same_kind_are_not(train):
    """Test digits are as near to the training digits as those are to each other."""
    test = sources.load("digits").test.images[:100]
    found = memorisation(test, train)
    assert not found.flagged and found.copied.mean() < 0.03
    assert np.median(found.distance) == pytest.approx(np.median(found.real_distance), rel=0.15)
    noise = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    assert not memorisation(noise, train).flagged


def test_a_few_copies_among_new_images_are_enough(train):
    test = sources.load("digits").test.images[:100].copy()
    test[:6] = train[:6]
    found = memorisation(test, train)
    assert found.flagged and found.copied[:6].all()


def test_duplicates_in_the_training_data_do_not_hide_copies():
    images = tiny.pictures(20)[0].images
    twice = np.concatenate([images, images, images])
    found = memorisation(images[:20], twice)
    assert found.copied.all() and found.flagged and found.neighbour.tolist() == list(range(20))
    assert (found.real_distance > 0).all() and len(found.real_distance) == 60


def test_distances_are_root_mean_square():
    train = np.stack([np.full((4, 4, 1), value, np.uint8) for value in (0, 51, 255)])
    found = memorisation(np.full((1, 4, 4, 1), 76.5, np.float32), train, sample=3)
    assert found.distance == pytest.approx([0.1]) and found.neighbour.tolist() == [1]
    assert sorted(found.real_distance) == pytest.approx([0.2, 0.2, 0.8])


def test_two_images_are_too_few():
    with pytest.raises(UserError, match="2 different training images are too few"):
        memorisation(np.zeros((1, 2, 2, 1), np.uint8), np.arange(2, dtype=np.uint8).repeat(8).reshape(4, 2, 2, 1))
