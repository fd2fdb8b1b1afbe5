"""A benchmark's tables in Markdown and LaTeX: methods in rows, images per class in columns, one per way of scoring."""

from __future__ import annotations

from collections.abc import Sequence

from condense.evaluate.comparisons import NOTE
from condense.evaluate.reference import CAUTION
from condense.evaluate.results import Entry
from condense.evaluate.sample_results import SampleEntry

ORACLE = "Labels by oracle are the true ones, as perfect repair would give: an upper bound, never marked as the best."

_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


def markdown_report(
    title: str,
    settings: Sequence[tuple[str, str]],
    table: Sequence[Entry],
    failures: Sequence[tuple[str, str]],
    classifiers: Sequence[Entry] = (),
    samples: Sequence[SampleEntry] = (),
) -> str:
    """The report as Markdown: facts, the tables of each setting, failed cells.

    Sets have two tables for each way of scoring: accuracies, the best in bold, with published numbers; and `DETAILS`.
    """
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in settings), ""]
    everything: list[Entry | SampleEntry] = [*table, *classifiers, *samples]
    for setting in dict.fromkeys(entry.setting for entry in everything):
        sets = [entry for entry in table if entry.setting == setting]
        arms = [entry for entry in classifiers if entry.setting == setting]
        drawn = [entry for entry in samples if entry.setting == setting]
        lines += [f"## {setting}", ""]
        for judged in dict.fromkeys(entry.judged for entry in sets):
            own = [entry for entry in sets if entry.judged == judged]
            lines += [f"Judged by {judged}.", "", *_markdown_table([e for e in own if not is_aside(e)]), ""]
            lines += [line for note in notes(own) for line in (_escaped(note), "")]
            lines += [*_details(own), ""] if any(entry.summary for entry in own) else []
        lines += ["Classifiers, test accuracy in percent:", "", *_markdown_table(arms), ""] if arms else []
        lines += [line for note in notes(arms) for line in (_escaped(note), "")]
        lines += ["Samples of the generators:", "", *_markdown_samples(drawn), ""] if drawn else []
    if any(entry.published for entry in everything):
        lines += [f"Published: {CAUTION[0].lower()}{CAUTION[1:]}", ""]
    if failures:
        lines += ["## Failed", "", *(f"- `{cell}`: {error}" for cell, error in failures), ""]
    return "\n".join(lines)


def latex_tables(table: Sequence[Entry], classifiers: Sequence[Entry], samples: Sequence[SampleEntry]) -> str:
    """LaTeX tabulars (package booktabs) of sets, classifiers and samples, if any; without published numbers."""
    parts = [latex_table(entries) for entries in (table, classifiers) if entries]
    return "\n".join([*parts, *([_latex_samples(samples)] if samples else [])]) or latex_table(table)


def latex_table(table: Sequence[Entry]) -> str:
    """A LaTeX tabular (package booktabs) for each way of scoring: best in bold, without published numbers."""
    ways = dict.fromkeys(entry.judged for entry in table)
    return "\n".join(_latex_of(way, [entry for entry in table if entry.judged == way]) for way in ways)


def _latex_of(judged: str, table: Sequence[Entry]) -> str:
    sized = [entry for entry in table if not is_aside(entry)]
    columns = list(dict.fromkeys((entry.setting, entry.ipc) for entry in sized))
    settings = list(dict.fromkeys(setting for setting, _ in columns))
    columns.sort(key=lambda column: settings.index(column[0]))
    widths = [sum(of == setting for of, _ in columns) for setting in settings]
    heads = [
        rf"\multicolumn{{{width}}}{{c}}{{{_tex(setting)}}}" for setting, width in zip(settings, widths, strict=True)
    ]
    found = {(entry.label, entry.setting, entry.ipc): entry for entry in table}
    rows = [
        " & ".join([_tex(label), *(_tex_cell(found.get((label, *column))) for column in columns)])
        for label in dict.fromkeys(entry.label for entry in sized)
    ]
    sizes = [" & ".join(["images per class", *("" if ipc is None else str(ipc) for _, ipc in columns)])]
    return _tabular(
        [
            "test accuracy in percent with 95 % intervals; needs the package booktabs",
            *([f"judged by {judged}"] if judged else []),
            *notes(table),
        ],
        [" & ".join(["", *heads]), *(sizes if any(ipc is not None for _, ipc in columns) else [])],
        rows,
        len(columns),
    )


