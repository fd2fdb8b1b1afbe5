"""Decoding one image file as viewers show it: EXIF rotation, transparency on a background, 16 bits scaled.

Files may come from strangers: only the formats below are ever tried, whatever a file is called (Pillow would hand an
EPS to Ghostscript), and damage of any kind becomes `Unreadable` with the reason.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from condense.errors import in_short

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_READ = frozenset(
    ".apng .avif .bmp .dib .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .jpx .mpo "
    ".pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
_NOT_READ = frozenset(".heic .heif .hif .jxl .psd .svg .eps .dng .cr2 .cr3 .nef .arw".split())
SUFFIXES = _READ | _NOT_READ
"""Endings of pictures in lower case; files with these endings that cannot be read are reported, not skipped."""

Background = Literal["white", "grey", "black"]
LEVELS: dict[Background, int] = {"white": 255, "grey": 128, "black": 0}

_DEEP = ("I;16", "I")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    MemoryError,
    RuntimeError,
    ArithmeticError,
    struct.error,
    Image.DecompressionBombError,
)


class Unreadable(Exception):
    """A file that is not a picture, or is damaged; the message is the reason alone."""


@dataclass(frozen=True)
class PictureHeader:
    """A picture's header.

    Attributes:
        size: (width, height) as displayed.
        grey: whether it has no colours.
        turned: whether its EXIF orientation rotates it.
        transparent: whether it has an alpha channel or a transparent colour.
        deepest: largest value of a picture of 16 bits per channel, else None.
        frames: whether it has several frames or pages.
    """

    size: tuple[int, int]
    grey: bool
    turned: bool
    transparent: bool
    deepest: int | None
    frames: bool


def look(file: Path) -> PictureHeader:
    """A picture's header; for 16-bit pictures the pixels are read too. Raises `Unreadable`."""
    with _opened(file) as image:
        frames = image.format not in ("JPEG", "MPO") and bool(getattr(image, "is_animated", False))
        image.seek(0)
        orientation = _orientation(image)
        width, height = image.size
        if orientation in _SIDEWAYS and image.format != "TIFF":  # Pillow turns TIFF itself, and says so beforehand
            width, height = height, width
        deepest = _deepest(image) if image.mode.startswith(_DEEP) else None
        grey = image.mode in ("1", "L") or deepest is not None
        return PictureHeader((width, height), grey, orientation in _TURNS, image.has_transparency_data, deepest, frames)


def decode(file: Path, grey: bool, background: int, white: int, *, turned: bool = True) -> Image.Image:
    """The picture in mode L or RGB.

    Args:
        file: in one of `FORMATS`; of several frames the first is used.
        grey: whether the mode is L.
        background: grey level 0..255 on which transparent pictures are laid.
        white: the value of white in pictures of 16 bits per channel.
        turned: whether to apply the EXIF orientation.

    Raises:
        Unreadable: the file is damaged or none of these formats.
    """
    with _opened(file) as image:
        image.load()
        turn = _TURNS.get(_orientation(image)) if turned else None
        plain = image if turn is None else image.transpose(turn)
        if image.mode.startswith(_DEEP):
            levels = np.rint(np.asarray(plain).astype(np.float64) * (255 / white)).clip(0, 255)
            plain = Image.fromarray(levels.astype(np.uint8))
        elif image.has_transparency_data:
            paper = Image.new("RGBA", plain.size, (background, background, background, 255))
            plain = Image.alpha_composite(paper, plain.convert("RGBA"))
        return plain.convert("L" if grey else "RGB")


def _deepest(image: Image.Image) -> int:
    image.load()
    pixels = np.asarray(image)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise Unreadable(f"its values, {low} to {high}, need more than 16 bits; convert it to 8 or 16 bits")
    return high


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; damaged EXIF counts as none."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGE:
        return 1


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The opened image; whatever goes wrong with it while open becomes `Unreadable`."""
    if not file.is_file():
        raise Unreadable("a link to a file that does not exist" if file.is_symlink() else "no file")
    if file.suffix.lower() in _NOT_READ:
        raise Unreadable(f"{file.suffix.lower()} pictures are not read; save it as .jpg or .png")
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about harmless oddities of headers
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=known) as image:
                if image.mode == "F":
                    raise Unreadable("its pixels are floating-point numbers; convert it to 8 or 16 bits")
                yield image
    except UnidentifiedImageError as error:
        kinds = "none of the formats read" if file.stat().st_size else "empty"
        raise Unreadable(f"it is {kinds}") from error
    except Image.DecompressionBombWarning as error:
        raise Unreadable(f"it is too large ({in_short(error, 100)}); scale it down first") from error
    except _DAMAGE as error:
        raise Unreadable(in_short(error, 100) or type(error).__name__) from error
