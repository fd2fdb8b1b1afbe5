"""Choosing representatives, against brute force."""

import itertools

import numpy as np
import pytest

from condense.methods._select import choose, herding, k_center, kmeans


def points(m, f, seed=0):
    return np.random.default_rng(seed).normal(size=(m, f)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_herding_takes_the_best_next_image_every_time(seed):
    features = points(9, 3, seed)
    mean, chosen = features.mean(0), []
    for k in range(5):
        rest = [i for i in range(9) if i not in chosen]
        distance = [np.linalg.norm(mean - features[[*chosen, i]].mean(0)) for i in rest]
        chosen.append(rest[int(np.argmin(distance))])
        assert herding(features, k + 1).tolist() == chosen


def test_herding_of_everything_is_everything():
    assert sorted(herding(points(6, 2), 6)) == list(range(6))


@pytest.mark.parametrize("seed", range(4))
def test_k_center_takes_the_farthest_image_every_time(seed):
    features = points(9, 3, seed)
    chosen = [min(range(9), key=lambda i: np.linalg.norm(features[i] - features.mean(0)))]
    for k in range(1, 6):
        rest = [i for i in range(9) if i not in chosen]
        chosen.append(max(rest, key=lambda i: min(np.linalg.norm(features[i] - features[j]) for j in chosen)))
        assert k_center(features, k + 1).tolist() == chosen


@pytest.mark.parametrize("seed", range(4))
def test_k_center_covers_within_twice_the_optimum(seed):
    features = points(8, 2, seed)

    def radius(centres):
        return np.linalg.norm(features[:, None] - features[None, list(centres)], axis=2).min(1).max()

    best = min(radius(centres) for centres in itertools.combinations(range(8), 3))
    assert radius(k_center(features, 3)) <= 2 * best + 1e-6


def test_k_center_takes_copies_of_an_image_rather_than_an_image_twice():
    features = np.ones((5, 2), dtype=np.float32)
    assert sorted(k_center(features, 5)) == list(range(5))


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_centres_are_the_best_partition(seed):
    generator = np.random.default_rng(seed)
    features = np.concatenate([generator.normal(c, 0.3, (n, 2)) for c, n in ((-3, 3), (0, 1), (3, 4))])
    features = features.astype(np.float32)

    def cost(partition):
        groups = [features[np.array(partition) == g] for g in range(3)]
        return sum(((g - g.mean(0)) ** 2).sum() if len(g) else np.inf for g in groups)

    best = np.array(min(itertools.product(range(3), repeat=8), key=cost))
    nearest = []
    for g in sorted(range(3), key=lambda g: -(best == g).sum()):
        members = np.flatnonzero(best == g)
        nearest.append(int(members[((features[members] - features[members].mean(0)) ** 2).sum(1).argmin()]))
    assert kmeans(features, 3, seed).tolist() == nearest  # the largest cluster first


def test_kmeans_never_takes_an_image_twice():
    features = points(12, 2)
    assert len(set(kmeans(features, 10, 0).tolist())) == 10


def test_kmeans_follows_its_seed():
    features = points(40, 2)
    assert kmeans(features, 5, 1).tolist() == kmeans(features, 5, 1).tolist()
    assert any(kmeans(features, 5, 1).tolist() != kmeans(features, 5, seed).tolist() for seed in range(2, 8))


def test_none_and_surest():
    features, sureness = points(5, 2), np.array([0.3, 0.9, 0.5, 0.9, 0.1])
    assert choose(features, sureness, 2, "none", 0).tolist() == [0, 1]
    assert choose(features, sureness, 3, "surest", 0).tolist() == [1, 3, 2]
    for how in ("none", "surest", "kmeans", "herding"):
        assert choose(features, sureness, 2, how, 0).dtype == np.int64
