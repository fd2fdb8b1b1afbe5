"""Pictures laid out in a grid, and as PNG."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense.errors import UserError
from condense.grid import grid, png, save_png


def test_every_picture_lies_in_its_cell() -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 3, 3)).astype(np.uint8)  # never white
    sheet = grid(images, 3, pad=2)
    assert sheet.shape == (2 * 6 + 2, 3 * 5 + 2, 3)
    for place, image in enumerate(images):
        top, left = 2 + place // 3 * 6, 2 + place % 3 * 5
        np.testing.assert_array_equal(sheet[top : top + 4, left : left + 3], image)
    assert (sheet != 255).sum() == images.size  # all else is white


def test_scale_and_no_pad() -> None:
    image = np.array([[[[1], [2]]]], dtype=np.uint8)
    np.testing.assert_array_equal(grid(image, 9, pad=0, scale=2)[:, :, 0], [[1, 1, 2, 2], [1, 1, 2, 2]])


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(tmp_path: Path, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(np.uint8)
    save_png(tmp_path / "a.png", image)
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened).reshape(image.shape), image)


def test_png_of_two_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="these images have 2"):
        png(np.zeros((3, 3, 2), np.uint8))
    with pytest.raises(UserError):
        save_png(tmp_path / "a.png", np.zeros((3, 3, 2), np.uint8))
    assert list(tmp_path.iterdir()) == []