def _latex_samples(samples: Sequence[SampleEntry]) -> str:
    columns = list(dict.fromkeys((entry.setting, entry.method) for entry in samples))
    names = list(dict.fromkeys(entry.name for entry in samples))
    found = {(entry.setting, entry.method, entry.name): entry for entry in samples}
    rows = [
        " & ".join([_tex(name), *(shown_sample(found.get((*column, name))).replace("–", "--") for column in columns)])
        for name in names
    ]
    heads = [" & ".join(["", *(_tex(each[part]) for each in columns)]) for part in (0, 1)]
    return _tabular(["samples of the generators; needs the package booktabs"], heads, rows, len(columns))


def _tabular(comments: Sequence[str], heads: Sequence[str], rows: Sequence[str], width: int) -> str:
    lines = [
        *(f"% {comment}" for comment in comments),
        rf"\begin{{tabular}}{{l{'c' * width}}}",
        r"\toprule",
        *(rf"{head} \\" for head in heads),
        r"\midrule",
        *(rf"{row} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def shown_sample(entry: SampleEntry | None) -> str:
    """E.g. "3.47", or "3.47 ± 0.12" with the standard deviation over several seeds; "–" without a number."""
    if entry is None or entry.summary is None:
        return "–"
    std = entry.summary.std
    return f"{entry.summary.mean:.4g}" + ("" if std is None else f" ± {std:.2g}")


def shown_published(entry: SampleEntry | None) -> str:
    """E.g. "FID 3.47"; "–" without a number."""
    if entry is None or entry.published is None:
        return "–"
    return f"{entry.published.metric} {entry.published.mean:g}"


def shown(entry: Entry | None) -> str:
    """E.g. "92.5 ± 0.4", with a star if it is shown to be below the best; "failed" or "–" without a number.

    For two seeds only the mean, see `TWO`.
    """
    if entry is None or entry.summary is None:
        return "failed" if entry is not None and entry.num_failed else "–"
    mean, ci95 = entry.summary.mean, None if entry.num_sets == 2 else entry.summary.ci95
    star = "*" if entry.against_best is not None and entry.against_best.lower else ""
    return (f"{mean:.1f}" if ci95 is None else f"{mean:.1f} ± {ci95:.1f}") + star


TWO = "For two seeds only the mean is shown: a 95 % interval over two values is thirteen times as wide as they differ."
OVER = {
    "noise": "Intervals are over draws of the label noise, each with its own sets and networks.",
    "sets": "Intervals are over sets made under one draw of the label noise; they do not cover other draws.",
    "networks": "Intervals of a single set are over the networks trained on it; they do not cover other sets by the "
    "same method.",
}


def notes(own: Sequence[Entry]) -> list[str]:
    """Notes below a table of these entries: the meaning of intervals and stars, and of the oracle."""
    done = [entry for entry in own if entry.summary is not None and entry.summary.ci95 is not None]
    kinds = dict.fromkeys(entry.over for entry in done if entry.num_sets != 2)
    told = [OVER[kind] for kind in kinds] + ([TWO] if any(entry.num_sets == 2 for entry in done) else [])
    told += [NOTE] if any(entry.against_best for entry in own) else []
    told += [f"{entry.label}: {shown(entry)}." for entry in own if is_aside(entry) and entry.summary]
    return told + ([ORACLE] if any(entry.uses_true_labels for entry in own) else [])


def accuracy_table(table: Sequence[Entry]) -> list[dict[str, str | int | None]]:
    """A row for each entry, with its accuracy as formatted by `shown`, for the terminal and for JSON."""
    return [
        {
            "setting": entry.setting,
            "judged": entry.judged,
            "method": entry.label,
            "ipc": entry.ipc,
            "accuracy": shown(entry),
        }
        for entry in table
    ]


def is_aside(entry: Entry) -> bool:
    """Whether it has no size, like networks on all real images, so that it is listed below the table."""
    return entry.ipc is None and entry.judged != ""


DETAILS = ("worst class", "coverage", "minutes", "peak memory", "bytes", "packing", "labels")


def details(entry: Entry) -> list[str]:
    """Figures that complement the accuracy, as text in the order of `DETAILS`."""
    megabytes = None if entry.peak_memory_bytes is None else entry.peak_memory_bytes / 1e6
    return [
        _number(entry.worst_class, ".1f"),
        _number(entry.coverage, ".3f"),
        _minutes(entry.seconds),
        "–" if megabytes is None else f"{megabytes:,.0f} MB",
        _number(entry.training_bytes, ",.0f"),
        str(entry.packing),
        entry.labels,
    ]


def _minutes(seconds: float | None) -> str:
    minutes = None if seconds is None else seconds / 60
    return _number(minutes, ".1f" if minutes is None or minutes >= 1 else ".1g")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _details(own: Sequence[Entry]) -> list[str]:
    sized = [entry for entry in own if entry.summary and not is_aside(entry)]
    rows = [_markdown_row([entry.label, str(entry.ipc), *details(entry)]) for entry in sized]
    heads = _markdown_row(["method", "IPC", *DETAILS])
    return [heads, _markdown_row(["---", *["---:"] * (1 + len(DETAILS))]), *rows]


def _markdown_table(own: Sequence[Entry]) -> list[str]:
    ipcs = sorted({entry.ipc for entry in own}, key=lambda ipc: ipc or 0)
    published = [ipc for ipc in ipcs if any(entry.published for entry in own if entry.ipc == ipc)]
    heads = [
        head
        for ipc in ipcs
        for head in ("accuracy" if ipc is None else f"IPC {ipc}", *(["published"] if ipc in published else []))
    ]
    rows = []
    for label in dict.fromkeys(entry.label for entry in own):
        cells = []
        for ipc in ipcs:
            entry = next((e for e in own if (e.label, e.ipc) == (label, ipc)), None)
            text = _escaped(shown(entry))
            cells.append(f"**{text}**" if entry is not None and entry.best else text)
            if ipc in published:
                cells.append(f"{entry.published.mean:.1f}" if entry is not None and entry.published else "–")
        rows.append(_markdown_row([label, *cells]))
    return [_markdown_row(["method", *heads]), _markdown_row(["---", *["---:"] * len(heads)]), *rows]


def _markdown_samples(own: Sequence[SampleEntry]) -> list[str]:
    """Metrics in rows, generators in columns."""
    methods = list(dict.fromkeys(entry.method for entry in own))
    found = {(entry.name, entry.method): entry for entry in own}
    heads = [head for method in methods for head in (method, "published")]
    rows = []
    for name in dict.fromkeys(entry.name for entry in own):
        each = [found.get((name, method)) for method in methods]
        rows.append(_markdown_row([name, *(text for e in each for text in (shown_sample(e), shown_published(e)))]))
    return [_markdown_row(["metric", *heads]), _markdown_row(["---", *["---:"] * len(heads)]), *rows]


def _escaped(text: str) -> str:
    """Escape stars, which would mean emphasis in Markdown."""
    return text.replace("*", r"\*")


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _tex_cell(entry: Entry | None) -> str:
    text = shown(entry).replace("±", r"$\pm$").replace("–", "--")
    return rf"\textbf{{{text}}}" if entry is not None and entry.best else text


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
