import numpy as np
import pytest
import tiny
from scipy import stats

from condense.data import sources
from condense.errors import UserError
from condense.evaluate.memorisation import AVERAGED_REAL, memorisation
from condense.methods._generate import class_prototypes


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


# averages of two


def mixed(weight, count=200):
    """`weight` of one training digit and the rest of another of its class, in 8 bits; and which two."""
    source = sources.load("digits")
    generator = np.random.default_rng(1)
    labels = source.truth.labels
    first = generator.integers(0, len(labels), count)
    others = [np.flatnonzero((labels == labels[i]) & (np.arange(len(labels)) != i)) for i in first]
    pair = np.stack([first, [generator.choice(other) for other in others]], 1)
    images = weight * source.train.images[pair[:, 0]].astype(float) + (1 - weight) * source.train.images[pair[:, 1]]
    return images.round().astype(np.uint8), pair


@pytest.mark.parametrize(("weight", "power"), [(0.5, 0.99), (0.7, 0.93)])
def test_averages_of_two_digits_are_caught_and_not_called_copies(train, weight, power):
    images, pair = mixed(weight)
    found = memorisation(images, train)
    assert found.flagged_averages and found.averaged.mean() >= power
    assert found.copied.mean() < 0.03
    exact = found.averaged & (np.sort(found.average_pair, 1) == np.sort(pair, 1)).all(1)
    assert exact.mean() >= power - 0.05
    assert found.average_weight[exact] == pytest.approx(weight, abs=0.02)
    assert found.average_distance[exact].max() < 1 / 255


def test_real_images_pass_for_averages_no_more_often_than_stated(train):
    """The 500 held-out digits; 11 of them would be too many at the 1 % level of a binomial test."""
    test = sources.load("digits").test.images
    found = memorisation(test, train)
    most = stats.binom.ppf(0.99, len(test), AVERAGED_REAL)
    assert len(test) == 500 and 0 < found.averaged.sum() <= most
    assert not found.flagged_averages and found.averaged_p_value > 0.05


def test_copies_are_no_averages_and_a_few_averages_among_new_images_are_enough(train):
    assert not memorisation(train[:50], train).averaged.any()
    test = sources.load("digits").test.images[:100].copy()
    test[:8] = mixed(0.5, 8)[0]
    found = memorisation(test, train)
    assert found.averaged[:8].all() and found.flagged_averages and not found.flagged


def test_prototypes_are_copies_and_averages(train):
    """Means of k-means clusters; those of one image are copies, those of two and a few more averages."""
    truth = sources.load("digits").truth
    means = np.concatenate(class_prototypes(train, np.eye(10)[truth.labels], 50, 0))
    found = memorisation(means, train)
    assert found.flagged and found.flagged_averages and (found.copied | found.averaged).mean() > 0.7


def test_too_few_real_images_flag_no_averages():
    """Below 99 no image can be farther out than 99 % of the real ones."""
    images = tiny.pictures(20)[0].images
    halves = (images[:30] // 2 + images[30:] // 2).astype(np.uint8)
    assert not memorisation(halves, images).averaged.any()
