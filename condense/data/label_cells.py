r"""Labels written as text: a class name or number, several separated by |, or nothing.

A bar that belongs to a name is written `\|`, a backslash `\\`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data.class_names import are_numbers, find_class, index_of, is_unknown, number, plain
from condense.data.reading import in_list
from condense.data.types import Mask, counting_hint
from condense.data.votes import NO_ANSWER
from condense.errors import UserError

_YES, _NO = ("yes", "true", "1", "y", "t"), ("no", "false", "0", "", "n", "f")
_PART = re.compile(r"(?:\\\\|\\\||[^|])*")


def write_candidates(names: Iterable[str]) -> str:
    r"""Names as one cell that `split_candidates` reads back: `("cat", "a|b")` as `cat|a\|b`."""
    return "|".join(name.replace("\\", "\\\\").replace("|", "\\|") for name in names)


def split_candidates(cell: str, where: str) -> tuple[str, ...]:
    """`"cat | dog"` as `("cat", "dog")`; an empty cell as `()`. Raises `UserError` for an empty entry."""
    if not cell.strip():
        return ()
    parts, place = [], 0
    while place <= len(cell):
        match = _PART.match(cell, place)
        assert match is not None
        parts.append(match[0])
        place = match.end() + 1
    labels = tuple(re.sub(r"\\([\\|])", r"\1", part).strip() for part in parts)
    if not all(labels):
        raise UserError(f"{where}: the candidate list {cell!r} has an empty entry; write labels separated by single |.")
    return labels


def parse_cells(cells: npt.NDArray[np.str_], classes: Sequence[str], where: str) -> npt.NDArray[Any]:
    """Labels as int64 [n] (-1: empty cell), or where a cell has several, as candidate sets bool [n, c].

    Raises:
        UserError: a cell has an empty entry, or one that is neither the name nor the number of a class; or the column
            would have to be read in two ways.
    """
    by_name = index_of(classes)
    rows = [_labels(cell, by_name, f"{where}, row {row + 1}") for row, cell in enumerate(cells.tolist())]
    index = _reading({label for labels in rows for label in labels}, classes, by_name)
    parsed = []
    for row, labels in enumerate(rows):
        unknown = [label for label in labels if label not in index]
        if unknown:
            every = {label for labels in rows for label in labels}
            raise UserError(f"{where}, row {row + 1} " + _not_a_class(unknown[0], every, classes))
        parsed.append([index[label] for label in labels if index[label] != NO_ANSWER])
    if all(len(numbers) < 2 for numbers in parsed):
        return np.array([numbers[0] if numbers else NO_ANSWER for numbers in parsed], dtype=np.int64)
    candidates = np.zeros((len(parsed), len(classes)), dtype=np.bool_)
    for row, numbers in enumerate(parsed):
        candidates[row, numbers or slice(None)] = True
    return candidates


def _labels(cell: str, by_name: dict[str, int], where: str) -> tuple[str, ...]:
    """The labels of a cell; a bar in it may also belong to the name of a class."""
    if "|" not in cell or plain(cell) not in by_name:
        return split_candidates(cell, where)
    parts = split_candidates(cell, where)
    return parts if all(plain(part) in by_name for part in parts) else (plain(cell),)


def _reading(labels: set[str], classes: Sequence[str], by_name: dict[str, int]) -> dict[str, int]:
    """The class of each label that can be read, `NO_ANSWER` for those without information, in one way for all."""
    named = {label: find_class(by_name, label) for label in labels}
    rest = [label for label, found in named.items() if found is None]
    numbers = are_numbers(label for label in labels if not is_unknown(label, among_numbers=True))
    index = {label: found for label, found in named.items() if found is not None}
    silent = {label: NO_ANSWER for label in rest if is_unknown(label, among_numbers=numbers)}
    counted = {label: number(label) for label in labels if label not in silent}
    counts = {label: value for label, value in counted.items() if value is not None and 0 <= value < len(classes)}
    if numbers and len(index) + len(silent) < len(labels) and len(counts) == len(counted):
        return counts | silent  # all of them count the classes
    if not any(number(name) is not None for name in classes):
        index = counts | index  # names and counts cannot be confused
    return index | silent


def _not_a_class(label: str, labels: set[str], classes: Sequence[str]) -> str:
    numbers = [number(each) for each in labels]
    counted = [value for value in numbers if value is not None]
    hint = counting_hint(counted, len(classes)) if len(counted) == len(numbers) else ""
    return (
        f"names {label!r}, which is not one of the classes ({in_list(tuple(classes), 20)}); use these names in every "
        f"column, or their numbers from 0 on{hint}."
    )


def parse_trust(trusted: npt.NDArray[Any], path: Path) -> Mask:
    """Bool [n] from an array of bool, or of the words yes and no. Raises `UserError` for anything else."""
    if trusted.dtype == np.bool_ and trusted.ndim == 1:
        return trusted
    words = [str(word).strip().lower() for word in trusted.tolist()] if trusted.dtype.kind == "U" else ["?"]
    wrong = [word for word in words if word not in (*_YES, *_NO)]
    if wrong:
        raise UserError(f"{path}: `trusted` must be bool [n], or yes and no; found {wrong[0]!r}.")
    return np.array([word in _YES for word in words], dtype=np.bool_)
