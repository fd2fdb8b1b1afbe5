"""Loading a data set by name or path: the table of data sets."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from condense.data import arrays, cifar, digits, fashion_mnist, folder, imagenette
from condense.data.decode import LEVELS, Background
from condense.data.fit import Fit, chosen_side, resize
from condense.data.pictures import Handling, size_told
from condense.data.reading import in_list
from condense.data.types import ImageData, Source
from condense.errors import UserError
from condense.plugins import DATA, announced

Loader = Callable[[Path | None, Handling, bool], Source]  # (root, handling of pictures, download)

TABLE: Mapping[str, Loader] = {
    "digits": lambda root, handling, download: digits.load(),
    "fashion-mnist": lambda root, handling, download: fashion_mnist.load(root, download),
    "cifar10": lambda root, handling, download: cifar.load(cifar.CIFAR10, root, download),
    "cifar100": lambda root, handling, download: cifar.load(cifar.CIFAR100, root, download),
    "imagenette": imagenette.load,
}
FLIPS: Mapping[str, bool] = {name: name != "digits" for name in TABLE}
"""Whether a mirrored image keeps its class: mirrored digits do not, mirrored clothes do."""

_AT_ONCE = 256  # images looked at between two checks whether any is bright


def names() -> tuple[str, ...]:
    """Names of the data sets: those of `TABLE`, then those of installed packages; nothing is imported."""
    return (*TABLE, *sorted(announced(DATA).keys() - TABLE.keys()))


def load(
    name_or_path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    download: bool = False,
    fit: Fit = "crop",
    background: Background = "white",
    skip_unreadable: bool = False,
    flip: bool | None = None,
) -> Source:
    """Read a data set.

    A name wins over a file of the same name (write ./digits for the file). Paths: a folder of images (see
    `folder`), or .npz, .h5, .hdf5 (see `arrays`), also as FILE::KEY, where KEY is the array of given labels.

    Args:
        name_or_path: one of `names()`, or a path.
        root: for a name, the folder its files lie in, or an .npz/.h5 of the benchmark, also as FILE::KEY.
        image_size: side in pixels to bring all images to (antialiased). None: the side they share if they are square,
            else a usual one up to their median short side, at most 64, given in `Source.reading`.
        download: whether a named data set may be fetched with torchvision, into `root` or `~/.cache/dmis`.
        fit: how images of another shape become square: "crop" (the central square), "pad" (with a margin) or "squash".
        background: what transparent pictures are laid on, and the margin of "pad".
        skip_unreadable: whether files of a folder that cannot be read are left out instead of refused.
        flip: whether a mirror image still shows its class; None: as the data set says, else not known.

    Returns:
        Images uint8 [n, H, H, 1 or 3], the labels as given, the truth where it is known, the test split, and
        observations made while reading.

    Raises:
        UserError: nothing there, or something that cannot be used; the message says what to do.
        RunFailed: a download failed.
    """
    name_or_path, root = os.fspath(name_or_path), None if root is None else Path(root)
    if image_size is not None and image_size < 1:
        raise UserError(f"the image size is {image_size}; give a whole number of pixels from 1 on.")
    handling = Handling(image_size, fit, background, skip_unreadable)
    if name_or_path in names():
        source = _load_named(name_or_path, root, handling, download)
    elif root is not None:
        raise UserError(
            f"--root is where a named data set lies, but {name_or_path!r} is not such a name; leave it out."
        )
    else:
        source = _load_path(name_or_path, handling)
    return _made_alike(source, handling, flip)


def from_arrays(
    contents: arrays.Arrays,
    name: str,
    *,
    image_size: int | None = None,
    fit: Fit = "crop",
    background: Background = "white",
    flip: bool | None = None,
) -> Source:
    """A data set from arrays in memory, under the names they have in a file (see `arrays`); otherwise as `load`."""
    handling = Handling(image_size, fit, background)
    return _made_alike(arrays.from_memory(contents, name), handling, flip)


def _load_named(name: str, root: Path | None, handling: Handling, download: bool) -> Source:
    if root is not None and (stored := _array_file(str(root))):
        source = arrays.load(stored[0], given=stored[1], trusted=True)
        flip = FLIPS.get(name) if source.train.flip is None else source.train.flip
        return dataclasses.replace(
            source,
            train=dataclasses.replace(source.train, name=name, flip=flip),
            test=dataclasses.replace(source.test, name=name, flip=flip) if source.test else None,
        )
    if root is not None and not root.exists() and not download:
        raise UserError(f"{name}: the folder {root} does not exist; correct --root, or leave it out.")
    return TABLE[name](root, handling, download) if name in TABLE else _load_installed(name, root, download)


def _load_installed(name: str, root: Path | None, download: bool) -> Source:
    try:
        load_it = announced(DATA)[name].load()
    except Exception as error:  # whatever the author's file does wrong
        raise UserError(f"The data set {name!r} cannot be loaded: {type(error).__name__}: {error}.") from error
    source = load_it(root, download)
    if not isinstance(source, Source):
        raise UserError(f"The data set {name!r} gives a {type(source).__name__}; its function must return a Source.")
    return source


def _load_path(text: str, handling: Handling) -> Source:
    if stored := _array_file(text):
        return arrays.load(stored[0], given=stored[1])
    path = Path(text)
    if path.is_dir():
        return folder.load(path, handling)
    if path.exists():
        raise UserError(
            f"{path} is not a data set; give a folder of images, a file that ends in "
            f"{', '.join(arrays.READERS)}, or one of {', '.join(names())}."
        )
    near = difflib.get_close_matches(text.casefold(), names(), n=1)
    known = f"did you mean {near[0]!r}? Known names" if near else "known names"
    raise UserError(f"there is no data set and no path {text!r}; {known}: {', '.join(names())}.")


def _array_file(text: str) -> tuple[Path, str | None] | None:
    """An existing array file and its label key from "FILE" or "FILE::KEY"; None for anything else."""
    name, _, key = text.partition("::")
    path = Path(name)
    if path.suffix.lower() not in arrays.READERS or not path.is_file():
        return None
    return path, key or None


def _made_alike(source: Source, handling: Handling, flip: bool | None) -> Source:
    """What is done with every data set as it was read: sizes, the user's `flip`, and notes about what looks wrong."""
    notes = (*source.reading.notes, *_dark(source), *_spelled_alike(source.train))
    source = dataclasses.replace(source, reading=dataclasses.replace(source.reading, notes=notes))
    return _flipped(_squared(source, handling), flip)


