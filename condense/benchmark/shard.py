"""Division of a benchmark's cells among several machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from condense.benchmark.grid import Cell
from condense.errors import UserError


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1.

    Raises:
        UserError: `index` is not in 1 … `count`.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UserError(f"--shard {self.index}/{self.count}: parts are counted from 1 to the number of parts.")

    def of(self, cells: Sequence[Cell]) -> set[str]:
        """Names of the cells of this part; cells that share a generator, teacher, labels or set stay together.

        Groups go, largest first, to the part with the fewest cells; every machine computes the same division.
        """
        parts: list[list[str]] = [[] for _ in range(self.count)]
        for group in sorted(_groups(cells), key=lambda names: (-len(names), names)):
            min(parts, key=len).extend(group)
        return set(parts[self.index - 1])


def parse_shard(text: str) -> Shard:
    """Parse "i/n". Raises `UserError` if `text` is of another form."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None:
        raise UserError(f"--shard {text!r} is not of the form i/n, e.g. 1/4.")
    return Shard(int(found[1]), int(found[2]))


def _groups(cells: Sequence[Cell]) -> list[list[str]]:
    """Names of the cells, grouped by what they share; each group is sorted."""
    leader: dict[str, str] = {}

    def root(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for cell in cells:
        for other in (cell.shared, cell.labeller, cell.set_of):
            if other is not None:
                leader[root(other)] = root(cell.name)
    groups: dict[str, list[str]] = {}
    for cell in cells:
        groups.setdefault(root(cell.name), []).append(cell.name)
    return [sorted(names) for names in groups.values()]
