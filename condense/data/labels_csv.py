"""`labels.csv` (or `labels.tsv`) beside a user's images: the label of each file, its candidates, or none.

    file,label,split
    images/001.png,cat,train        one label, possibly wrong
    images/002.png,cat|dog,train    one of these, surely
    images/003.png,,train           unknown
    images/004.png,dog,test         test labels are single and taken as right

The files are found in whatever column holds them (see `file_keys`), the labels in `label` or a column of a like name,
or in the only other one. The column `split` may be missing: then all rows are training images. A column `trusted` (yes
or no) may state for each row whether its labels surely hold the true one, e.g. no for annotators' sets. A table that
`dmis relabel` wrote (file,given_label,…,suggested,…) is read with its suggested labels, which may still be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from condense.data import delimited
from condense.data.class_names import are_numbers, find_class, index_of, is_unknown, one_spelling, plain
from condense.data.delimited import TextTable
from condense.data.file_keys import Key
from condense.data.label_cells import parse_trust, split_candidates
from condense.data.label_columns import SPLIT, TRUSTED, called, key_of, label_column
from condense.data.reading import in_list
from condense.data.split_folders import split_of
from condense.data.types import Supervision
from condense.errors import UserError

NAMES = ("labels.csv", "labels.tsv")


@dataclass(frozen=True)
class LabelRow:
    """One line: the image file, its candidate labels (none: unknown), their trust, the split, and the line number."""

    file: Path
    labels: tuple[str, ...]
    trusted: bool
    split: str
    line: int


def find(folder: Path) -> Path | None:
    """The table in a folder, whatever the case of its name; None without one."""
    files = [file for file in sorted(folder.iterdir()) if file.name.casefold() in NAMES and file.is_file()]
    if len(files) > 1:
        raise UserError(f"{folder} has {files[0].name} and {files[1].name}; keep one.")
    return files[0] if files else None


def read(path: Path, pictures: Sequence[Path], others: Sequence[Path] = ()) -> list[LabelRow]:
    """All rows of the table at `path`, each matched with one of the files below its folder.

    Args:
        path: the table.
        pictures: files whose ending is that of a picture.
        others: files that may be pictures nevertheless, if the table says so.

    Raises:
        UserError: the table cannot be read, lacks a column, has no rows, or a row names a missing file, one
            listed before or outside the folder, an empty candidate, or an unknown split.
    """
    table = delimited.read(path).without_blank_rows()
    label = label_column(("label", "labels"), ("suggested", "predicted_label"), table.columns, str(path))
    files, key = _key(table, path, pictures, others, label)
    file_column = key.column if key is not None else called(("file", "filename", "path", "image"), table.columns)
    left = [name for name in table.columns if name != file_column and name.casefold() not in (SPLIT, TRUSTED)]
    if label is None and len(left) == 1:
        label = left[0]
    if file_column is None or label is None:
        raise UserError(
            f"{path} has the columns {', '.join(table.columns) or '(none)'}; one must hold the image files, and one "
            "the labels: file,label or file,label,split."
        )
    if not table.rows:
        raise UserError(f"{path} lists no files; add one line per image.")
    images = key.images if key is not None else (None,) * len(table.rows)
    _refuse_missing(table, file_column, images, path)
    return _rows(table, [files[image] for image in images if image is not None], label, path)


def _key(
    table: TextTable, path: Path, pictures: Sequence[Path], others: Sequence[Path], label: str | None
) -> tuple[list[Path], Key | None]:
    """The files that rows may name, and the column that names them; pictures first, then all files."""
    columns = {name: table.column(name) for name in table.columns}
    known = [label] if label is not None else []
    key = None
    for files in ([*pictures], [*pictures, *others]):
        names = [file.relative_to(path.parent).as_posix() for file in files]
        key = key_of(columns, names, len(files), known, str(path), table.lines)
        if key is not None and None not in key.images:
            break
    return files, key


def _refuse_missing(table: TextTable, column: str, images: Sequence[int | None], path: Path) -> None:
    missing = [row for row, image in enumerate(images) if image is None]
    if missing:
        more = [str(table.lines[row]) for row in missing[1:]]
        told = _no_such_file(table.column(column)[missing[0]], path, table.lines[missing[0]])
        raise UserError(told if not more else f"{told} The same holds for {len(more)} more lines: {in_list(more, 20)}.")


def supervision(rows: Sequence[LabelRow], classes: Sequence[str]) -> Supervision:
    """The rows as `Supervision`; without a label all classes are candidates.

    Raises:
        UserError: a label is not one of `classes`.
    """
    index = index_of(classes)
    candidates = np.zeros((len(rows), len(classes)), dtype=np.bool_)
    trusted = np.array([row.trusted for row in rows], dtype=np.bool_)
    for number, row in enumerate(rows):
        places = {label: find_class(index, label) for label in row.labels}
        unknown = [label for label, place in places.items() if place is None]
        if unknown:
            raise UserError(
                f"{NAMES[0]} line {row.line}: {str(row.file)!r} has the label {unknown[0]!r}, a class "
                f"that the test images do not have (they have {in_list(tuple(classes), 20)}); correct the label "
                "or add test images of it."
            )
        named = [place for place in places.values() if place is not None]
        candidates[number, named or slice(None)] = True
    return Supervision(candidates, trusted)


def respelled(rows: Sequence[LabelRow], classes: Sequence[str]) -> list[LabelRow]:
    """The rows with labels spelled as the `classes` are, where they are one name (`1` and `01`, see `index_of`)."""
    index = index_of(classes)
    places = {label: find_class(index, label) for row in rows for label in row.labels}
    spelling = {label: label if place is None else classes[place] for label, place in places.items()}
    return [replace(row, labels=tuple(dict.fromkeys(spelling[label] for label in row.labels))) for row in rows]


def _rows(table: TextTable, files: Sequence[Path], label_column: str, path: Path) -> list[LabelRow]:
    columns = {name.casefold(): table.column(name) for name in table.columns}
    blank = [""] * len(files)
    splits, trusts = columns.get(SPLIT, blank), columns.get(TRUSTED, blank)
    where = [f"{path} line {line}" for line in table.lines]
    written = [split_candidates(cell, place) for cell, place in zip(table.column(label_column), where, strict=True)]
    every = {label for labels in written for label in labels}
    numeric = are_numbers(label for label in every if not is_unknown(label, among_numbers=True))
    spelling = one_spelling(label for label in every if not is_unknown(label, among_numbers=numeric))
    rows = []
    for file, labels, split, trust, line, place in zip(files, written, splits, trusts, table.lines, where, strict=True):
        known = tuple(dict.fromkeys(spelling[plain(label)] for label in labels if plain(label) in spelling))
        stated = parse_trust(np.array([trust.strip()]), path)[0] if trust.strip() else len(known) != 1
        rows.append(LabelRow(file, known, bool(stated), _split(split, place), line))
    return rows


def _split(cell: str, where: str) -> str:
    split = split_of(cell) if cell.strip() else "train"
    if split is None:
        raise UserError(f"{where} has the split {cell.strip()!r}; use one of train, test, val.")
    return split


def _no_such_file(cell: str, path: Path, line: int) -> str:
    folder, where = path.parent, f"{path} line {line}"
    relative = PurePosixPath(cell.replace("\\", "/"))
    if not cell.strip() or relative.is_absolute() or PureWindowsPath(cell).is_absolute() or ".." in relative.parts:
        return f"{where} names the file {cell!r}; give a path below {folder}."
    return (
        f"{where} names {cell!r}, but {folder / relative} does not exist, or several files could be meant; correct the "
        "name or remove the line."
    )
