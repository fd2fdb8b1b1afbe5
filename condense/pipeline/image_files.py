"""Writing many labelled images to a file or folder in pieces, with at most one piece in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from condense.data import hdf5, npz
from condense.data.types import Images, Labels
from condense.errors import UserError
from condense.files import atomic_path
from condense.grid import png
from condense.sets.export import folder_names

Pieces = Iterable[tuple[Images, Labels]]
Writer = Callable[[Path, Pieces, int, tuple[int, int, int], tuple[str, ...]], None]
"""(path, pieces, total number of images, (C, H, W), class names)"""


def writer_of(path: Path) -> Writer:
    """The writer for `path`, by its suffix: .h5, .hdf5, .npz, or none for a folder of PNG files.

    Raises:
        UserError: another suffix.
    """
    match path.suffix.lower():
        case ".h5" | ".hdf5":
            return partial(_write_arrays, hdf5.write)
        case ".npz":
            return partial(_write_arrays, npz.write)
        case "":
            return _write_pictures
        case ending:
            raise UserError(f"{path}: images are not written as {ending}; use .h5 or .npz, or no suffix for a folder.")


def _write_arrays(
    write: Callable[..., None],
    path: Path,
    pieces: Pieces,
    total: int,
    image_shape: tuple[int, int, int],
    classes: tuple[str, ...],
) -> None:
    channels, height, width = image_shape
    with atomic_path(path) as temporary:
        write(temporary, pieces, (total, height, width, channels), classes)


def _write_pictures(
    path: Path, pieces: Pieces, total: int, image_shape: tuple[int, int, int], classes: tuple[str, ...]
) -> None:
    """One folder per class, as torchvision's ImageFolder and `--data` read it; see `condense.sets.export.to_folder`."""
    folders, digits = folder_names(classes), len(str(total // len(classes) - 1))
    places = [0] * len(classes)
    with atomic_path(path) as temporary:
        for images, labels in pieces:
            for image, label in zip(images, labels.tolist(), strict=True):
                folder = temporary / folders[label]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{places[label]:0{digits}}.png").write_bytes(png(image))
                places[label] += 1
