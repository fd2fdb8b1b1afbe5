"""A name or a path becomes images and labels: the one table of data sets."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from condense.data import arrays, cifar, digits, fashion_mnist, folder, imagenette, pictures
from condense.data.types import ImageData, Source
from condense.errors import UserError

Loader = Callable[[Path | None, int | None, bool], Source]  # (root, image_size, download)

TABLE: Mapping[str, Loader] = {
    "digits": lambda root, size, download: digits.load(),
    "fashion-mnist": lambda root, size, download: fashion_mnist.load(root, download),
    "cifar10": lambda root, size, download: cifar.load(cifar.CIFAR10, root, download),
    "cifar100": lambda root, size, download: cifar.load(cifar.CIFAR100, root, download),
    "imagenette": imagenette.load,
}
NAMES: tuple[str, ...] = tuple(TABLE)


def load(
    name_or_path: str, *, root: Path | None = None, image_size: int | None = None, download: bool = False
) -> Source:
    """Read a data set.

    A name wins over a file of the same name (write ./digits for the file). Paths: a folder of images (see
    `folder`), or .npz, .h5, .hdf5 (see `arrays`), also as FILE::KEY, where KEY is the array of given labels.

    Args:
        name_or_path: one of `NAMES`, or a path.
        root: for a name, the folder its files lie in, or an .npz/.h5 of the benchmark, also as FILE::KEY.
        image_size: side in pixels; other images are centre-cropped to a square and resized (antialiased).
        download: whether a named data set may be fetched with torchvision, into `root` or `~/.cache/dmis`.

    Returns:
        Images uint8 [n, H, H, 1 or 3], the labels as given, the truth where it is known, and the test split.

    Raises:
        UserError: nothing there, or something that cannot be used; the message says what to do.
        RunFailed: a download failed.
    """
    if image_size is not None and image_size < 1:
        raise UserError(f"the image size is {image_size}; give a whole number of pixels from 1 on.")
    if name_or_path in TABLE:
        source = _load_named(name_or_path, root, image_size, download)
    elif root is not None:
        raise UserError(f"--root is where a named data set lies, and {name_or_path!r} is no such name; leave it out.")
    else:
        source = _load_path(name_or_path, image_size)
    return _squared(source, image_size)


def from_arrays(contents: arrays.Arrays, name: str, *, image_size: int | None = None) -> Source:
    """A data set from arrays in memory, named as in a file (see `arrays`). Raises `UserError` as `load`."""
    return _squared(arrays.from_memory(contents, name), image_size)


def _load_named(name: str, root: Path | None, image_size: int | None, download: bool) -> Source:
    if root is not None and (stored := _array_file(str(root))):
        source = arrays.load(stored[0], given=stored[1], trusted=True)
        return dataclasses.replace(
            source,
            train=dataclasses.replace(source.train, name=name),
            test=dataclasses.replace(source.test, name=name) if source.test else None,
        )
    if root is not None and not root.exists() and not download:
        raise UserError(f"{name}: the folder {root} does not exist; correct --root, or leave it out.")
    return TABLE[name](root, image_size, download)


def _load_path(text: str, image_size: int | None) -> Source:
    if stored := _array_file(text):
        return arrays.load(stored[0], given=stored[1])
    path = Path(text)
    if path.is_dir():
        return folder.load(path, image_size=image_size)
    if path.exists():
        raise UserError(
            f"{path} is no kind of data this reads; give a folder of images, a file of the kind "
            f"{', '.join(arrays.READERS)}, or one of {', '.join(NAMES)}."
        )
    near = difflib.get_close_matches(text.casefold(), NAMES, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"there is no data set and no path {text!r}; {hint}Known names: {', '.join(NAMES)}.")


def _array_file(text: str) -> tuple[Path, str | None] | None:
    """An existing array file and its label key from "FILE" or "FILE::KEY"; None for anything else."""
    name, _, key = text.partition("::")
    path = Path(name)
    if path.suffix.lower() not in arrays.READERS or not path.is_file():
        return None
    return path, key or None


def _squared(source: Source, image_size: int | None) -> Source:
    """All images square, and of `image_size` if given."""
    _, height, width = source.train.image_shape
    if image_size is None:
        if height != width:
            raise UserError(
                f"{source.train.name}: the images are {width}x{height}, not square; "
                f"give a size to crop and resize them to, e.g. --image-size {min(height, width)}."
            )
        return source
    test = _resized(source.test, image_size) if source.test else None
    return dataclasses.replace(source, train=_resized(source.train, image_size), test=test)


def _resized(data: ImageData, size: int) -> ImageData:
    return dataclasses.replace(data, images=pictures.resize(data.images, size))
