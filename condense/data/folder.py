"""A user's own folder of images.

    PATH/<class>/*.png                                   no test images
    PATH/train/<class>/*.png  PATH/test/<class>/*.png    under these or similar names, see `split_folders`
    PATH/labels.csv                                      training images by table, anywhere below PATH

Labels of training images count as possibly wrong (one untrusted candidate each); a table can give more information, see
`labels_csv`; training images it does not list are not used, which is reported.
Classes are numbered in the order of their sorted names, as torchvision's ImageFolder does.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from condense.data import labels_csv, pictures, split_folders
from condense.data.decode import LEVELS
from condense.data.directory import Found, subfolders, walk
from condense.data.pictures import Form, Handling, Survey
from condense.data.reading import Reading, in_list
from condense.data.reading import files as files_are
from condense.data.types import (
    ImageData,
    Images,
    Labels,
    Mask,
    Source,
    Supervision,
    Truth,
    check_every_class,
    is_text,
)
from condense.errors import UserError

NOT_LISTED, LOOSE, HIDDEN, OTHER = "not listed in {}", "in no class folder", "hidden, or a system's", "no picture"


@dataclass(frozen=True)
class _Listing:
    """Files and the information on them, before any image is opened.

    Attributes:
        unused: folders and files that are not used, with the reason.
        otherwise: the reason for pictures that lie elsewhere.
        notes: whole sentences about the folders.
    """

    train_files: list[Path]
    supervision: Supervision
    test_files: list[Path]
    test_labels: Labels
    classes: tuple[str, ...]
    unused: Mapping[Path, str] = field(default_factory=dict)
    otherwise: str = LOOSE
    notes: tuple[str, ...] = ()


def load(path: Path, handling: Handling) -> Source:
    """Read a folder of images.

    Args:
        path: the folder, laid out in one of the ways above.
        handling: what is done with pictures that are not all alike.

    Raises:
        UserError: no or one class, an empty class, unreadable images, a bad table, a link that leads in a circle.
    """
    table, everything = labels_csv.find(path), walk(path)
    listing = _list_folders(path) if table is None else _list_table(path, table, everything)
    files = [*listing.train_files, *listing.test_files]
    foreign = next((file for file in files if not is_text(str(file))), None)
    if foreign is not None:
        raise UserError(f"The file name {str(foreign)!a} is not UTF-8; rename it.")
    found = pictures.survey(files)
    if not handling.skip_unreadable or not found.looks:
        _refuse_unreadable(path, files, found, handling)
    form, notes = pictures.common_form(found, handling)
    images, readable, unreadable = pictures.read(files, form)
    if not handling.skip_unreadable:
        pictures.refuse_unreadable(unreadable, len(files), path)
    skipped = _skipped(path, listing, everything, unreadable)
    told = tuple(
        f"{files_are(len(names))} left out ({why}): {in_list(names)}."
        for why, names in skipped.items()
        if why not in (HIDDEN, OTHER)
    )
    read = found.without(unreadable)
    blank = _blank(path, read, images, files, form)
    reading = Reading(read.sizes, read.changed(form), skipped, (*listing.notes, *notes, *told, *blank))
    return _source(path, listing, images, readable, reading)


def _blank(path: Path, found: Survey, images: Images, files: Sequence[Path], form: Form) -> tuple[str, ...]:
    """A note where transparent pictures show one colour only, as white shapes do on white."""
    lost = [
        file.relative_to(path).as_posix()
        for file, image in zip(files, images, strict=True)
        if file in found.looks and found.looks[file].transparent and not np.ptp(image, axis=(0, 1)).any()
    ]
    if not lost:
        return ()
    shown = "1 transparent picture shows" if len(lost) == 1 else f"{len(lost)} transparent pictures show"
    background = next(name for name, level in LEVELS.items() if level == form.background)
    others = " or ".join(name for name in LEVELS if name != background)
    return (f"{shown} one colour only, laid on {background}: {in_list(lost)}; try --background {others}.",)


def _refuse_unreadable(path: Path, files: Sequence[Path], found: Survey, handling: Handling) -> None:
    """If any header is unreadable, decode all files too and raise `UserError` with all that cannot be read."""
    if not found.looks:
        pictures.refuse_unreadable(found.unreadable, len(files), path)
    if found.unreadable:
        form, _ = pictures.common_form(found, handling)
        bodies = pictures.read(list(found.looks), form)[2]
        pictures.refuse_unreadable({**found.unreadable, **bodies}, len(files), path)


def _source(path: Path, listing: _Listing, images: Images, readable: Mask, reading: Reading) -> Source:
    """The images that could be read, with their labels."""
    name, provenance = path.resolve().name, {"source": "folder", "path": str(path)}
    num_train = len(listing.train_files)
    train = ImageData(images[:num_train], listing.classes, name, "train", provenance)
    files = tuple(file.relative_to(path).as_posix() for file in listing.train_files)
    source = Source(train, listing.supervision, None, None, None, files, reading)
    if not readable[:num_train].all():
        source = source.take(np.flatnonzero(readable[:num_train]))
        check_every_class(source.supervision, listing.classes, name)
    if not listing.test_files:
        return source
    test, truth = ImageData(images[num_train:], listing.classes, name, "test", provenance), Truth(listing.test_labels)
    if not readable[num_train:].all():
        kept = np.flatnonzero(readable[num_train:])
        test, truth = test.take(kept), truth.take(kept)
    return replace(source, test=test, test_truth=truth)


def _skipped(
    path: Path, listing: _Listing, everything: Found, unreadable: Mapping[Path, str]
) -> dict[str, tuple[str, ...]]:
    """Names of the files that are not used, by the reason."""
    used = {*listing.train_files, *listing.test_files}
    reasons: dict[str, list[str]] = {}

    def skip(why: str, file: Path, more: str = "") -> None:
        reasons.setdefault(why, []).append(file.relative_to(path).as_posix() + more)

    for file, why in unreadable.items():
        skip("cannot be read", file, f" ({why})")
    for file in everything.pictures:
        if file not in used:
            known = (listing.unused[place] for place in (file, *file.parents) if place in listing.unused)
            skip(next(known, listing.otherwise), file)
    for file in everything.hidden:
        skip(HIDDEN, file)
    for file in everything.others:
        if file not in used and file.name.casefold() not in labels_csv.NAMES:
            skip(OTHER, file)
    return {why: tuple(names) for why, names in reasons.items()}


def _refuse_inner_splits(folder: Path) -> None:
    """Refuse splits within a class: training and test images would be mixed."""
    splits = [inner.name for inner in subfolders(folder) if split_folders.split_of(inner.name) is not None]
    if len({split_folders.split_of(name) for name in splits}) > 1:
        if len(subfolders(folder.parent)) == 1:
            raise UserError(f"{folder.parent} holds only {folder.name}, which holds the splits; give {folder}.")
        raise UserError(
            f"{folder} has the folders {in_list(splits)} within a class, so training and test images would be mixed; "
            f"put the splits above the classes: {splits[0]}/{folder.name}/…"
        )


def class_folders(path: Path) -> dict[str, list[Path]]:
    """Class name to sorted image files, for a folder of class folders; hidden folders are passed over.

    Names are brought to Unicode's form C; folders whose names are then the same are one class.

    Raises:
        UserError: there are no class folders, or one holds no images.
    """
    found: dict[str, list[Path]] = {}
    for folder in subfolders(path):
        _refuse_inner_splits(folder)
        files = walk(folder).pictures
        if not files:
            raise UserError(
                f"class {folder.name!r}: {folder} holds no images; add some or remove the folder{_endings(folder)}."
            )
        found.setdefault(unicodedata.normalize("NFC", folder.name), []).extend(files)
    if not found:
        here = walk(path)
        tables = [file.name for file in here.others if file.suffix.lower() in (".csv", ".tsv")]
        hint = f" (found {in_list(tables)}: call it labels.csv)" if tables else ""
        if any("idx3-ubyte" in file.name for file in here.others):
            hint = " (its idx files are those of a named data set: --data NAME --root FOLDER, or store them as .npz)"
        raise UserError(
            f"{path} holds {len(here.pictures) or 'no'} images and no class folders; put the images of each class "
            f"in a folder of its own ({path.name}/cat/1.png), or list them in {path / labels_csv.NAMES[0]}{hint}."
        )
    return found


def _endings(folder: Path) -> str:
    counts = Counter(file.suffix.lower() or "none" for file in walk(folder).others)
    listed = ", ".join(f"{ending} ({count})" for ending, count in counts.most_common(3))
    return f" (endings found: {listed})" if listed else ""


def flatten(by_class: Mapping[str, list[Path]], classes: Sequence[str]) -> tuple[list[Path], Labels]:
    """Files of all classes in class order, and their labels int64 [n]."""
    files = [file for name in classes for file in by_class[name]]
    return files, np.repeat(np.arange(len(classes)), [len(by_class[name]) for name in classes]).astype(np.int64)


def _list_folders(path: Path) -> _Listing:
    splits = split_folders.find(path)
    test = {} if splits.test is None else class_folders(splits.test)
    train = class_folders(splits.train)
    classes = _agreed_classes(set(train), set(test), splits.train)
    files, labels = flatten(train, classes)
    given = Supervision.from_labels(labels, len(classes), trusted=False)
    unused = {folder: f"in {folder.name}/, beside {splits.test.name}/" for folder in splits.unused if splits.test}
    notes = _alike_inside(splits.train) if splits.test is None else ()
    return _Listing(files, given, *(flatten(test, classes) if test else _nothing()), classes, unused, notes=notes)


def _alike_inside(path: Path) -> tuple[str, ...]:
    """A note where all class folders hold the same folders of pictures, and so may be splits of an unusual name."""
    folders = subfolders(path)
    inside = {tuple(inner.name for inner in subfolders(folder) if walk(inner).pictures) for folder in folders}
    if len(inside) != 1 or len(names := inside.pop()) < 2:
        return ()
    told = in_list([folder.name for folder in folders])
    return (
        f"{told} all hold the folders {in_list(names)}, and are taken for the classes; if they are splits, call them "
        "train and test.",
    )


def _list_table(path: Path, table: Path, everything: Found) -> _Listing:
    rows = labels_csv.read(table, everything.pictures, everything.others)
    train = [row for row in rows if row.split == "train"]
    if not train:
        raise UserError(f"{table} lists no training images; add rows without a split, or with train.")
    of_split = {split: [row for row in rows if row.split == split] for split in ("test", "val")}
    test = of_split["test"] or of_split["val"]
    by_class = _test_rows(test) if test else _test_folders(path)
    train = labels_csv.respelled(train, tuple(by_class))
    named = {label for row in train for label in row.labels}
    if not named:
        raise UserError(
            f"{table} gives no training image a label, so nothing tells what the classes look like; label some of each."
        )
    supervision = labels_csv.supervision(train, sorted(by_class or named))
    classes = _agreed_classes(named, set(by_class), path)
    files = [row.file for row in train]
    unused = {row.file: f"of the split val in {table.name}, beside test" for row in of_split["val"] if of_split["test"]}
    tested = flatten(by_class, classes) if by_class else _nothing()
    return _Listing(files, supervision, *tested, classes, unused, NOT_LISTED.format(table.name))


def _test_folders(path: Path) -> dict[str, list[Path]]:
    by_split = split_folders.by_split(path)
    folder = by_split.get("test") or by_split.get("val")
    return class_folders(folder) if folder else {}


def _test_rows(rows: Sequence[labels_csv.LabelRow]) -> dict[str, list[Path]]:
    by_class: dict[str, list[Path]] = {}
    for row in rows:
        if len(row.labels) != 1:
            raise UserError(
                f"{labels_csv.NAMES[0]} line {row.line}: test image {row.file.name} has {len(row.labels)} "
                "labels; test images need exactly one, the right one."
            )
        by_class.setdefault(row.labels[0], []).append(row.file)
    return by_class


def _agreed_classes(train: set[str], test: set[str], path: Path) -> tuple[str, ...]:
    """Sorted names of the classes, which training and test images (where there are any) must share."""
    if test and train - test:
        raise UserError(f"class {min(train - test)!r} has training images but no test images; add some or remove it.")
    if test - train:
        raise UserError(f"class {min(test - train)!r} has test images but no training images; add some or remove it.")
    if len(train) < 2:
        inner = path / min(train, default="")
        hint = f" (should it be {inner}?)" if inner.is_dir() and len(subfolders(inner)) > 1 else ""
        raise UserError(f"found only the class {sorted(train)}; condensing needs at least two classes{hint}.")
    return tuple(sorted(train))


def _nothing() -> tuple[list[Path], Labels]:
    return [], np.zeros(0, dtype=np.int64)
