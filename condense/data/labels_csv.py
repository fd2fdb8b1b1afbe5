"""`labels.csv` beside a user's images: which label, which candidates, or none, each file has.

    file,label,split
    images/001.png,cat,train        one label, possibly wrong
    images/002.png,cat|dog,train    one of these, surely
    images/003.png,,train           unknown
    images/004.png,dog,test         test labels are single and taken as right

The column `split` may be missing: then all rows are training images. A column `trusted` (yes or no) may say for each
row whether its labels surely hold the true one, e.g. no for sets of annotators. A table that `dmis relabel` wrote
(file,given,suggested,…) is read with its suggested labels, which may still be wrong.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from condense.data.label_cells import parse_trust, split_candidates
from condense.data.types import Supervision
from condense.errors import UserError

NAME = "labels.csv"
LABEL_COLUMNS = ("label", "suggested")  # the first one that the table has
_SPLITS = ("train", "test", "val")


@dataclass(frozen=True)
class Row:
    """One line: the image file, its candidate labels (none: unknown), their trust, the split, and the line number."""

    file: Path
    labels: tuple[str, ...]
    trusted: bool
    split: str
    line: int


def read(folder: Path) -> list[Row]:
    """All rows of `folder`/labels.csv, their files found to exist.

    Raises:
        UserError: the table cannot be read, lacks a column, has no rows, or a row names a missing file, one
            listed before or outside the folder, an empty candidate, or an unknown split.
    """
    path = folder / NAME
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(_rows(csv.DictReader(stream), folder))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read ({error}); it must be a UTF-8 table with the columns file,label."
        ) from error
    if not rows:
        raise UserError(f"{path} lists no files; add one line per image.")
    _refuse_repeats(rows, path)
    return rows


def supervision(rows: Sequence[Row], classes: Sequence[str]) -> Supervision:
    """Rows as knowledge; no label means all classes.

    Raises:
        UserError: a label is no class of `classes`.
    """
    index = {name: number for number, name in enumerate(classes)}
    candidates = np.zeros((len(rows), len(classes)), dtype=np.bool_)
    trusted = np.array([row.trusted for row in rows], dtype=np.bool_)
    for number, row in enumerate(rows):
        unknown = [label for label in row.labels if label not in index]
        if unknown:
            raise UserError(
                f"{NAME} line {row.line}: {str(row.file)!r} has the label {unknown[0]!r}, a class "
                f"that the test images do not have (they have {', '.join(classes)}); correct the label "
                "or add test images of it."
            )
        candidates[number, [index[label] for label in row.labels] or slice(None)] = True
    return Supervision(candidates, trusted)


def _rows(table: csv.DictReader[str], folder: Path) -> Iterator[Row]:
    columns = table.fieldnames or []
    label = next((name for name in LABEL_COLUMNS if name in columns), None)
    if "file" not in columns or label is None:
        raise UserError(
            f"{folder / NAME} has the columns {', '.join(columns) or '(none)'}; "
            "its first line must be file,label or file,label,split."
        )
    for cells in table:
        if None in cells:
            raise UserError(
                f"{folder / NAME} line {table.line_num} has more cells than there are columns; write several labels "
                "as a|b, and names with commas in quotes."
            )
        yield _row(cells, label, folder, table.line_num)


def _row(cells: Mapping[str, str | None], label_column: str, folder: Path, line: int) -> Row:
    where = f"{folder / NAME} line {line}"
    name, label = cells["file"] or "", cells[label_column]
    if label is None:
        raise UserError(f"{where} has no label cell; write {name!r} followed by a comma, even if the label is unknown.")
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise UserError(f"{where} names the file {name!r}; give a path below {folder}.")
    file = folder / relative
    if not file.is_file():
        raise UserError(f"{where} names {name!r}, but {file} does not exist; correct the name or remove the line.")
    labels = split_candidates(label, where)
    split = (cells.get("split") or "train").strip()
    if split not in _SPLITS:
        raise UserError(f"{where} has the split {split!r}; use one of {', '.join(_SPLITS)}.")
    stated = (cells.get("trusted") or "").strip()
    trusted = bool(parse_trust(np.array([stated]), folder / NAME)[0]) if stated else len(labels) != 1
    return Row(file, labels, trusted, split, line)


def _refuse_repeats(rows: Iterable[Row], path: Path) -> None:
    first: dict[Path, int] = {}
    for row in rows:
        if row.file in first:
            raise UserError(
                f"{path} lists {str(row.file.relative_to(path.parent))!r} twice, in lines {first[row.file]} "
                f"and {row.line}; keep one line (several candidates are written a|b)."
            )
        first[row.file] = row.line
