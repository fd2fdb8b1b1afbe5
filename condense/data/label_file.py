"""Given labels from a file of their own: `--labels FILE` or `--labels FILE::NAME[,NAME…]`.

| what NAME holds                      | taken for                                                                 |
|--------------------------------------|---------------------------------------------------------------------------|
| whole numbers [n]                    | one label per image, possibly wrong; -1: unknown                          |
| whole numbers [n, a]; several NAMEs  | answers of a annotators (-1: none): candidates that may miss the truth    |
| bool [n, c]                          | candidate sets                                                            |
| 0 and 1 [n, c], a single 1 in each   | one-hot: one label per image, possibly wrong                              |
| texts [n] (.csv, .tsv)               | class names or numbers; `cat|dog`: candidates; empty: unknown             |
| sets (.pkl or .json of PLCIFAR-10)   | candidates that may miss the truth                                        |

A single label may always be wrong. Sets of candidates surely hold the truth, unless the table above says otherwise or
annotators gave them; an array or column `trusted` (bool [n]; yes or no) decides for each image. A column of the image
files, or of their numbers, matches rows with images, whatever it is called, see `file_keys`; without one, rows are
in the order of the images. How a label names its class: see `class_names`.
CIFAR-10N and 100N (Wei et al. 2022, https://arxiv.org/abs/2110.12088) may be named aggre, rand1, rand2, rand3, worst
and noisy100. If the file has clean labels too, they must be those of the data; otherwise its order is another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data import label_tables
from condense.data.class_names import read_numbers
from condense.data.file_keys import Key, text_cells
from condense.data.label_arrays import one_hot, refuse_many_hot, whole_numbers
from condense.data.label_cells import parse_cells, parse_trust
from condense.data.label_columns import LABELS, TRUSTED, called, key_of, label_column, refuse_unknown_texts
from condense.data.label_tables import Table
from condense.data.types import Labels, Mask, Source, Supervision, check_labels
from condense.data.votes import NO_ANSWER, from_votes
from condense.errors import UserError

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "aggre": ("aggre_label", "aggregate"),
    "worst": ("worse_label",),
    "rand1": ("random_label1", "random1"),
    "rand2": ("random_label2", "random2"),
    "rand3": ("random_label3", "random3"),
    "noisy100": ("noisy_label",),
    "given": ("given_label",),
    "given_label": ("given",),
}
_CLEAN = ("clean_label", "clean_labels", "train_labels")


def read(place: str, source: Source) -> Supervision:
    """The labels that a file gives the training images of `source`.

    Args:
        place: FILE or FILE::NAME[,NAME…], see the top of this file.
        source: the data; files, classes and truth are held against the file.

    Raises:
        UserError: the file cannot be read, lacks the requested array or has labels for another number of images, or
            an entry is neither a class nor a set, or contradicts the data.
    """
    file, _, wanted = place.partition("::")
    if not file:
        raise UserError("The file of labels has no name; give --labels FILE, or FILE::NAME.")
    path = Path(file)
    table = label_tables.read(path)
    asked = [_present(name.strip(), table, path) for name in wanted.split(",")] if wanted else []
    texts = {name: cells for name, array in table.items() if (cells := text_cells(array)) is not None}
    key = key_of(texts, source.files, len(source.train), asked, str(path))
    names = asked or [_usual(table, key, path)]
    if key is None:
        refuse_unknown_texts(texts, names, source.train.classes, str(path))
    else:
        table = _in_order(table, key, source, path)
    trust = called((TRUSTED,), table)
    _check_lengths(table, [*names, *([trust] if trust is not None else [])], source, path)
    _check_truth(table, names, source, path)
    columns = [_as_numbers(table[name], name, source.train.classes, path) for name in names]
    if len(columns) > 1:
        return from_votes(_votes(columns, names, path), source.train.num_classes)
    trusted = parse_trust(table[trust], path) if trust is not None else None
    return _supervision(columns[0], names[0], trusted, source.train.num_classes, path)


def _present(name: str, table: Table, path: Path) -> str:
    if name in table:
        return name
    found = called([candidate.casefold() for candidate in (name, *SYNONYMS.get(name, ()))], table)
    if found is None:
        raise UserError(f"{path} has no labels {name!r}; it holds {', '.join(sorted(table)) or 'nothing'}.")
    return found


def _usual(table: Table, key: Key | None, path: Path) -> str:
    """The labels if none are named: those under a usual name, or the only ones."""
    left = [name for name in table if (key is None or name != key.column) and name.casefold() != TRUSTED]
    found = label_column(LABELS, (), left, str(path)) or (left[0] if len(left) == 1 else None)
    if found is None:
        names = ", ".join(sorted(table)) or "nothing"
        raise UserError(f"{path} holds {names}; say which are the labels, as {path.name}::NAME.")
    return found


def _check_lengths(table: Table, names: Sequence[str], source: Source, path: Path) -> None:
    n = len(source.train)
    for name in names:
        length = len(table[name]) if table[name].ndim else 0
        if length != n:
            raise UserError(
                f"{path}: {name!r} has {length} entries, {'more' if length > n else 'fewer'} than the {n} training "
                f"images of {source.train.name}; each image needs one, in the same order."
            )


def _in_order(table: Table, key: Key, source: Source, path: Path) -> Table:
    """The table with one row for each image, in their order; rows of other images are left out."""
    rows = {image: row for row, image in enumerate(key.images) if image is not None}
    n, length = len(source.train), len(key.images)
    missing = [image for image in range(n) if image not in rows]
    if missing:
        first = repr(source.files[missing[0]]) if source.files is not None else f"image {missing[0]}"
        foreign = next((row for row, image in enumerate(key.images) if image is None), None)
        named = "" if foreign is None else f"; {str(table[key.column].ravel()[foreign])!r} is none of them"
        raise UserError(
            f"{path} has no row for {first} ({len(missing)} of {n} images of {source.train.name} have none){named}; "
            f"give every image one in the column {key.column!r}."
        )
    order = np.array([rows[image] for image in range(n)])
    return {name: array[order] if array.ndim and len(array) == length else array for name, array in table.items()}


def _check_truth(table: Table, names: Sequence[str], source: Source, path: Path) -> None:
    clean = called(_CLEAN, [name for name in table if name not in names])
    if clean is None or source.truth is None:
        return
    stated = _as_numbers(table[clean], clean, source.train.classes, path)
    if stated.shape != source.truth.labels.shape:
        return
    different = int((stated != source.truth.labels).sum())
    if different:
        raise UserError(
            f"{path}: its {clean!r} differ from the true labels of {source.train.name} for {different} of "
            f"{len(source.truth)} images, so it belongs to other images or to another order of them."
        )


def _as_numbers(array: npt.NDArray[Any], name: str, classes: Sequence[str], path: Path) -> npt.NDArray[Any]:
    """Texts as numbers or candidate sets, one label per image as int64 [n], all else as it is."""
    what = f"{path}: {name!r}"
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.dtype.kind == "U":
        return parse_cells(array, classes, f"{path}: column {name!r}")
    if array.dtype.kind in "iu":
        array = whole_numbers(array, what)
    single = one_hot(array) if array.shape[1:] == (len(classes),) else None
    if single is not None:
        return single
    if array.dtype == object:
        return _renumbered(array, classes, what)
    if array.dtype == np.int64 and array.ndim in (1, 2):
        return read_numbers(array.ravel(), classes, what).reshape(array.shape)
    return array


def _renumbered(sets: npt.NDArray[Any], classes: Sequence[str], what: str) -> npt.NDArray[Any]:
    """Sets of numbers as sets of classes, read in one way, see `read_numbers`."""
    numbers = np.array(sorted({label for labels in sets for label in labels}), dtype=np.int64)
    read = dict(zip(numbers.tolist(), read_numbers(numbers, classes, what).tolist(), strict=True))
    renumbered = np.empty(len(sets), dtype=object)
    for image, labels in enumerate(sets):
        renumbered[image] = {read[label] for label in labels}
    return renumbered


def _votes(columns: Sequence[npt.NDArray[Any]], names: Sequence[str], path: Path) -> Labels:
    for column, name in zip(columns, names, strict=True):
        if column.ndim != 1 or not np.issubdtype(column.dtype, np.integer):
            raise UserError(f"{path}: {name!r} must hold one class per image to be an annotator's answers.")
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


def _supervision(array: npt.NDArray[Any], name: str, trusted: Mask | None, num_classes: int, path: Path) -> Supervision:
    what = f"{path}: {name!r}"
    if array.dtype == object:
        candidates, surely = _from_sets(array, num_classes, what), False
    elif array.dtype == np.bool_ and array.shape[1:] == (num_classes,):
        candidates, surely = array, True
    elif np.issubdtype(array.dtype, np.integer) and array.ndim == 2:
        refuse_many_hot(array, num_classes, what)
        given = from_votes(array, num_classes)
        candidates, surely = given.candidates, False
    elif np.issubdtype(array.dtype, np.integer) and array.ndim == 1:
        known = array != NO_ANSWER
        check_labels(array[known], num_classes, what)
        candidates = np.ones((len(array), num_classes), dtype=np.bool_)
        candidates[known] = np.eye(num_classes, dtype=np.bool_)[array[known]]
        surely = True
    else:
        raise UserError(
            f"{what} is {array.dtype} {list(array.shape)}; labels are whole numbers [n], answers of annotators whole "
            f"numbers [n, annotators], and candidate sets bool [n, {num_classes}]."
        )
    several = candidates.sum(axis=1) > 1
    return Supervision(candidates, (several & surely | candidates.all(axis=1)) if trusted is None else trusted)


def _from_sets(sets: npt.NDArray[Any], num_classes: int, what: str) -> Mask:
    candidates = np.zeros((len(sets), num_classes), dtype=np.bool_)
    for image, labels in enumerate(sets):
        wrong = [label for label in labels if not 0 <= label < num_classes]
        if wrong:
            raise UserError(f"{what}: image {image} has the candidate {wrong[0]}, outside 0..{num_classes - 1}.")
        candidates[image, list(labels)] = True
    return candidates
