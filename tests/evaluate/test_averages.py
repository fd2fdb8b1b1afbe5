"""The nearest average of two images against brute force, and where it is known."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from condense.evaluate import averages
from condense.evaluate.averages import nearest_average


@pytest.fixture(scope="module")
def base():
    return np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)


def test_it_is_the_best_of_all_pairs_and_weights(base):
    queries = np.random.default_rng(1).normal(128, 60, (5, 4, 4, 1)).astype(np.float32)
    neighbours = np.stack([np.random.default_rng(i).permutation(40)[:7] for i in range(5)])
    found = nearest_average(queries, base, neighbours)
    for i, query in enumerate(queries.astype(np.float64)):

        def distance(w, pair, query=query):
            a, b = base[list(pair)].astype(np.float64)
            return np.linalg.norm(w * a + (1 - w) * b - query)

        least = min(
            minimize_scalar(distance, (0, 1), args=(pair,), bounds=(0, 1), method="bounded").fun
            for pair in itertools.combinations(neighbours[i], 2)
        )
        assert found.distance[i] == pytest.approx(least, rel=1e-4)
        assert distance(found.weight[i], found.pair[i]) == pytest.approx(found.distance[i], rel=1e-9)
        assert set(found.pair[i]) <= set(neighbours[i]) and found.pair[i, 0] != found.pair[i, 1]


@pytest.mark.parametrize("weight", [0.5, 0.7, 1.0])
def test_parents_and_weight_of_an_average_are_found(base, weight):
    mixed = (weight * base[3].astype(np.float32) + (1 - weight) * base[8])[None]
    found = nearest_average(mixed, base, np.arange(40)[None])
    assert found.distance[0] == pytest.approx(0, abs=1e-3) and found.weight[0] == pytest.approx(weight, abs=1e-4)
    assert found.pair[0, 0] in ((3, 8) if weight == 0.5 else (3,))
    assert weight == 1 or set(found.pair[0]) == {3, 8}


def test_blocks_do_not_show(base, monkeypatch):
    queries, neighbours = base[:9].astype(np.float32) + 3, np.tile(np.arange(10, 30), (9, 1))
    whole = nearest_average(queries, base, neighbours)
    monkeypatch.setattr(averages, "_ELEMENTS", 1)
    parts = nearest_average(queries, base, neighbours)
    np.testing.assert_allclose(parts.distance, whole.distance, rtol=1e-6)
    np.testing.assert_array_equal(parts.pair, whole.pair)
