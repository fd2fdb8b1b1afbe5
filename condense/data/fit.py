"""Resizing images of another size or shape: cropped, padded or squashed."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from condense.data.memory import allocate
from condense.data.types import Images

Fit = Literal["crop", "pad", "squash"]


def fitted(image: Image.Image, height: int, width: int, fit: Fit = "crop", background: int = 255) -> Image.Image:
    """The image at another size, bicubic and antialiased; the image itself where it has the size already.

    Args:
        image: of mode L or RGB.
        height: of the result.
        width: of the result.
        fit: "crop" keeps the central square, "pad" the whole picture with a margin, "squash" all of it, distorted.
        background: grey level 0..255 of the margin.
    """
    if image.size == (width, height):
        return image
    if fit == "squash":
        return image.resize((width, height), Image.Resampling.BICUBIC)
    if fit == "pad":
        return _padded(image, height, width, background)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _padded(image: Image.Image, height: int, width: int, background: int) -> Image.Image:
    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    colour = background if image.mode == "L" else (background,) * 3
    padded = Image.new(image.mode, (width, height), colour)
    place = ((width - inner[0]) // 2, (height - inner[1]) // 2)
    padded.paste(image.resize(inner, Image.Resampling.BICUBIC), place)
    return padded


def resize(images: Images, size: int, fit: Fit = "crop", background: int = 255) -> Images:
    """uint8 images [n, H, W, C] brought to [n, size, size, C], see `fitted`."""
    n, height, width, channels = images.shape
    if (height, width) == (size, size):
        return images
    resized = allocate((n, size, size, channels), f"Resizing {n} images")
    for index, pixels in enumerate(images):
        picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        resized[index] = np.asarray(fitted(picture, size, size, fit, background)).reshape(size, size, channels)
    return resized


_SIDES = (8, 16, 24, 28, 32, 48, 64)


def chosen_side(short_sides: list[int]) -> int:
    """A side for pictures of different sizes, or not square: the largest usual one up to their median short side.

    At most 64 pixels, the largest size with measured defaults; below 8 pixels the median itself, at least 4.
    """
    median = int(np.median(short_sides))
    return max((side for side in _SIDES if side <= median), default=max(4, median))
