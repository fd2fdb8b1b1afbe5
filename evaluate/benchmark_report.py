"""A benchmark's report: one self-contained HTML file, and its table as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense.data.types import Images
from condense.evaluate import figures
from condense.evaluate.page import class_rows, render
from condense.evaluate.reference import CAUTION, Published
from condense.evaluate.results import Entry, Result, beside, entries
from condense.evaluate.sample_results import SampleEntry, sample_entries
from condense.evaluate.tables import (
    DETAILS,
    details,
    is_aside,
    latex_tables,
    markdown_report,
    notes,
    shown,
    shown_published,
    shown_sample,
)
from condense.files import atomic_write_text

HTML, MARKDOWN, LATEX = "report.html", "report.md", "table.tex"


@dataclass(frozen=True, eq=False)
class SetPictures:
    """Images of one condensed set, or samples of a generator (`ipc` None): uint8 [c·k, H, W, 1 or 3], class-major."""

    setting: str
    label: str
    ipc: int | None
    classes: Sequence[str]
    images: Images


@dataclass(frozen=True, eq=False)
class Confusion:
    """Confusion of labels: counts int [c, c], rows are true classes, columns given or recovered labels.

    `given` is None if the images have no single label.
    """

    setting: str
    label: str
    classes: Sequence[str]
    given: npt.NDArray[np.integer] | None
    recovered: npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class BenchmarkReport:
    """Contents of the report.

    Attributes:
        title: heading.
        settings: (name, value) pairs, as text.
        results: all cells, in the order of the recipe.
        pictures: one set of each method and setting.
        confusions: confusions of generators and labellers.
        recipe: the benchmark's recipe as YAML.
        commands: shell commands that reproduce the benchmark.
    """

    title: str
    settings: Sequence[tuple[str, str]]
    results: Sequence[Result]
    pictures: Sequence[SetPictures]
    confusions: Sequence[Confusion]
    recipe: str
    commands: Sequence[str]


def write_benchmark_report(folder: Path, report: BenchmarkReport) -> None:
    """Write report.html, report.md and table.tex into `folder`, each atomically; raises as `atomic_path`."""
    table, classifiers, samples = _tables(report)
    atomic_write_text(folder / HTML, render_benchmark_report(report))
    failures = [(result.cell, result.error) for result in report.results if result.status == "failed"]
    text = markdown_report(report.title, report.settings, table, failures, classifiers, samples)
    atomic_write_text(folder / MARKDOWN, text)
    atomic_write_text(folder / LATEX, latex_tables(table, classifiers, samples))


def write_tables(folder: Path, title: str, results: Sequence[Result]) -> None:
    """Write report.md and table.tex of results alone; raises as `atomic_path`."""
    tables = entries(results), entries(results, "weak-supervision"), sample_entries(results)
    sets, classifiers, samples = tables
    atomic_write_text(folder / MARKDOWN, markdown_report(title, [], sets, [], classifiers, samples))
    atomic_write_text(folder / LATEX, latex_tables(*tables))


def render_benchmark_report(report: BenchmarkReport) -> str:
    """The HTML text of `report`."""
    tables = _tables(report)
    return render(
        "benchmark_report.html.j2",
        report=report,
        caution=CAUTION,
        shown=shown,
        detail_names=DETAILS,
        shown_sample=shown_sample,
        shown_published=shown_published,
        parts=[_part(setting, *tables, report) for setting in _unique(result.setting for result in report.results)],
        has_sets=bool(tables[0]),
        failures=[result for result in report.results if result.status == "failed"],
        counts={
            status: sum(result.status == status for result in report.results)
            for status in ("done", "failed", "missing")
        },
        seconds=sum({result.sha256 or result.cell: result.seconds or 0 for result in report.results}.values()),
    )


def _tables(report: BenchmarkReport) -> tuple[list[Entry], list[Entry], list[SampleEntry]]:
    """Table entries of sets, classifiers and samples."""
    return entries(report.results), entries(report.results, "weak-supervision"), sample_entries(report.results)


def _part(
    setting: str,
    table: Sequence[Entry],
    classifiers: Sequence[Entry],
    samples: Sequence[SampleEntry],
    report: BenchmarkReport,
) -> dict[str, object]:
    """Template values for one setting."""
    of_setting = [entry for entry in table if entry.setting == setting]
    return {
        "setting": setting,
        "tables": [
            _table(judged, [entry for entry in of_setting if entry.judged == judged])
            for judged in _unique(entry.judged for entry in of_setting)
        ],
        "classifiers": _classifiers([entry for entry in classifiers if entry.setting == setting]),
        "samples": _samples([entry for entry in samples if entry.setting == setting]),
        "learners": _learners([result for result in report.results if result.setting == setting]),
        "pictures": [
            (found.label, found.ipc, class_rows(found.images, found.classes))
            for found in report.pictures
            if found.setting == setting
        ],
        "confusions": [_matrices(found) for found in report.confusions if found.setting == setting],
    }


def _table(judged: str, own: Sequence[Entry]) -> dict[str, object]:
    """Template values for the methods of a setting that are scored alike."""
    ipcs = sorted({entry.ipc for entry in own if entry.ipc is not None})
    return {
        "judged": judged,
        "ipcs": ipcs,
        "one_seed": max(entry.num_sets for entry in own) == 1,
        "two_seeds": max(entry.num_sets for entry in own) == 2,
        "networks": max(entry.num_networks for entry in own),
        "has_published": {ipc: any(entry.published for entry in own if entry.ipc == ipc) for ipc in ipcs},
        "sources": _unique(_source(entry.published) for entry in own if entry.published),
        "repaired": any(", labels by " in entry.label for entry in own),
        "notes": notes(own),
        "compared": [ipc for ipc in ipcs if any(entry.against_best for entry in own if entry.ipc == ipc)],
        "rows": {
            label: {entry.ipc: entry for entry in own if entry.label == label}
            for label in _unique(entry.label for entry in own if not is_aside(entry))
        },
        "details": [(e.label, e.ipc, details(e)) for e in own if e.summary is not None and not is_aside(e)],
        "plots": _plots([entry for entry in own if not is_aside(entry)], ipcs),
    }


def _classifiers(own: Sequence[Entry]) -> dict[str, object]:
    """Template values for the classifiers of a setting; empty without any."""
    if not own:
        return {}
    return {
        "entries": own,
        "has_published": any(entry.published for entry in own),
        "seeds": max(entry.num_sets for entry in own),
        "sources": _unique(_source(entry.published) for entry in own if entry.published),
        "notes": notes(own),
    }


def _samples(own: Sequence[SampleEntry]) -> dict[str, object]:
    """Template values for the generators' samples of a setting; empty without any."""
    if not own:
        return {}
    methods = _unique(entry.method for entry in own)
    found = {(entry.name, entry.method): entry for entry in own}
    return {
        "methods": methods,
        "rows": {
            name: [found.get((name, method)) for method in methods] for name in _unique(entry.name for entry in own)
        },
        "sources": _unique(_source(entry.published) for entry in own if entry.published),
    }


