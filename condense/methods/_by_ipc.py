"""Settings of published methods that depend on the number of images per class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

Row = TypeVar("Row")


def nearest_row(table: Mapping[int, Row], ipc: int) -> tuple[int, Row]:
    """The row of `table` for `ipc`, or the nearest one by ratio (4 is nearer to 10 than to 1), with its own ipc.

    Of two equally near rows the smaller ipc wins.
    """
    row = min(sorted(table), key=lambda known: abs(math.log(known / ipc)))
    return row, table[row]
