"""A benchmark's tables in Markdown and LaTeX: methods down, images per class across, one for each way of judging."""

from __future__ import annotations

from collections.abc import Sequence

from condense.evaluate.comparisons import NOTE
from condense.evaluate.reference import CAUTION
from condense.evaluate.results import Entry

ORACLE = "Labels by oracle are the true ones: what perfect repair would give, a bound and no rival, so never the best."

_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


def markdown_report(
    title: str,
    settings: Sequence[tuple[str, str]],
    table: Sequence[Entry],
    failures: Sequence[tuple[str, str]],
) -> str:
    """The report as Markdown: facts, two tables for each setting and way of judging, what failed.

    The first holds accuracies, best in bold, published numbers beside; the second what they took and hide.
    """
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in settings), ""]
    for setting in dict.fromkeys(entry.setting for entry in table):
        lines += [f"## {setting}", ""]
        of_setting = [entry for entry in table if entry.setting == setting]
        for judged in dict.fromkeys(entry.judged for entry in of_setting):
            own = [entry for entry in of_setting if entry.judged == judged]
            lines += [f"Judged by {judged}.", "", *_markdown_table(own), ""]
            lines += [line for note in notes(own) for line in (_escaped(note), "")]
            lines += [*_details(own), ""] if any(entry.summary for entry in own) else []
    if any(entry.published for entry in table):
        lines += [f"Published: {CAUTION[0].lower()}{CAUTION[1:]}", ""]
    if failures:
        lines += ["## Failed", "", *(f"- `{cell}`: {error}" for cell, error in failures), ""]
    return "\n".join(lines)


def latex_table(table: Sequence[Entry]) -> str:
    """A LaTeX tabular (package booktabs) for each way of judging: best in bold, no published numbers."""
    ways = dict.fromkeys(entry.judged for entry in table)
    return "\n".join(_tabular(way, [entry for entry in table if entry.judged == way]) for way in ways)


def _tabular(judged: str, table: Sequence[Entry]) -> str:
    columns = list(dict.fromkeys((entry.setting, entry.ipc) for entry in table))
    settings = list(dict.fromkeys(setting for setting, _ in columns))
    columns.sort(key=lambda column: settings.index(column[0]))
    widths = [sum(of == setting for of, _ in columns) for setting in settings]
    heads = [
        rf"\multicolumn{{{width}}}{{c}}{{{_tex(setting)}}}" for setting, width in zip(settings, widths, strict=True)
    ]
    found = {(entry.label, entry.setting, entry.ipc): entry for entry in table}
    rows = [
        " & ".join([_tex(label), *(_tex_cell(found.get((label, *column))) for column in columns)])
        for label in dict.fromkeys(entry.label for entry in table)
    ]
    lines = [
        "% test accuracy in percent with 95 % intervals; needs the package booktabs",
        f"% judged by {judged}",
        *(f"% {note}" for note in notes(table)),
        rf"\begin{{tabular}}{{l{'c' * len(columns)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        " & ".join(["images per class", *(str(ipc) for _, ipc in columns)]) + r" \\",
        r"\midrule",
        *(rf"{row} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def shown(entry: Entry | None) -> str:
    """E.g. "92.5 ± 0.4", with a star where it is shown to be below the best; "failed" or "–" without a number."""
    if entry is None or entry.summary is None:
        return "failed" if entry is not None and entry.num_failed else "–"
    mean, ci95 = entry.summary.mean, entry.summary.ci95
    star = "*" if entry.against_best is not None and entry.against_best.lower else ""
    return (f"{mean:.1f}" if ci95 is None else f"{mean:.1f} ± {ci95:.1f}") + star


OVER = {
    "noise": "Intervals are over draws of the label noise, each with sets and networks of its own.",
    "sets": "Intervals are over sets made under one draw of the label noise; they tell nothing of another draw.",
    "networks": "Intervals of a single set are over the networks trained on it; they tell nothing of another set by "
    "the same method.",
}


def notes(own: Sequence[Entry]) -> list[str]:
    """What must be said below a table of these entries: what intervals and stars mean; that the oracle is no rival."""
    kinds = dict.fromkeys(entry.over for entry in own if entry.summary is not None and entry.summary.ci95 is not None)
    told = [OVER[kind] for kind in kinds] + ([NOTE] if any(entry.against_best for entry in own) else [])
    return told + ([ORACLE] if any(entry.uses_true_labels for entry in own) else [])


DETAILS = ("worst class", "coverage", "minutes", "peak memory", "bytes", "packing", "labels")


def details(entry: Entry) -> list[str]:
    """What an accuracy hides, as text in the order of `DETAILS`."""
    megabytes = None if entry.peak_memory_bytes is None else entry.peak_memory_bytes / 1e6
    return [
        _number(entry.worst_class, ".1f"),
        _number(entry.coverage, ".3f"),
        _number(None if entry.seconds is None else entry.seconds / 60, ".1f"),
        "–" if megabytes is None else f"{megabytes:,.0f} MB",
        _number(entry.training_bytes, ",.0f"),
        str(entry.packing),
        entry.labels,
    ]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _details(own: Sequence[Entry]) -> list[str]:
    rows = [_markdown_row([entry.label, str(entry.ipc), *details(entry)]) for entry in own if entry.summary]
    heads = _markdown_row(["method", "IPC", *DETAILS])
    return [heads, _markdown_row(["---", *["---:"] * (1 + len(DETAILS))]), *rows]


def _markdown_table(own: Sequence[Entry]) -> list[str]:
    ipcs = sorted({entry.ipc for entry in own})
    published = [ipc for ipc in ipcs if any(entry.published for entry in own if entry.ipc == ipc)]
    heads = [head for ipc in ipcs for head in (f"IPC {ipc}", *(["published"] if ipc in published else []))]
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


def _escaped(text: str) -> str:
    """A star is not emphasis."""
    return text.replace("*", r"\*")


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _tex_cell(entry: Entry | None) -> str:
    text = shown(entry).replace("±", r"$\pm$").replace("–", "--")
    return rf"\textbf{{{text}}}" if entry is not None and entry.best else text


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
