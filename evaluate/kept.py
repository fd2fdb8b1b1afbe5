"""Kept results: one small JSON file per cell, from which every table can be rebuilt on another machine.

    {"schema": "dmis-result/1", "result": {…}, "recipe": {…}, "machine": {…}, "created": …, …}

Files from several machines are merged by putting them into one folder; different results for one cell are refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from condense.errors import UserError
from condense.evaluate.results import Measured, Result
from condense.files import atomic_write_text
from condense.run import JSON

SCHEMA = "dmis-result/1"


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
        values = told["result"]
        values["accuracies"] = tuple(map(float, values["accuracies"]))
        values["measured"] = tuple(Measured(**entry) for entry in values["measured"])
        origin = {key: value for key, value in told.items() if key not in ("schema", "result", "recipe")}
        return Kept(Result(**values), told["recipe"], origin)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not a kept result ({type(error).__name__}: {error}); remove it.") from error
