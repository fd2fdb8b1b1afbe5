"""The results in a benchmark's folder as a Markdown table for the documentation, and as one small JSON file.

    python experiments/grid_table.py DIR [--json FILE]

DIR is the folder of a `dmis benchmark`. One line per method or variant, one column per setting and images per class:
mean and 95 % interval over the sets of all seeds, or over the networks where there is one set (in brackets: the number
of sets). Cells that are missing or failed are left out and counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from condense.evaluate.results import Entry, Result, entries, read_csv
from condense.machine import machine


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    results = read_csv(asked.folder / "results.csv")
    print(table(entries(results)))
    if left := sum(result.status != "done" for result in results):
        print(f"\n{left} of {len(results)} cells are missing or failed.")
    if asked.json is not None:
        told = {"machine": machine(), "cells": [_cell(result) for result in results if result.status == "done"]}
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def table(found: Sequence[Entry]) -> str:
    """Markdown, methods in the order of the recipe."""
    columns = list(dict.fromkeys((entry.setting, entry.ipc) for entry in found))
    cells = {(entry.label, entry.setting, entry.ipc): _shown(entry) for entry in found}
    lines = [
        "| | " + " | ".join(f"{setting}, IPC {ipc}" for setting, ipc in columns) + " |",
        "|---" + "|---:" * len(columns) + "|",
    ]
    for label in dict.fromkeys(entry.label for entry in found):
        shown = [cells.get((label, *column), "–") for column in columns]
        lines.append(f"| {label} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _shown(entry: Entry) -> str:
    if entry.summary is None:
        return "–"
    spread = "" if entry.summary.ci95 is None else f" ± {entry.summary.ci95:.1f}"
    return f"{entry.summary.mean:.1f}{spread} ({entry.num_sets})"


def _cell(result: Result) -> dict[str, object]:
    return {
        "setting": result.setting,
        "method": result.label,
        "ipc": result.ipc,
        "seed": result.seed,
        "protocol": result.protocol,
        "network": result.network,
        "accuracies": list(result.accuracies),
        "seconds": result.seconds,
        "labels_recovered": result.labels_recovered,
        "classifier_accuracy": result.classifier_accuracy,
    }


if __name__ == "__main__":
    main()
