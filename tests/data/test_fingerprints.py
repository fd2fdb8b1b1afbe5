"""Good inputs stay what they are: the fingerprints behind published numbers, and of plain folders, tables and files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense.data import fashion_mnist, sources


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def paint(file: Path, rng: np.random.Generator, *shape: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file)


def prefixes(source: sources.Source) -> list[str]:
    test = [] if source.test is None else [source.test.fingerprint()]
    return [found[:16] for found in (source.train.fingerprint(), *test)]


def test_digits_and_fashion_mnist():
    assert prefixes(sources.load("digits")) == ["6559b4a24b8bd8bb", "35f6288e08eb9ef5"]
    if fashion_mnist.DEBIAN_FOLDER.is_dir():
        assert prefixes(sources.load("fashion-mnist")) == ["22af6420d676bb36", "83c2c8e9ed4a0229"]


def test_folders_tables_and_arrays(tmp_path, rng):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(3):
                paint(tmp_path / "pets" / split / name / f"{number}.png", rng, 12, 12, 3)
    assert prefixes(sources.load(str(tmp_path / "pets"))) == ["4d9a8d87cc103aa4", "fc4c8aa2259c63fa"]
    assert prefixes(sources.load(str(tmp_path / "pets"), image_size=8)) == ["665baf6c44ddeb3a", "cb8560c4e7b0b09c"]
    for number in range(6):
        paint(tmp_path / "flat" / f"{number}.png", rng, 9, 9)
    rows = "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(6))
    (tmp_path / "flat" / "labels.csv").write_text("file,label\n" + rows)
    table = sources.load(str(tmp_path / "flat"))
    assert prefixes(table) == ["d21c48def72f3222"] and table.supervision.fingerprint()[:16] == "e66821dd8aa5c209"
    images = rng.integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(6) % 3)
    stored = sources.load(str(tmp_path / "a.npz"))
    assert prefixes(stored) == ["600401de490ece5f"] and stored.supervision.fingerprint()[:16] == "cde9a978c561beae"
