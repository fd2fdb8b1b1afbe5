"""Matching rows of a table to images, for every kind of label table.

Any column of text whose cells are the image files is the key, whatever it is called. Cells may be written with
backslashes, with `./`, with the folders above, with the file's name alone or without its ending, as long as each means
one image. Images without files have numbers, from 0; a column of numbers is a key if its name says so, or if it holds
consecutive numbers in disorder.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data.class_names import are_numbers, number, plain
from condense.data.decode import SUFFIXES
from condense.errors import UserError

KEY_NAMES = frozenset(
    {
        *("file", "files", "filename", "filenames", "file_name", "file name", "filepath", "file_path", "path", "paths"),
        *("image", "images", "image_name", "image_path", "image_file", "image_id", "img", "img_path", "picture"),
        *("photo", "id", "index", "idx", "key", "name", "uri", "url", "", "unnamed: 0"),
    }
)

Forms = tuple[list[str], list[str]]  # of the cells and of the files, in which they are compared


@dataclass(frozen=True)
class Key:
    """The column that names the images.

    Attributes:
        column: its name.
        images: for each row the number of its image, None where it names none.
    """

    column: str
    images: tuple[int | None, ...]


def text_cells(array: npt.NDArray[Any]) -> list[str] | None:
    """The entries of a column [n] of texts or whole numbers as text; None for anything else."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "Uiu":
        return None
    return [str(cell) for cell in array.tolist()]


def find_key(
    columns: Mapping[str, list[str]],
    files: Sequence[str] | None,
    num_images: int,
    what: str,
    lines: Sequence[int] | None = None,
) -> Key | None:
    """The key among some columns, or None where rows can only be in the order of the images.

    Args:
        columns: cells by name, of the columns that may be a key.
        files: file of each image, relative to the data's folder; None without files.
        num_images: number of images.
        what: what to call the table in an error.
        lines: line of each row in the file, for errors; None without lines.

    Raises:
        UserError: a column that can only be meant as the key does not match the images; or two match, and disagree.
    """
    keys = [_as_key(name, cells, files, num_images) for name, cells in columns.items()]
    known = [key for key in keys if key is not None]
    named = [key for key in known if not are_numbers(columns[key.column])]
    shuffled = [key for key in known if key.images != tuple(range(num_images))]
    found = named or shuffled or known  # names are stronger evidence than numbers; row numbers are no evidence
    disagree = [key for key in found if key.images != found[0].images]
    if disagree:
        raise UserError(
            f"{what}: the columns {found[0].column!r} and {disagree[0].column!r} both name the images, and disagree; "
            "remove one."
        )
    if not found:
        return None
    _refuse_repeats(found[0], columns[found[0].column], what, lines)
    return found[0]


def _as_key(name: str, cells: list[str], files: Sequence[str] | None, num_images: int) -> Key | None:
    """The column as the key, or None where it is not one."""
    numeric = are_numbers(cells)
    by_name = name.casefold() in KEY_NAMES or (numeric and _shuffled(cells))
    if not cells or (numeric and not by_name):
        return None
    images = _numbered(cells, num_images) if files is None else matched(cells, files)
    known = [image for image in images if image is not None]
    if numeric and len(known) < len(cells) and _rising(cells):
        return None  # IDs of another kind, in the order of the rows
    certain = _look_like_files(cells) or (numeric and by_name)
    if not certain and (not known or 2 * len(known) < min(len(cells), num_images)):
        return None
    if len(set(known)) < len(known) and not certain and not by_name:
        return None
    return Key(name, tuple(images))


def _refuse_repeats(key: Key, cells: Sequence[str], what: str, lines: Sequence[int] | None) -> None:
    first: dict[int, int] = {}
    for row, image in enumerate(key.images):
        if image is not None and first.setdefault(image, row) != row:
            kind, places = (
                ("rows", [first[image] + 1, row + 1]) if lines is None else ("lines", [lines[first[image]], lines[row]])
            )
            raise UserError(
                f"{what} lists {cells[row]!r} twice, in {kind} {places[0]} and {places[1]}; keep one (several "
                "candidates are written a|b)."
            )


def matched(cells: Sequence[str], files: Sequence[str]) -> list[int | None]:
    """For each cell the number of the file it names, None where it names none or could name several.

    All cells are read in one way: in the strictest one that most cells can be read in.
    """
    best: list[int | None] = [None] * len(cells)
    most = 0
    for cell_forms, file_forms in _ways([_path(cell) for cell in cells], [_path(file) for file in files]):
        places: dict[str, int | None] = {}
        for place, form in enumerate(file_forms):
            places[form] = None if form in places else place
        images = [places.get(form) for form in cell_forms]
        count = sum(image is not None for image in images)
        if count > most:
            best, most = images, count
        if most == len(cells):
            break
    return best


def _ways(cells: list[str], files: list[str]) -> Iterator[Forms]:
    """The ways in which cells can name files, the strictest first."""
    yield cells, files
    for depth in range(1, _shared_depth(cells) + 1):
        yield [_without_top(cell, depth) for cell in cells], files
    for depth in range(1, _shared_depth(files) + 1):
        yield cells, [_without_top(file, depth) for file in files]
    if any(cell.startswith(("../", "/")) for cell in cells):
        return
    cells, files = [cell.casefold() for cell in cells], [file.casefold() for file in files]
    yield cells, files
    for way in _BRIEF:
        yield [way(cell) for cell in cells], [way(file) for file in files]


def _path(cell: str) -> str:
    """A path as written on any system, with `/` between its parts and no `./`."""
    text = plain(cell).replace("\\", "/")
    return posixpath.normpath(text) if text else ""


def _without_ending(path: str) -> str:
    stem, ending = posixpath.splitext(path)
    return stem if ending in SUFFIXES else path


def _stem(path: str) -> str:
    return _without_ending(posixpath.basename(path))


_BRIEF: tuple[Callable[[str], str], ...] = (posixpath.basename, _without_ending, _stem)


def _without_top(path: str, depth: int) -> str:
    return "/".join(path.split("/")[depth:])


def _shared_depth(paths: list[str]) -> int:
    """How many folders above the files all paths share; none where one leads upwards."""
    if not paths or any(path.startswith("../") for path in paths):
        return 0
    heads = [path.split("/")[:-1] for path in (min(paths), max(paths))]
    shared = 0
    for one, other in zip(*heads, strict=False):
        if one != other:
            break
        shared += 1
    return shared


def _numbered(cells: Sequence[str], num_images: int) -> list[int | None]:
    numbers = [number(cell) for cell in cells]
    return [value if value is not None and 0 <= value < num_images else None for value in numbers]


def _shuffled(cells: Sequence[str]) -> bool:
    """Whether the cells are consecutive whole numbers, each once, but in another order: those of images or rows."""
    values = [value for cell in cells if (value := number(cell)) is not None]
    consecutive = len(values) > 2 and max(values) - min(values) + 1 == len(values) == len(set(values))
    return consecutive and not _rising(cells)


def _rising(cells: Sequence[str]) -> bool:
    values = np.array([number(cell) for cell in cells], dtype=np.int64)
    return bool((np.diff(values) > 0).all())


def _look_like_files(cells: Sequence[str]) -> bool:
    """Whether most cells end like picture files."""
    return 2 * sum(posixpath.splitext(plain(cell).casefold())[1] in SUFFIXES for cell in cells) > len(cells)
