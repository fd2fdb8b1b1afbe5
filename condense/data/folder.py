"""A user's own folder of images.

    PATH/<class>/*.png                                   no test images
    PATH/train/<class>/*.png  PATH/test/<class>/*.png    "val" is taken for "test" where there is no "test"
    PATH/labels.csv                                      training images by table, anywhere below PATH

Labels of training images count as possibly wrong (one untrusted candidate each); a table can say more, see
`labels_csv`, and training images it does not list are not used.
Classes are numbered in the order of their sorted names, as torchvision's ImageFolder does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condense.data import labels_csv, pictures
from condense.data.types import ImageData, Labels, Source, Supervision, Truth, is_text
from condense.errors import UserError

_TEST_FOLDERS = ("test", "val")


@dataclass(frozen=True)
class _Listing:
    """Files and what is said of them, before any image is opened."""

    train_files: list[Path]
    supervision: Supervision
    test_files: list[Path]
    test_labels: Labels
    classes: tuple[str, ...]


def load(path: Path, *, image_size: int | None = None) -> Source:
    """Read a folder of images.

    Args:
        path: the folder, laid out in one of the ways above.
        image_size: side to crop and resize to; needed when sizes differ.

    Raises:
        UserError: no or one class, an empty class, unreadable images or sizes that differ, a bad table.
    """
    listing = _list_table(path) if (path / labels_csv.NAME).is_file() else _list_folders(path)
    foreign = next((file for file in (*listing.train_files, *listing.test_files) if not is_text(str(file))), None)
    if foreign is not None:
        raise UserError(f"The file name {str(foreign)!a} is not UTF-8; rename it.")
    form = pictures.common_form([*listing.train_files, *listing.test_files], image_size)
    name, provenance = path.resolve().name, {"source": "folder", "path": str(path)}
    train = ImageData(pictures.read(listing.train_files, form), listing.classes, name, "train", provenance)
    files = tuple(file.relative_to(path).as_posix() for file in listing.train_files)
    if not listing.test_files:
        return Source(train, listing.supervision, None, None, None, files)
    test = ImageData(pictures.read(listing.test_files, form), listing.classes, name, "test", provenance)
    return Source(train, listing.supervision, None, test, Truth(listing.test_labels), files)


def class_folders(path: Path) -> dict[str, list[Path]]:
    """Class name to sorted image files, for a folder of class folders; hidden folders are passed over.

    Raises:
        UserError: there are no class folders, or one holds no images.
    """
    found = {
        folder.name: image_files(folder)
        for folder in sorted(path.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    if not found:
        flat = len(image_files(path))
        raise UserError(
            f"{path} holds {flat or 'no'} images and no class folders; put the images of each class "
            f"in a folder of its own ({path.name}/cat/1.png), or list them in {path / labels_csv.NAME}."
        )
    for name, files in found.items():
        if not files:
            raise UserError(f"class {name!r}: {path / name} holds no images; add some or remove the folder.")
    return found


def image_files(folder: Path) -> list[Path]:
    """All image files below a folder, sorted."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in pictures.SUFFIXES and file.is_file())


def flatten(by_class: dict[str, list[Path]], classes: Sequence[str]) -> tuple[list[Path], Labels]:
    """Files of all classes in class order, and their labels int64 [n]."""
    files = [file for name in classes for file in by_class[name]]
    return files, np.repeat(np.arange(len(classes)), [len(by_class[name]) for name in classes]).astype(np.int64)


def _list_folders(path: Path) -> _Listing:
    test = _test_folders(path)
    if test and not (path / "train").is_dir():
        raise UserError(
            f"{path} has a folder of test images but no folder 'train'; move the other classes into train/."
        )
    train = class_folders(path / "train" if (path / "train").is_dir() else path)
    classes = _agreed_classes(set(train), set(test))
    files, labels = flatten(train, classes)
    given = Supervision.from_labels(labels, len(classes), trusted=False)
    return _Listing(files, given, *(flatten(test, classes) if test else _nothing()), classes)


def _list_table(path: Path) -> _Listing:
    rows = labels_csv.read(path)
    train = [row for row in rows if row.split == "train"]
    test = [row for row in rows if row.split == "test"] or [row for row in rows if row.split == "val"]
    by_class = _test_rows(test) if test else _test_folders(path)
    if not train:
        raise UserError(f"{path / labels_csv.NAME} lists no training images; add rows without a split, or with train.")
    named = {label for row in train for label in row.labels}
    supervision = labels_csv.supervision(train, sorted(by_class or named))
    classes = _agreed_classes(named, set(by_class))
    files = [row.file for row in train]
    return _Listing(files, supervision, *(flatten(by_class, classes) if by_class else _nothing()), classes)


def _test_folders(path: Path) -> dict[str, list[Path]]:
    folder = next((path / name for name in _TEST_FOLDERS if (path / name).is_dir()), None)
    return class_folders(folder) if folder else {}


def _test_rows(rows: Sequence[labels_csv.Row]) -> dict[str, list[Path]]:
    by_class: dict[str, list[Path]] = {}
    for row in rows:
        if len(row.labels) != 1:
            raise UserError(
                f"{labels_csv.NAME} line {row.line}: test image {row.file.name} has {len(row.labels)} "
                "labels; test images need exactly one, the right one."
            )
        by_class.setdefault(row.labels[0], []).append(row.file)
    return by_class


def _agreed_classes(train: set[str], test: set[str]) -> tuple[str, ...]:
    """Sorted names of the classes, which training and test images (where there are any) must share."""
    if test and train - test:
        raise UserError(f"class {min(train - test)!r} has training images but no test images; add some or remove it.")
    if test - train:
        raise UserError(f"class {min(test - train)!r} has test images but no training images; add some or remove it.")
    if len(train) < 2:
        raise UserError(f"found only the class {sorted(train)}; condensing needs at least two classes.")
    return tuple(sorted(train))


def _nothing() -> tuple[list[Path], Labels]:
    return [], np.zeros(0, dtype=np.int64)
