"""Image files to one uint8 array of one size and number of channels, with every conversion reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from condense.data.decode import LEVELS, Background, PictureHeader, Unreadable, decode, look
from condense.data.fit import Fit, chosen_side, fitted
from condense.data.memory import allocate
from condense.data.reading import in_list
from condense.data.types import Images, Mask
from condense.errors import UserError

_MOST_TOLD = 20


@dataclass(frozen=True)
class Handling:
    """How pictures of different kinds are made alike.

    Attributes:
        image_size: side in pixels to bring all to; None: the one they share if they are square, else a usual one.
        fit: how pictures of another shape are brought to it, see `condense.data.fit`.
        background: colour behind transparent pictures and of padding.
        skip_unreadable: whether to skip files that cannot be read instead of raising an error.
    """

    image_size: int | None = None
    fit: Fit = "crop"
    background: Background = "white"
    skip_unreadable: bool = False


@dataclass(frozen=True)
class Form:
    """The common form of all images of a data set.

    Attributes:
        height: in pixels.
        width: in pixels.
        grey: whether C = 1, else 3.
        fit: see `Handling`.
        background: grey level 0..255 beneath transparent pictures and in margins.
        white: value of white in pictures of 16 bits per channel: the largest of as many bits as are used.
        turned: whether EXIF orientations are applied.
    """

    height: int
    width: int
    grey: bool
    fit: Fit = "crop"
    background: int = 255
    white: int = 65535
    turned: bool = True


@dataclass(frozen=True)
class Survey:
    """The headers of some files, or why they cannot be read."""

    looks: Mapping[Path, PictureHeader]
    unreadable: Mapping[Path, str] = field(default_factory=dict)

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Number of pictures by (width, height)."""
        return Counter(found.size for found in self.looks.values())

    def without(self, files: Container[Path]) -> Survey:
        """The same without some files."""
        return Survey({file: found for file, found in self.looks.items() if file not in files}, self.unreadable)

    def changed(self, form: Form) -> dict[str, int]:
        """The conversions needed, with the number of pictures of each."""
        looks = self.looks.values()
        background = next(name for name, level in LEVELS.items() if level == form.background)
        counts = {
            "turned as EXIF says": sum(found.turned for found in looks),
            f"transparent, laid on {background}": sum(found.transparent for found in looks),
            f"16 bits per channel, scaled from 0..{form.white}": sum(found.deepest is not None for found in looks),
            "several frames or pages, the first one taken": sum(found.frames for found in looks),
            f"brought to {form.width}x{form.height} ({form.fit})": sum(
                found.size != (form.width, form.height) for found in looks
            ),
        }
        return {what: count for what, count in counts.items() if count}


def survey(files: Sequence[Path]) -> Survey:
    """Read the headers of all files."""
    looks: dict[Path, PictureHeader] = {}
    unreadable: dict[Path, str] = {}
    for file in files:
        try:
            looks[file] = look(file)
        except Unreadable as error:
            unreadable[file] = str(error)
    return Survey(looks, unreadable)


def common_form(found: Survey, handling: Handling) -> tuple[Form, tuple[str, ...]]:
    """The form that fits all readable files, and notices about it.

    Grey when every image is; otherwise RGB. The size is the one asked for, else the one that all share if it is
    square, else chosen, see `chosen_side`.
    """
    looks, sizes = list(found.looks.values()), found.sizes
    form = Form(
        handling.image_size or 0,
        handling.image_size or 0,
        grey=all(each.grey for each in looks),
        fit=handling.fit,
        background=LEVELS[handling.background],
        white=full_scale(looks),
    )
    notes: tuple[str, ...] = ()
    if handling.image_size is None:
        width, height = next(iter(sizes), (0, 0))
        if len(sizes) != 1 or width != height:
            width = height = chosen_side([min(size) for size in sizes.elements()])
            notes = (size_told(sizes, width, handling.fit),)
        form = Form(height, width, form.grey, form.fit, form.background, form.white)
    return form, notes


def full_scale(looks: Sequence[PictureHeader]) -> int:
    """The value of white in pictures of 16 bits a channel: the largest of as many bits as are used in all of them."""
    deepest = max((each.deepest for each in looks if each.deepest is not None), default=65535)
    return next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if deepest < 2**bits)


def size_told(sizes: Counter[tuple[int, int]], side: int, fit: Fit) -> str:
    """The sentence about a size that was chosen."""
    common = ", ".join(f"{width}x{height} ({count})" for (width, height), count in sizes.most_common(3))
    more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
    what = "are not square" if len(sizes) == 1 else f"have {len(sizes)} different sizes"
    done = {"crop": "cut to the central square", "pad": "padded to a square", "squash": "squashed to a square"}[fit]
    return (
        f"the images {what}: {common}{more}; they are {done} and brought to {side}x{side}. "
        "Another size: --image-size N; another way: --fit crop, pad or squash."
    )


def read(files: Sequence[Path], form: Form) -> tuple[Images, Mask, dict[Path, str]]:
    """Decode all files and convert them to the form.

    Returns:
        uint8 [n, height, width, 1 or 3], in a temporary file if memory is short; bool [n], True for those that could
        be read; and the others' reasons.

    Raises:
        UserError: neither memory nor the disk has room for the array.
    """
    channels = 1 if form.grey else 3
    shape = (len(files), form.height, form.width, channels)
    images, readable = allocate(shape, f"Reading {len(files)} images"), np.ones(len(files), dtype=np.bool_)
    unreadable: dict[Path, str] = {}
    for index, file in enumerate(files):
        try:
            picture = decode(file, form.grey, form.background, form.white, turned=form.turned)
        except Unreadable as error:
            unreadable[file], readable[index] = str(error), False
            continue
        brought = fitted(picture, form.height, form.width, form.fit, form.background)
        images[index] = np.asarray(brought).reshape(shape[1:])
    return images, readable, unreadable


def refuse_unreadable(unreadable: Mapping[Path, str], num_files: int, folder: Path) -> None:
    """Raise `UserError` with all files that cannot be read, if there are any."""
    if not unreadable:
        return
    if len(unreadable) == 1:
        file, why = next(iter(unreadable.items()))
        raise UserError(
            f"{file} cannot be read as an image ({why}); replace or remove it, or leave it out with --skip-unreadable."
        )
    listed = in_list([f"{file.relative_to(folder)} ({why})" for file, why in unreadable.items()], _MOST_TOLD)
    raise UserError(
        f"{len(unreadable)} of the {num_files} files in {folder} cannot be read as images: {listed}; replace or remove "
        "them, or leave them out with --skip-unreadable."
    )
