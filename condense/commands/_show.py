"""Results for people: short tables on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def facts(values: Mapping[str, Any]) -> None:
    """Names and values in two columns; nested mappings as a.b."""
    rows([(name.replace("_", " "), value) for name, value in _lines(values)])


def rows(lines: Sequence[Sequence[str]]) -> None:
    """A table whose columns are as wide as they need, the first ones filled up with blanks."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join(cells).rstrip())


def accuracy(mean: float, ci95: float | None) -> str:
    """E.g. "92.5 ± 0.4 %", the 95 % interval where there is one."""
    return f"{mean:.1f} %" if ci95 is None else f"{mean:.1f} ± {ci95:.1f} %"


def _lines(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(value)


def _shown(value: object) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        case list() | tuple():
            return ", ".join(map(_shown, value))
        case _:
            return str(value)
