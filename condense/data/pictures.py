"""Image files to one uint8 array: one size, one number of channels, nothing converted silently wrong."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from condense.data.memory import check_fits
from condense.data.types import Images
from condense.errors import UserError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

_GREY_MODES = {"1", "L"}
_DEEP_MODES = ("I", "F")  # more than 8 bits a channel: PIL would clip the values


@dataclass(frozen=True)
class Form:
    """What all images of a data set are brought to: height, width, and grey (C = 1) or colour (C = 3)."""

    height: int
    width: int
    grey: bool


def common_form(files: Sequence[Path], image_size: int | None) -> Form:
    """The form that fits all files, from their headers alone.

    Grey when every image is; otherwise RGB. The size is `image_size` squared, or the one size they share.

    Raises:
        UserError: a file is no image, has more than 8 bits a channel, or sizes differ without `image_size`.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for file in files:
        with _opened(file) as image:
            sizes[image.size] += 1
            grey = grey and image.mode in _GREY_MODES
    if image_size is not None:
        return Form(image_size, image_size, grey)
    if len(sizes) > 1:
        raise UserError(_sizes_differ(sizes))
    width, height = next(iter(sizes))
    return Form(height, width, grey)


def read(files: Sequence[Path], form: Form) -> Images:
    """Decode all files, centre-cropped to a square and resized (antialiased) where they need it.

    Returns:
        uint8 [n, height, width, 1 or 3].

    Raises:
        UserError: a file is damaged, or the array does not fit in memory.
    """
    channels = 1 if form.grey else 3
    shape = (len(files), form.height, form.width, channels)
    check_fits(int(np.prod(shape)), f"Reading {len(files)} images")
    images = np.empty(shape, dtype=np.uint8)
    for index, file in enumerate(files):
        with _opened(file) as image:
            fitted = _fit(_plain(image, form.grey), form.height, form.width)
            images[index] = np.asarray(fitted).reshape(shape[1:])
    return images


def resize(images: Images, size: int) -> Images:
    """Centre-crop uint8 images [n, H, W, C] to squares, resized (antialiased) to [n, size, size, C]."""
    n, height, width, channels = images.shape
    if (height, width) == (size, size):
        return images
    check_fits(n * size * size * channels, f"Resizing {n} images")
    resized = np.empty((n, size, size, channels), dtype=np.uint8)
    for index, pixels in enumerate(images):
        picture = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        resized[index] = np.asarray(_fit(picture, size, size)).reshape(size, size, channels)
    return resized


def _plain(image: Image.Image, grey: bool) -> Image.Image:
    """The image in mode L or RGB; transparency is dropped."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if grey else "RGB")


def _fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """The central square of the image, resized; the image itself where it has the size already."""
    if image.size == (width, height):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The opened image; whatever goes wrong with it while open becomes one sentence that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                if image.mode.startswith(_DEEP_MODES):
                    raise UserError(f"{file} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits.")
                yield image
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} cannot be read as an image ({error}); replace or remove it.") from error
    except Image.DecompressionBombWarning as error:
        raise UserError(f"{file} is too large an image ({error}); scale it down first.") from error


def _sizes_differ(sizes: Counter[tuple[int, int]]) -> str:
    common = ", ".join(f"{width}x{height} ({count})" for (width, height), count in sizes.most_common(3))
    more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
    return (
        f"the images have {len(sizes)} different sizes: {common}{more}; "
        "give the size to bring them to, e.g. --image-size 64 (centre-cropped to a square and resized)."
    )