def _dark(source: Source) -> tuple[str, ...]:
    """A note on each split whose pixels are all 0 or 1, as values in [0, 1] become when they are made uint8."""
    splits = [data for data in (source.train, source.test) if data is not None]
    return tuple(
        f"{data.name}: no pixel of the {data.split} images is above 1, where 255 is white, so all of them are black; "
        "if the values were from 0 to 1, multiply them by 255 before they become uint8."
        for data in splits
        if all(data.images[start : start + _AT_ONCE].max() <= 1 for start in range(0, len(data), _AT_ONCE))
    )


def _spelled_alike(train: ImageData) -> tuple[str, ...]:
    """A note on classes whose names differ only in case, spaces, hyphens and underscores; single letters may."""
    spelled: dict[str, list[str]] = {}
    for name in train.classes:
        spelled.setdefault(re.sub(r"[\s_-]+", " ", name.casefold()).strip(), []).append(name)
    alike = [" and ".join(names) for plain, names in spelled.items() if len(names) > 1 and len(plain) > 1]
    if not alike:
        return ()
    return (
        f"{train.name}: class names that differ only in spelling count as different classes ({in_list(alike)}); if "
        "they mean the same class, give them one name.",
    )


def _squared(source: Source, handling: Handling) -> Source:
    """All images square, and of the size asked for; where none is, one is chosen for those that are not square."""
    _, height, width = source.train.image_shape
    side = handling.image_size
    if side is None and height == width:
        return source
    if side is None:
        side = chosen_side([min(height, width)])
        told = size_told(Counter({(width, height): len(source.train)}), side, handling.fit)
        reading = dataclasses.replace(source.reading, notes=(*source.reading.notes, told))
        source = dataclasses.replace(source, reading=reading)
    test = _resized(source.test, side, handling) if source.test else None
    return dataclasses.replace(source, train=_resized(source.train, side, handling), test=test)


def _resized(data: ImageData, side: int, handling: Handling) -> ImageData:
    images = resize(data.images, side, handling.fit, LEVELS[handling.background])
    return dataclasses.replace(data, images=images)


def _flipped(source: Source, flip: bool | None) -> Source:
    """The same with the user's `flip`, if given."""
    if flip is None:
        return source
    test = None if source.test is None else dataclasses.replace(source.test, flip=flip)
    return dataclasses.replace(source, train=dataclasses.replace(source.train, flip=flip), test=test)
