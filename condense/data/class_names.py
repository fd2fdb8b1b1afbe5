"""Mapping written labels to classes: by name or by number, in one way for all labels of a column.

Names are compared in Unicode's form C and without outer spaces. Where all names are numbers, `01`, `1` and `1.0` are
the same name. Labels that are whole numbers may also count the classes from 0. If a column can be read both ways
with different results, text is read as names, and an array of numbers is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from condense.data.types import Labels
from condense.errors import UserError

_NUMBER = re.compile(r"[+-]?\d{1,18}(\.0*)?")
_UNKNOWN = ("", "nan")
_UNKNOWN_AMONG_NUMBERS = ("-1", "-1.0", "na", "n/a", "<na>", "none", "null")


def plain(name: str) -> str:
    """A name in Unicode's form C, without outer spaces."""
    return unicodedata.normalize("NFC", name).strip()


def number(name: str) -> int | None:
    """The whole number that a name stands for, e.g. 1 for "01" and "1.0", else None."""
    text = plain(name)
    return int(text.partition(".")[0]) if _NUMBER.fullmatch(text) else None


def are_numbers(names: Iterable[str]) -> bool:
    """Whether every name is a whole number."""
    return all(number(name) is not None for name in names)


def index_of(classes: Sequence[str]) -> dict[str, int]:
    """Class by name as `plain` writes it; where all names are numbers, each as `str(number)` too.

    Raises:
        UserError: two names differ only in spaces, composition or, if they are numbers, zeros.
    """
    ways = [plain] if not are_numbers(classes) else [plain, lambda name: str(number(name))]
    index: dict[str, int] = {}
    for way in ways:
        for y, name in enumerate(classes):
            if index.setdefault(way(name), y) != y:
                raise UserError(
                    f"The classes {classes[index[way(name)]]!r} and {name!r} cannot be told apart in a table of "
                    "labels; rename one."
                )
    return index


def find_class(index: Mapping[str, int], label: str) -> int | None:
    """The class of a label by an index from `index_of`; None if it is not a name."""
    found, value = index.get(plain(label)), number(label)
    return index.get(str(value)) if found is None and value is not None else found


def one_spelling(labels: Iterable[str]) -> dict[str, str]:
    """The class of each written label, if the labels alone define the classes.

    Labels that are all numbers are one class however they are spelled; where a class is spelled in two ways, all are
    written without zeros.
    """
    names = sorted({plain(label) for label in labels})
    if not are_numbers(names):
        return {name: name for name in names}
    values = {name: str(number(name)) for name in names}
    return values if len(set(values.values())) < len(names) else {name: name for name in names}


def is_unknown(label: str, *, among_numbers: bool) -> bool:
    """Whether a written label means "unknown": empty or nan, among numbers also -1, NA or none."""
    text = plain(label).casefold()
    return text in _UNKNOWN or (among_numbers and text in _UNKNOWN_AMONG_NUMBERS)


def read_numbers(values: Labels, classes: Sequence[str], what: str) -> Labels:
    """The classes of numeric labels; -1 for those that are -1 or cannot be a class.

    The numbers count the classes from 0, unless the names of the classes are numbers and only they can be meant.

    Args:
        values: int64 [n].
        classes: c class names.
        what: what to call the labels in an error.

    Returns:
        int64 [n]; a number that is not a class is left unchanged, for `check_labels` to refuse.

    Raises:
        UserError: the numbers can be names as well as counts, and the two mean different classes.
    """
    if not are_numbers(classes):
        return values
    by_name = index_of(classes)
    named = {value: by_name.get(str(value)) for value in set(values.tolist()) if value != -1 or "-1" in by_name}
    counts = all(0 <= value < len(classes) for value in named)
    names = all(found is not None for found in named.values())
    different = next((value for value, found in named.items() if found != value), None)
    if not names or different is None:
        return values
    if counts:
        raise UserError(
            f"{what}: {different} may mean the class {classes[named[different] or 0]!r} or, counted from 0, the class "
            f"{classes[different]!r}; give the labels as text in a .csv, where a name is a name."
        )
    mapped = values.copy()
    for value, found in named.items():
        if found is not None:
            mapped[values == value] = found
    return mapped
