import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from condense.evaluate import neighbours
from condense.evaluate.neighbours import first_copies, nearest


@pytest.fixture(params=[7, 2048], ids=["small blocks", "one block"])
def block(request, monkeypatch):
    monkeypatch.setattr(neighbours.blocks, "__defaults__", (request.param,))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_neighbours_are_those_of_scikit_learn(block, dtype):
    generator = np.random.default_rng(0)
    base = generator.integers(0, 256, (60, 5, 4, 1)).astype(dtype)
    queries = generator.integers(0, 256, (20, 5, 4, 1)).astype(dtype)
    distance, index = nearest(queries, base, 4)
    model = NearestNeighbors(algorithm="brute").fit(base.reshape(60, -1).astype(float))
    wanted, places = model.kneighbors(queries.reshape(20, -1).astype(float), 4)
    np.testing.assert_allclose(distance, wanted, rtol=1e-9)
    np.testing.assert_array_equal(index, places)


def test_an_image_is_not_its_own_neighbour_but_its_copy_is(block):
    base = np.random.default_rng(1).integers(0, 256, (30, 16), dtype=np.uint8)
    base[21] = base[3]
    distance, index = nearest(base[:10], base, 2, itself=np.arange(10))
    assert (index != np.arange(10)[:, None]).all()
    assert index[3, 0] == 21 and distance[3, 0] == 0 and (np.delete(distance, 3, 0) > 0).all()


def test_copies_are_at_exactly_zero_and_memory_mapped_files_are_read(tmp_path, block):
    images = np.random.default_rng(2).integers(0, 256, (40, 28, 28, 1), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    distance, index = nearest(images[5:9].astype(np.float32), mapped, 1)
    assert index[:, 0].tolist() == [5, 6, 7, 8] and not distance.any()


def test_first_copies():
    images = np.random.default_rng(3).integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)
    images[4] = images[5] = images[1]
    assert first_copies(images).tolist() == [0, 1, 2, 3, 1, 1]
