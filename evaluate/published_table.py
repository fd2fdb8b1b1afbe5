"""A table of published numbers beside ours, one row each."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from condense.evaluate.reference import Published
from condense.evaluate.results import Entry, Result, entries
from condense.evaluate.sample_results import sample_entries
from condense.evaluate.stats import Summary
from condense.files import atomic_write_text

Line = dict[str, str | int | float | None]

COLUMNS = (
    *("setting", "method", "ipc", "ours_metric", "ours", "ours_ci95"),
    *("paper", "table", "published_data", "published_noise", "published_metric", "published", "published_std"),
)


def published_lines(results: Sequence[Result]) -> list[Line]:
    """One line for each cell of the results' tables with a published number; unknown values are None."""
    accuracies = [*entries(results), *entries(results, "weak-supervision")]
    lines = [_of_accuracy(entry, entry.published) for entry in accuracies if entry.published]
    for sample in sample_entries(results):
        if sample.published is not None:
            lines.append(_line(sample.setting, sample.method, None, sample.name, sample.summary, sample.published))
    return lines


def write_published(path: Path, results: Sequence[Result]) -> None:
    """Write `published_lines` as CSV; unknown values are empty. Raises as `atomic_path`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(published_lines(results))
    atomic_write_text(path, text.getvalue())


def _of_accuracy(entry: Entry, published: Published) -> Line:
    return _line(entry.setting, entry.method, entry.ipc, "accuracy", entry.summary, published)


def _line(setting: str, method: str, ipc: int | None, metric: str, ours: Summary | None, published: Published) -> Line:
    return {
        "setting": setting,
        "method": method,
        "ipc": ipc,
        "ours_metric": metric,
        "ours": None if ours is None else ours.mean,
        "ours_ci95": None if ours is None else ours.ci95,
        "paper": published.paper,
        "table": published.table,
        "published_data": published.data,
        "published_noise": published.noise,
        "published_metric": published.metric,
        "published": published.mean,
        "published_std": published.std,
    }
