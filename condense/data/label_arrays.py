"""Labels as arrays of numbers: the meaning of each shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data.types import Labels
from condense.errors import UserError


def one_hot(array: npt.NDArray[Any]) -> Labels | None:
    """The classes int64 [n] of numbers [n, c] that are 1 for one class of each row and else 0; None for any other."""
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "iuf" or not len(array):
        return None
    if not np.isin(array, (0, 1)).all() or not (array.sum(axis=1) == 1).all():
        return None
    classes: Labels = array.argmax(axis=1).astype(np.int64)
    return classes


def refuse_many_hot(array: npt.NDArray[Any], num_classes: int, what: str) -> None:
    """Refuse whole numbers [n, c] of 0 and 1 that may be sets of classes as well as answers of c annotators.

    Raises:
        UserError: every row has a 1, and some have several.
    """
    if array.shape[1] == num_classes and np.isin(array, (0, 1)).all() and array.any(axis=1).all():
        raise UserError(
            f"{what} holds 0 and 1 for each of the {num_classes} classes, which may be sets of candidates or the "
            "answers of annotators; save sets as bool (array.astype(bool)), and each annotator's answers under a name."
        )


def whole_numbers(array: npt.NDArray[Any], what: str) -> Labels:
    """Whole numbers of any width as int64. Raises `UserError` for those too large for it."""
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise UserError(f"{what} holds {int(array.max())}, which is not a class number; write -1 where none is known.")
    return array.astype(np.int64)
