"""Given labels from a file of their own: `--labels FILE` or `--labels FILE::NAME[,NAME…]`.

| what NAME holds                      | taken for                                                                 |
|--------------------------------------|---------------------------------------------------------------------------|
| whole numbers [n]                    | one label an image, possibly wrong; -1: unknown                           |
| whole numbers [n, a]; several NAMEs  | answers of a annotators (-1: none): candidates that may miss the truth    |
| bool [n, c]                          | candidate sets                                                            |
| texts [n] (.csv)                     | class names or numbers; `cat|dog`: candidates; empty: unknown             |
| sets (.pkl or .json of PLCIFAR-10)   | candidates that may miss the truth                                        |

A single label may always be wrong. Sets of candidates surely hold the truth, unless the table says so or they are of
annotators; an array or column `trusted` (bool [n]; yes or no) decides for each image. Rows are in the order of the
images; with a column `file` (.csv) they are matched by it: names below the folder, or the images' numbers from 0.
CIFAR-10N and 100N (Wei et al. 2022, https://arxiv.org/abs/2110.12088) may be named aggre, rand1, rand2, rand3, worst
and noisy100. Where the file has clean labels too, they must be those of the data: else it is of another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data import label_tables
from condense.data.label_cells import parse_cells, parse_trust
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
}
_USUAL = ("candidates", "label", "labels", "suggested", "noisy_label", "train_labels", "aggregate")
_CLEAN = ("clean_label", "clean_labels", "train_labels")
_FILE, _TRUSTED = "file", "trusted"


def read(place: str, source: Source) -> Supervision:
    """The labels that a file gives the training images of `source`.

    Args:
        place: FILE or FILE::NAME[,NAME…], see the top of this file.
        source: the data; files, classes and truth are held against the file.

    Raises:
        UserError: the file cannot be read, has not the array asked for or labels for another number of images, or
            an entry is no class, no set, or contradicts the data.
    """
    file, _, wanted = place.partition("::")
    if not file:
        raise UserError("The file of labels has no name; give --labels FILE, or FILE::NAME.")
    path = Path(file)
    table = label_tables.read(path)
    names = [_present(name.strip(), table, path) for name in wanted.split(",")] if wanted else [_usual(table, path)]
    _check_lengths(table, [*names, *_extras(table, names)], source, path)
    table = _in_order(table, source, path)
    _check_truth(table, names, source, path)
    columns = [_as_numbers(table[name], name, source.train.classes, path) for name in names]
    if len(columns) > 1:
        return from_votes(_votes(columns, names, path), source.train.num_classes)
    trusted = parse_trust(table[_TRUSTED], path) if _TRUSTED in table else None
    return _supervision(columns[0], names[0], trusted, source.train.num_classes, path)


def _present(name: str, table: Table, path: Path) -> str:
    for candidate in (name, *SYNONYMS.get(name, ())):
        if candidate in table:
            return candidate
    raise UserError(f"{path} has no labels {name!r}; it holds {', '.join(sorted(table)) or 'nothing'}.")


def _usual(table: Table, path: Path) -> str:
    if len(table) == 1:
        return next(iter(table))
    found = next((name for name in _USUAL if name in table), None)
    if found is None:
        names = ", ".join(sorted(table)) or "nothing"
        raise UserError(f"{path} holds {names}; say which are the labels, as {path.name}::NAME.")
    return found


def _extras(table: Table, names: Sequence[str]) -> list[str]:
    return [name for name in (_FILE, _TRUSTED) if name in table and name not in names]


def _check_lengths(table: Table, names: Sequence[str], source: Source, path: Path) -> None:
    n = len(source.train)
    for name in names:
        length = len(table[name]) if table[name].ndim else 0
        if length != n:
            raise UserError(
                f"{path}: {name!r} has {length} entries, {'more' if length > n else 'fewer'} than the {n} training "
                f"images of {source.train.name}; each image needs one, in the same order."
            )


def _in_order(table: Table, source: Source, path: Path) -> Table:
    """The table with its rows in the order of the images, which a column `file` names."""
    if _FILE not in table or table[_FILE].dtype.kind != "U":
        return table
    files = source.files or tuple(map(str, range(len(source.train))))
    places = {name: place for place, name in enumerate(table[_FILE].tolist())}
    missing = [name for name in files if name not in places]
    if missing:
        raise UserError(
            f"{path} has no row for {missing[0]!r} ({len(missing)} of {len(files)} images of {source.train.name} "
            "have none); give every image one."
        )
    order = np.array([places[name] for name in files])
    return {name: array[order] if len(array) == len(order) else array for name, array in table.items()}


def _check_truth(table: Table, names: Sequence[str], source: Source, path: Path) -> None:
    clean = next((name for name in _CLEAN if name in table and name not in names), None)
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
    """Texts as numbers or candidate sets, all else as it is."""
    if array.dtype.kind == "U":
        return parse_cells(array, classes, f"{path}: column {name!r}")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _votes(columns: Sequence[npt.NDArray[Any]], names: Sequence[str], path: Path) -> Labels:
    for column, name in zip(columns, names, strict=True):
        if column.ndim != 1 or not np.issubdtype(column.dtype, np.integer):
            raise UserError(f"{path}: {name!r} must hold one class an image to be an annotator's answers.")
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


def _supervision(array: npt.NDArray[Any], name: str, trusted: Mask | None, num_classes: int, path: Path) -> Supervision:
    what = f"{path}: {name!r}"
    if array.dtype == object:
        candidates, surely = _from_sets(array, num_classes, what), False
    elif array.dtype == np.bool_ and array.shape[1:] == (num_classes,):
        candidates, surely = array, True
    elif np.issubdtype(array.dtype, np.integer) and array.ndim == 2:
        given = from_votes(array.astype(np.int64), num_classes)
        candidates, surely = given.candidates, False
    elif np.issubdtype(array.dtype, np.integer) and array.ndim == 1:
        known = array.astype(np.int64) != NO_ANSWER
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
