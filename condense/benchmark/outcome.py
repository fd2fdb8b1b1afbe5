"""What a benchmark found, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from condense.evaluate.results import Result, Status, comparisons, entries
from condense.evaluate.tables import accuracy_table
from condense.json_values import JSON

RESULTS = "results.csv"


@dataclass(frozen=True)
class Outcome:
    """The results of a benchmark.

    Attributes:
        out: its folder, which holds the same as files.
        report: its page.
        results: a row per cell, those of results.csv, in the order of the recipe.
        kept: number of files written for results that are kept; None if none were to be.
    """

    out: Path
    report: Path
    results: tuple[Result, ...]
    kept: int | None = None

    @property
    def done(self) -> int:
        """The number of cells that are done."""
        return self._of("done")

    @property
    def failed(self) -> int:
        """The number of cells that failed."""
        return self._of("failed")

    @property
    def missing(self) -> int:
        """The number of cells still to be run."""
        return self._of("missing")

    @property
    def table(self) -> list[dict[str, str | int | None]]:
        """Accuracies of sets and of classifiers: for each its setting, judged, method, ipc, and accuracy in percent."""
        return accuracy_table([*entries(self.results), *entries(self.results, "weak-supervision")])

    @property
    def comparisons(self) -> list[dict[str, str | int | float | None]]:
        """Every two methods judged alike, compared over their common seeds, see `results.comparisons`."""
        return comparisons(self.results)

    def to_json(self) -> dict[str, JSON]:
        """Paths, numbers of cells, table and comparisons as a JSON object."""
        return {
            "out": str(self.out),
            "report": str(self.report),
            "results": str(self.out / RESULTS),
            "cells": len(self.results),
            "done": self.done,
            "failed": self.failed,
            "missing": self.missing,
            "table": self.table,
            "comparisons": self.comparisons,
            **({} if self.kept is None else {"kept": self.kept}),
        }

    def _of(self, status: Status) -> int:
        return sum(result.status == status for result in self.results)
