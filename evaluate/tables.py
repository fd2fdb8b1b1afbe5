"""A benchmark's tables in Markdown and LaTeX: methods down, settings and images per class across."""

from __future__ import annotations

from collections.abc import Sequence

from condense.evaluate.comparisons import NOTE
from condense.evaluate.reference import CAUTION
from condense.evaluate.results import Entry
from condense.evaluate.sample_results import SampleEntry

ORACLE = "Labels by oracle are the true ones: what perfect repair would give, a bound and no rival, so never the best."

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
    """The report as Markdown: facts, the tables of each setting (best in bold, published beside), what failed."""
    lines = [f"# {title}", "", *(f"- {name}: {value}" for name, value in settings), ""]
    for setting in dict.fromkeys(entry.setting for entry in (*table, *classifiers, *samples)):
        sets = [entry for entry in table if entry.setting == setting]
        arms = [entry for entry in classifiers if entry.setting == setting]
        drawn = [entry for entry in samples if entry.setting == setting]
        lines += [f"## {setting}", ""]
        lines += [*_markdown_table(sets), ""] if sets else []
        lines += ["Classifiers, test accuracy in percent:", "", *_markdown_table(arms), ""] if arms else []
        lines += ["Samples of the generators:", "", *_markdown_samples(drawn), ""] if drawn else []
        lines += [line for note in notes([*sets, *arms]) for line in (_escaped(note), "")]
    if any(entry.published for entry in (*table, *classifiers, *samples)):
        lines += [f"Published: {CAUTION[0].lower()}{CAUTION[1:]}", ""]
    if failures:
        lines += ["## Failed", "", *(f"- `{cell}`: {error}" for cell, error in failures), ""]
    return "\n".join(lines)


def latex_tables(table: Sequence[Entry], classifiers: Sequence[Entry], samples: Sequence[SampleEntry]) -> str:
    """LaTeX tabulars (package booktabs) of what there is: sets, classifiers, samples; no published numbers."""
    parts = [latex_table(entries) for entries in (table, classifiers) if entries]
    return "\n".join([*parts, *([_latex_samples(samples)] if samples else [])]) or latex_table(table)


def latex_table(table: Sequence[Entry]) -> str:
    """A LaTeX tabular (package booktabs): best in bold, no published numbers."""
    columns = list(dict.fromkeys((entry.setting, entry.ipc) for entry in table))
    settings = list(dict.fromkeys(setting for setting, _ in columns))
    widths = [sum(of == setting for of, _ in columns) for setting in settings]
    heads = [
        rf"\multicolumn{{{width}}}{{c}}{{{_tex(setting)}}}" for setting, width in zip(settings, widths, strict=True)
    ]
    found = {(entry.label, entry.setting, entry.ipc): entry for entry in table}
    rows = [
        " & ".join([_tex(label), *(_tex_cell(found.get((label, *column))) for column in columns)])
        for label in dict.fromkeys(entry.label for entry in table)
    ]
    sizes = [" & ".join(["images per class", *("" if ipc is None else str(ipc) for _, ipc in columns)])]
    return _tabular(
        ["test accuracy in percent with 95 % intervals; needs the package booktabs", *notes(table)],
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
    """E.g. "3.47", with " ± 0.12", the standard deviation, behind it for several seeds; "–" without a number."""
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
    """E.g. "92.5 ± 0.4", with a star where it is shown to be below the best; "failed" or "–" without a number."""
    if entry is None or entry.summary is None:
        return "failed" if entry is not None and entry.num_failed else "–"
    mean, ci95 = entry.summary.mean, entry.summary.ci95
    star = "*" if entry.against_best is not None and entry.against_best.lower else ""
    return (f"{mean:.1f}" if ci95 is None else f"{mean:.1f} ± {ci95:.1f}") + star


def notes(own: Sequence[Entry]) -> list[str]:
    """What must be said below a table of these entries: what a star means, and that the oracle is no rival."""
    told = [NOTE] if any(entry.against_best for entry in own) else []
    return told + ([ORACLE] if any(entry.uses_true_labels for entry in own) else [])


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
    """Metrics down, generators across."""
    methods = list(dict.fromkeys(entry.method for entry in own))
    found = {(entry.name, entry.method): entry for entry in own}
    heads = [head for method in methods for head in (method, "published")]
    rows = []
    for name in dict.fromkeys(entry.name for entry in own):
        each = [found.get((name, method)) for method in methods]
        rows.append(_markdown_row([name, *(text for e in each for text in (shown_sample(e), shown_published(e)))]))
    return [_markdown_row(["metric", *heads]), _markdown_row(["---", *["---:"] * len(heads)]), *rows]


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