def _plots(own: Sequence[Entry], ipcs: Sequence[int]) -> list[tuple[str, str]]:
    """Plots of accuracy against images per class and build minutes, as (title, data URI), each where known."""
    done = [entry for entry in own if entry.summary is not None]
    plots = []
    if done:
        by_size = figures.accuracy_lines(_lines(done, "ipc"), "images per class", ticks=ipcs)
        plots.append(("Accuracy against images per class", figures.figure_data_uri(by_size)))
    if timed := [entry for entry in done if entry.seconds]:
        by_cost = figures.accuracy_lines(_lines(timed, "minutes"), "minutes to make a set, training included")
        plots.append(("Accuracy against build minutes", figures.figure_data_uri(by_cost)))
    return plots


def _lines(done: Sequence[Entry], across: str) -> list[figures.Line]:
    """One line per method; intervals over only two sets are left out, since they would dwarf everything else."""
    lines = []
    for label in _unique(entry.label for entry in done):
        own = [entry for entry in done if entry.label == label]
        points = [
            (_place(entry, across), entry.summary.mean, None if entry.num_sets == 2 else entry.summary.ci95)
            for entry in own
            if entry.summary is not None
        ]
        lines.append(figures.Line(label, own[0].method, ", labels by " in label, points))
    return lines


def _place(entry: Entry, across: str) -> float:
    return float(entry.ipc or 0) if across == "ipc" else (entry.seconds or 0.0) / 60


def _learners(results: Sequence[Result]) -> list[dict[str, object]]:
    """For each method that learns labels: mean fraction recovered, accuracy as a classifier, and the published one."""
    rows: list[dict[str, object]] = []
    for label in _unique(result.label for result in results if result.labels_recovered is not None):
        own = [result for result in results if result.label == label and result.labels_recovered is not None]
        first = own[0]
        rows.append(
            {
                "label": label,
                "recovered": _mean([result.labels_recovered for result in own]),
                "classifier": _mean([result.classifier_accuracy for result in own]),
                "published": beside(first, "weak-supervision") if first.clean_first == "none" else None,
            }
        )
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _matrices(found: Confusion) -> dict[str, object]:
    def drawn(counts: npt.NDArray[np.integer], across: str) -> str:
        return figures.figure_data_uri(figures.confusion(counts, found.classes, across=across))

    return {
        "label": found.label,
        "given": None if found.given is None else drawn(found.given, "given label"),
        "recovered": drawn(found.recovered, "recovered label"),
    }


def _source(number: Published) -> str:
    network = "" if number.task != "condensation" else f", tested on {number.network or 'a network it does not name'}"
    return f"{number.paper}, table {number.table}{network} ({number.data} {number.noise})"


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
