"""The report of reading a data set: `dmis inspect` prints all of it, other commands the notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """What was found, changed and left out on the way from files to arrays.

    Attributes:
        sizes: how many pictures are so many pixels (wide, high).
        changed: what was done to pictures that are not plain, and to how many.
        skipped: why files were not used, and which.
        notes: whole sentences that a user should read, whatever the command.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    changed: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def files(count: int) -> str:
    """The beginning of a sentence about so many files."""
    return "1 file is" if count == 1 else f"{count} files are"


def in_list(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
