"""Labels written as text: a class name or number, several separated by |, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data.types import Mask
from condense.data.votes import NO_ANSWER
from condense.errors import UserError

_YES, _NO = ("yes", "true", "1"), ("no", "false", "0", "")


def split_candidates(cell: str, where: str) -> tuple[str, ...]:
    """`"cat | dog"` as `("cat", "dog")`; an empty cell as `()`. Raises `UserError` for an empty entry."""
    labels = tuple(part.strip() for part in cell.split("|")) if cell.strip() else ()
    if not all(labels):
        raise UserError(f"{where}: the candidate list {cell!r} has an empty entry; write labels separated by single |.")
    return labels


def parse_cells(cells: npt.NDArray[np.str_], classes: Sequence[str], where: str) -> npt.NDArray[Any]:
    """Labels as int64 [n] (-1: empty cell), or where a cell has several, as candidate sets bool [n, c].

    Raises:
        UserError: a cell has an empty entry, or one that is neither the name nor the number of a class.
    """
    index = {str(number): number for number in range(len(classes))} | {name: y for y, name in enumerate(classes)}
    parsed = []
    for row, cell in enumerate(cells.tolist()):
        labels = split_candidates(cell, f"{where}, row {row + 1}")
        unknown = [label for label in labels if label not in index]
        if unknown:
            raise UserError(
                f"{where}, row {row + 1} names {unknown[0]!r}, which is no class here (they are {', '.join(classes)}); "
                "use these names in every column, or their numbers from 0 on."
            )
        parsed.append([index[label] for label in labels])
    if all(len(numbers) < 2 for numbers in parsed):
        return np.array([numbers[0] if numbers else NO_ANSWER for numbers in parsed], dtype=np.int64)
    candidates = np.zeros((len(parsed), len(classes)), dtype=np.bool_)
    for row, numbers in enumerate(parsed):
        candidates[row, numbers or slice(None)] = True
    return candidates


def parse_trust(trusted: npt.NDArray[Any], path: Path) -> Mask:
    """Bool [n] from an array of bool, or of the words yes and no. Raises `UserError` for anything else."""
    if trusted.dtype == np.bool_ and trusted.ndim == 1:
        return trusted
    words = [str(word).strip().lower() for word in trusted.tolist()] if trusted.dtype.kind == "U" else ["?"]
    wrong = [word for word in words if word not in (*_YES, *_NO)]
    if wrong:
        raise UserError(f"{path}: `trusted` must be bool [n], or yes and no; found {wrong[0]!r}.")
    return np.array([word in _YES for word in words], dtype=np.bool_)
