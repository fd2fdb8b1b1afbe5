"""The leaderboard: one static page, sorted and filtered in the browser, with a plot of accuracy against build minutes.

The file is self-contained; without JavaScript it shows all rows in the order of their accuracy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from condense.evaluate.figures import colours
from condense.evaluate.kept import Kept
from condense.evaluate.page import render
from condense.evaluate.results import Entry, Result, as_judged, column, entries
from condense.evaluate.tables import details, notes, shown
from condense.run import JSON

LEADERBOARD = "leaderboard.html"
SHOWS = (
    "Within one data set, noise, size and way of scoring, this shows which method's sets trained the better networks "
    "in these runs, and how many minutes the sets took to make."
)
SHOWS_NOT = (
    "It does not rank methods scored in different ways, and it says nothing about other data, noise, networks or "
    "budgets. A lead is shown to be real only over methods with a star."
)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 52, 34, 14, 46


@dataclass(frozen=True)
class Dot:
    """A point of the plot: position in pixels, colour, whether it is filled, and tooltip."""

    x: float
    y: float
    colour: str
    filled: bool
    title: str


def render_leaderboard(title: str, kept: Sequence[Kept]) -> str:
    """The HTML text of the page of all condensed sets among the results."""
    own = [one for one in kept if one.result.task == "condensation"]
    table = sorted(
        (entry for entry in entries([one.result for one in own]) if entry.summary is not None),
        key=lambda entry: -entry.summary.mean if entry.summary else 0.0,
    )
    by_entry = _cells(own)
    dots, axes = _plot(table)
    return render(
        "leaderboard.html.j2",
        title=title,
        shows=SHOWS,
        shows_not=SHOWS_NOT,
        rows=[_row(entry, by_entry[_key(entry)], dot) for entry, dot in zip(table, dots, strict=True)],
        axes=axes,
        size=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
        settings=_unique([entry.setting for entry in table]),
        sizes=sorted({entry.ipc for entry in table if entry.ipc is not None}),
        ways=_unique([entry.judged for entry in table]),
        notes=notes(table),
    )


def _key(entry: Entry) -> tuple[str, str, str, int | None]:
    return entry.label, entry.setting, entry.judged, entry.ipc


def _cells(kept: Sequence[Kept]) -> dict[tuple[str, str, str, int | None], list[Kept]]:
    found: dict[tuple[str, str, str, int | None], list[Kept]] = {}
    for one, result in zip(kept, as_judged([one.result for one in kept]), strict=True):
        setting, judged, ipc = column(result)
        found.setdefault((result.label, setting, judged, ipc), []).append(one)
    return found


def _row(entry: Entry, cells: Sequence[Kept], dot: Dot | None) -> dict[str, object]:
    assert entry.summary is not None
    worst, coverage, minutes, memory, size, packing, labels = details(entry)
    return {
        "entry": entry,
        "mean": entry.summary.mean,
        "accuracy": shown(entry),
        "sets": entry.num_sets,
        "worst": worst,
        "coverage": coverage,
        "minutes": minutes,
        "memory": memory,
        "size": size,
        "packing": packing,
        "labels": labels,
        "dot": dot,
        "cells": [_cell(one) for one in cells],
    }


def _cell(one: Kept) -> dict[str, str]:
    result = one.result
    return {
        "name": result.cell,
        "accuracies": ", ".join(f"{value:.1f}" for value in result.accuracies),
        "sha256": result.sha256 or "none, because no set was made",
        "recipe": json.dumps(one.recipe, indent=1),
        "origin": "; ".join(f"{name}: {_plain(value)}" for name, value in _origin(one, result).items()),
    }


def _origin(one: Kept, result: Result) -> Mapping[str, JSON]:
    return {"seed": result.seed, **{name: value for name, value in one.origin.items() if value is not None}}


def _plain(value: JSON) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items() if name != "source")
    return str(value)


def _plot(table: Sequence[Entry]) -> tuple[list[Dot | None], dict[str, list[tuple[float, str]]]]:
    """A dot for each entry with a build time (None for others), minutes on a log axis; and the ticks of both axes.

    The rows of a method share a colour; those of other options than its own row are rings.
    """
    timed = [entry for entry in table if entry.seconds]
    if not timed:
        return [None] * len(table), {"x": [], "y": []}
    minutes = [math.log10(entry.seconds / 60) for entry in timed if entry.seconds]
    means = [entry.summary.mean for entry in timed if entry.summary]
    left, right = math.floor(min(minutes)), max(math.ceil(max(minutes)), math.floor(min(minutes)) + 1)
    low, high = 10 * math.floor(min(means) / 10), min(100, 10 * math.ceil(max(means) / 10 + 1e-9))
    high = max(high, low + 10)

    def across(value: float) -> float:
        return LEFT + (value - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    names = _unique([entry.method for entry in table])
    ink = dict(zip(names, colours(names), strict=True))
    dots = [
        Dot(
            across(math.log10(entry.seconds / 60)),
            up(entry.summary.mean),
            ink[entry.method],
            entry.label == entry.method,
            _told(entry),
        )
        if entry.seconds and entry.summary
        else None
        for entry in table
    ]
    x = [(across(power), f"{10.0**power:g}") for power in range(left, right + 1)]
    return dots, {"x": x, "y": [(up(value), str(value)) for value in range(low, high + 1, 10)]}


def _told(entry: Entry) -> str:
    minutes = (entry.seconds or 0.0) / 60
    return f"{entry.label}, IPC {entry.ipc}, {entry.setting}: {shown(entry)} % after {minutes:.1f} minutes"


def _unique(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))
