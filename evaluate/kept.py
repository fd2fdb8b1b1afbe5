"""Kept results: one small JSON file per cell, from which every table can be rebuilt on another machine.

    {"schema": "dmis-result/1", "result": {…}, "recipe": {…}, "machine": {…}, "created": …, …}

Files from several machines are merged by putting them into one folder; different results for one cell are refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from condense.errors import UserError, in_short
from condense.evaluate.results import REAL, WHOLE, Measured, Result, Status, TaskName
from condense.files import atomic_write_text
from condense.json_values import JSON, number, numbers, section, sections, text, whole

SCHEMA = "dmis-result/1"
_ALWAYS = ("seed", "protocol_version", "packing")  # whole numbers that every result has


@dataclass(frozen=True, eq=False)
class Kept:
    """The result of a finished cell, and its origin.

    Attributes:
        result: the figures.
        recipe: the cell's recipe, as `dmis condense -c` accepts it.
        origin: machine, protocol, created, package_version and git_revision, as far as they are known.
    """

    result: Result
    recipe: Mapping[str, JSON]
    origin: Mapping[str, JSON]


def write_kept(folder: Path, kept: Sequence[Kept]) -> list[Path]:
    """Write one file per result into a folder, beside those of other machines; equal ones are left unchanged.

    Returns:
        The new files.

    Raises:
        UserError: the folder has a different result for a cell.
        RunFailed: the disk is full.
    """
    before = {found.result.cell: found for found in read_kept(folder)} if folder.is_dir() else {}
    for one in kept:
        other = before.get(one.result.cell)
        if other is not None and _figures(other) != _figures(one):
            raise UserError(
                f"{folder} has a different result for {one.result.cell}; remove {one.result.cell}.json there to "
                "replace it, or keep these results in another folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for one in kept:
        if one.result.cell not in before:
            written.append(folder / f"{one.result.cell}.json")
            atomic_write_text(written[-1], json.dumps(_as_json(one), indent=1, sort_keys=True) + "\n")
    return written


def read_kept(folder: Path) -> list[Kept]:
    """The results in a folder, in the order of their cells' names; empty if there are none.

    Raises:
        UserError: a file is damaged or of another kind.
    """
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def _figures(kept: Kept) -> tuple[object, ...]:
    return kept.result.accuracies, kept.result.measured, kept.result.sha256


def _as_json(kept: Kept) -> dict[str, JSON]:
    return {
        "schema": SCHEMA,
        "result": dataclasses.asdict(kept.result),
        "recipe": kept.recipe,
        **kept.origin,
    }


def _read(path: Path) -> Kept:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["schema"] != SCHEMA:
            raise UserError(f"{path} has the schema {told['schema']!r}, this version reads {SCHEMA!r}.")
        origin = {key: value for key, value in told.items() if key not in ("schema", "result", "recipe")}
        return Kept(_result(section(told, "result")), section(told, "recipe"), origin)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{path} is not a kept result ({type(error).__name__}: {in_short(error)}); remove it."
        ) from error


def _result(told: Mapping[str, JSON]) -> Result:
    values: dict[str, object] = {name: _value(told, name) for name in told}
    found = Result(**values)  # type: ignore[arg-type]
    if found.status not in get_args(Status) or found.task not in get_args(TaskName):
        raise ValueError(f"there is no status {found.status!r} or no task {found.task!r}")
    return found


def _value(told: Mapping[str, JSON], name: str) -> object:
    """The entry `name` of a result, as the type it has there."""
    if name == "accuracies":
        return tuple(_checked(each, name, 0.0, 100.0) for each in numbers(told, name))
    if name == "measured":
        return tuple(_measured(entry) for entry in sections(told, name))
    if name not in WHOLE | REAL:
        return text(told, name)
    if told[name] is None and name not in _ALWAYS:
        return None
    return _checked(whole(told, name) if name in WHOLE else number(told, name), name, 0.0)


def _measured(told: Mapping[str, JSON]) -> Measured:
    value = None if told["value"] is None else _checked(number(told, "value"), "value")
    return Measured(text(told, "metric"), text(told, "name"), value)


def _checked(value: float, name: str, lowest: float = -math.inf, highest: float = math.inf) -> float:
    """`value` itself. Raises `ValueError` out of range, `OverflowError` for a whole number too large for a float."""
    if not math.isfinite(value) or not lowest <= value <= highest:
        raise ValueError(f"{name} is {value}")
    return value
