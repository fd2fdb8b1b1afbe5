"""The report of reading a data set: `dmis inspect` prints all of it, other commands the notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """What was found, changed and left out on the way from files to arrays.

    Attributes:
        sizes: number of pictures by (width, height) in pixels.
        changed: number of pictures by the conversion they needed.
        skipped: files that were not used, by the reason.
        notes: whole sentences that a user should read, whatever the command.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    changed: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def files(count: int) -> str:
    """The beginning of a sentence about `count` files."""
    return "1 file is" if count == 1 else f"{count} files are"


def in_list(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
