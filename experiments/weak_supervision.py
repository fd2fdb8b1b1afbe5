"""Classifiers under eight kinds of imprecise labels: one table, after the DMIS paper's Table 2.

Runs `dmis classify` for every setting and prints Markdown: mean test accuracy in percent, 95 % interval over the
seeds; in brackets the number of seeds if fewer than requested. Results lie in OUT/SETTING, one file per arm and
seed; another run computes what is missing, and --show only prints existing results. docs/weak-supervision.md is
made by

    python experiments/weak_supervision.py OUT --seeds 3
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from condense.classifiers import arms
from condense.commands.classify import Asked, classify
from condense.evaluate.reference import find
from condense.evaluate.stats import summarise
from condense.pipeline.classify import ALL, OF_GENERATORS
from condense.pipeline.plan import Request

SETTINGS = {
    "sym": "sym:0.4",
    "asym": "asym:0.4",
    "instance": "instance:0.4",
    "partial": "partial:0.5",
    "class": "class-partial",
    "few1": "unlabeled:0.01",
    "few10": "unlabeled:0.1",
    "mix": "mix:clean=0.1,sym:0.4=0.4,partial:0.5=0.3,unlabeled=0.2",
}
ORDER = (
    *("ce", "mixup", "gce", "elr", "co-teaching", "pencil"),
    *("cc", "proden", "idgp", "pico", "crdpll", "dirk"),
    *("pseudo-label", "mean-teacher", "fixmatch", "dash", "comatch", "flexmatch", "simmatch", "softmatch"),
)
KNOWN = {"asym": ("co-teaching.noise_rate=0.16",)}  # four of ten digits are mistaken; 0.4 is the arm's default
BUDGET = ("fit.network=mlp", "fit.epochs=100", 'fit.augment=""')


def accuracies(folder: Path, arm: str, seeds: int) -> list[float]:
    """The existing accuracies of an arm in a setting, in percent."""
    files = [folder / f"{arm}-{seed}.json" for seed in range(seeds)]
    return [json.loads(file.read_text())["accuracy"] for file in files if file.exists()]


def cell(values: list[float], seeds: int) -> str:
    """E.g. "92.5 ± 0.4", "92.5 (1)"."""
    if not values:
        return "–"
    summary = summarise(values)
    spread = "" if summary.ci95 is None else f" ± {summary.ci95:.1f}"
    return f"{summary.mean:.1f}{spread}" + ("" if len(values) == seeds else f" ({len(values)})")


def row(name: str, cells: list[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join([name, *cells]) + " |"


def table(out: Path, seeds: int) -> None:
    """Arms down, settings across."""
    print(row("", list(SETTINGS)) + "\n" + row("---", ["---:"] * len(SETTINGS)))
    for arm in (*ORDER, *OF_GENERATORS):
        print(row(arm, [cell(accuracies(out / name, arm, seeds), seeds) for name in SETTINGS]))


def published(data: str) -> None:
    """The same for the paper's numbers, with the rows it has."""
    print(row("published", list(SETTINGS)) + "\n" + row("---", ["---:"] * len(SETTINGS)))
    for arm in (*ORDER, *OF_GENERATORS):
        numbers = [find(data, noise, arm, task="weak-supervision") for noise in SETTINGS.values()]
        if any(numbers):
            print(row(arm, ["–" if number is None else f"{number.mean:.1f}" for number in numbers]))


def main() -> None:
    """Compute what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arm", action="append", help="repeatable; all that take the labels by default")
    parser.add_argument("--setting", action="append", choices=SETTINGS, help="column to do, repeatable; all by default")
    parser.add_argument("--set", dest="settings", action="append", help="over the budget here, as of dmis classify")
    parser.add_argument("--show", action="store_true", help="print what is there")
    asked = parser.parse_args()
    assert sorted(ORDER) == list(arms.names())
    for name in () if asked.show else asked.setting or SETTINGS:
        settings = (*BUDGET, *KNOWN.get(name, ()), *(asked.settings or ()))
        request = Request(named={"data": {"name": asked.data, "noise": SETTINGS[name]}})
        classify(request, Asked(asked.arm or [ALL], 0, asked.seeds, (), settings), out=asked.out / name, progress=True)
    table(asked.out, asked.seeds)
    print()
    published("fashion-mnist" if asked.data == "digits" else asked.data)


if __name__ == "__main__":
    main()
