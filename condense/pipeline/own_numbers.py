"""Reads the user's own numbers per training image: `--pred-probs FILE` and `--features FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data import delimited, npz
from condense.data.file_keys import KEY_NAMES, find_key
from condense.data.types import Source
from condense.errors import UserError, in_short

Numbers = npt.NDArray[Any]

_CLASSES = ("class_names", "classes")


def read(
    place: str, source: Source, what: str, usual: Sequence[str], columns: Sequence[str] | None = None
) -> tuple[Numbers, list[str] | None]:
    """The array of FILE or FILE::NAME, rows in the order of the training images, and the names of its columns.

    A column of file names in a .csv assigns rows to images; without it, and in arrays, rows are in the order of the
    images.

    Args:
        place: a .npy, .npz, .csv or .tsv file, optionally followed by ::NAME.
        source: the data.
        what: name of the numbers in messages.
        usual: expected names of the array in an .npz that holds several.
        columns: columns of a table to read; all but the key when None.

    Returns:
        The array as stored, or from a table float64 [n, d]; the names of the columns if the file has any.

    Raises:
        UserError: the file cannot be read, or does not hold such an array.
    """
    name, _, wanted = place.partition("::")
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".csv", ".tsv"):
        raise UserError(f"{path} is not a file of {what}; its name must end in .npy, .npz, .csv or .tsv.")
    if not path.is_file():
        raise UserError(f"There is no file of {what} {path}; correct the path.")
    if suffix == ".npy":
        return npz.read_single(path), None
    return _from_npz(path, wanted, what, usual) if suffix == ".npz" else _from_table(path, source, columns)


def _from_npz(path: Path, wanted: str, what: str, usual: Sequence[str]) -> tuple[Numbers, list[str] | None]:
    names = npz.names(path)
    known = [name for name in usual if name in names]
    left = [name for name in names if name not in _CLASSES]
    name = wanted or (left[0] if len(left) == 1 else known[0] if known else "")
    if name not in names:
        raise UserError(f"{path} holds {', '.join(names) or 'nothing'}; say which are the {what}, as FILE::NAME.")
    found = npz.read(path, [name, *_CLASSES])
    classes = next((found[key] for key in _CLASSES if key in found), None)
    return found[name], None if classes is None else [str(name) for name in classes.ravel().tolist()]


def _from_table(path: Path, source: Source, columns: Sequence[str] | None) -> tuple[Numbers, list[str] | None]:
    table = delimited.read(path)
    missing = [name for name in columns or () if name not in table.columns]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]!r}; every class needs a column with its name "
            f"({len(missing)} of {len(columns or ())} are missing)."
        )
    others = {name: table.column(name) for name in table.columns if name not in (columns or ())}
    if columns is None:
        others = {name: cells for name, cells in others.items() if not _measures(name, cells)}
    order, key = _order(others, table, source, path)
    if columns is None:
        columns = [name for name in table.columns if name != key and name.casefold() not in KEY_NAMES]
    places = [table.columns.index(name) for name in columns]
    found = np.empty((len(order), len(columns)), dtype=np.float64)
    for image, row in enumerate(order):
        try:
            found[image] = [float(table.rows[row][place]) for place in places]
        except ValueError as error:
            raise UserError(f"{path} line {table.lines[row]}: {in_short(error, 120)}; write plain numbers.") from error
    return found, list(columns)


def _measures(name: str, cells: Sequence[str]) -> bool:
    """Whether a column holds measured values, not names or indices of images."""
    return name.casefold() not in KEY_NAMES and any(_fraction(cell) for cell in cells)


def _fraction(cell: str) -> bool:
    try:
        return not float(cell).is_integer()
    except (ValueError, OverflowError):
        return False


def _order(
    others: dict[str, list[str]], table: delimited.TextTable, source: Source, path: Path
) -> tuple[list[int], str | None]:
    """The row of each image, and the column that names the images; without one, rows in file order."""
    key = find_key(others, source.files, len(source.train), str(path), table.lines)
    if key is None:
        return list(range(len(table.rows))), None
    rows = {image: row for row, image in enumerate(key.images) if image is not None}
    absent = next((image for image in range(len(source.train)) if image not in rows), None)
    if absent is not None:
        first = absent if source.files is None else source.files[absent]
        raise UserError(f"{path} has no row for {first!r}; give every image one in the column {key.column!r}.")
    return [rows[image] for image in range(len(source.train))], key.column
