"""Imagenette from a fabricated folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense.data import imagenette, sources
from condense.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for number, wnid in enumerate(imagenette.NAMES):
            folder = tmp_path / "imagenette2-160" / split / wnid
            folder.mkdir(parents=True)
            Image.new("RGB", (80 + number, 90), (25 * number, 100, 0)).save(folder / "a.JPEG", quality=95)
    return tmp_path


def test_wnids_become_english_names_at_64_pixels(root):
    source = sources.load("imagenette", root=root)
    assert source.test is not None
    assert source.truth is not None
    assert source.train.images.shape == source.test.images.shape == (10, 64, 64, 3)
    assert source.train.classes[3] == "chain saw"
    assert source.truth.labels.tolist() == list(range(10))
    np.testing.assert_allclose(source.train.images[:, 32, 32, 0], 25 * np.arange(10), atol=3)
    assert sources.load("imagenette", root=root / "imagenette2-160", image_size=32).train.image_shape == (
        3,
        32,
        32,
    )


def test_other_classes_are_refused(root):
    (root / "imagenette2-160" / "val" / "n01440764").rename(root / "imagenette2-160" / "val" / "fish")
    with pytest.raises(UserError, match="Imagenette's are n01440764"):
        sources.load("imagenette", root=root)


def test_missing_files_are_explained(tmp_path):
    with pytest.raises(UserError, match="has no folders train and val"):
        sources.load("imagenette", root=tmp_path)
