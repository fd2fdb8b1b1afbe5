"""The page on which a person reviews suggested labels: one HTML file that needs no server or network access.

The browser keeps decisions under the fingerprints of images and labels until they are saved as `decisions.json`, for
`dmis relabel --apply`, or directly as `labels.csv`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from condense.data.label_cells import write_candidates
from condense.evaluate.page import render
from condense.files import atomic_write_text
from condense.run import JSON
from condense.text import to_cell, visible

MOST_IN_MATRIX = 20  # classes; with more, the most likely confusions are listed instead
MOST_CONFUSIONS = 20


@dataclass(frozen=True)
class Item:
    """One image to review.

    Attributes:
        row: its index among the training images.
        file: its file, or its index.
        picture: a data URI, or None if the page had no room for it.
        original: a URL relative to the page, or None.
        given: given classes; empty without a label.
        suggested: the class suggested in their place.
        likeliest: (class, probability in [0, 1]), most likely first.
        likely_wrong: whether the given label is likely wrong.
        outlier: whether the image is unlike all others.
        twins: items that are near-duplicates of it, if labels among them differ.
        true: its true class, None if unknown.
    """

    row: int
    file: str
    picture: str | None
    original: str | None
    given: Sequence[int]
    suggested: int
    likeliest: Sequence[tuple[int, float]]
    likely_wrong: bool
    outlier: bool
    twins: Sequence[int]
    true: int | None


@dataclass(frozen=True)
class ClassNoise:
    """Estimated noise in the labels of one class.

    Attributes:
        given: number of images with this one label.
        likely_wrong: number of these whose label is likely wrong.
        share_wrong: expected fraction of wrong labels among them, in [0, 1]; None without such images.
        confused_with: most frequent suggestion for the likely wrong ones; None without any.
        suggested: number of images for which this class is suggested.
    """

    given: int
    likely_wrong: int
    share_wrong: float | None
    confused_with: int | None
    suggested: int


@dataclass(frozen=True, eq=False)
class ReviewPage:
    """Contents of the page.

    Attributes:
        title: heading.
        told: `Relabelling.to_json`.
        data: identity of the data that decisions apply to, as in a decisions file.
        rows: for every training image (file, label, trusted) as cells of a table.
        classes: c names.
        items: images to review, most suspicious first.
        left_out: number of suggestions that are not on the page.
        noise: estimated noise of each class.
        transition: estimated T [c, c], rows are true classes.
        settings: (name, value) pairs, as text.
        apply_command: shell command that applies saved decisions.
    """

    title: str
    told: Mapping[str, Any]
    data: Mapping[str, JSON]
    rows: Sequence[tuple[str, str, str]]
    classes: Sequence[str]
    items: Sequence[Item]
    left_out: int
    noise: Sequence[ClassNoise]
    transition: npt.NDArray[np.floating]
    settings: Sequence[tuple[str, str]]
    apply_command: str


def write_review_page(path: Path, page: ReviewPage) -> None:
    """Write the page as one HTML file; raises as `atomic_path`."""
    atomic_write_text(path, render_review_page(page))


def render_review_page(page: ReviewPage) -> str:
    """The HTML text of the page."""
    return render(
        "review_page.html.j2",
        page=page,
        told=page.told,
        names=[visible(name) for name in page.classes],
        confusions=confusions(page.transition),
        matrix=len(page.classes) <= MOST_IN_MATRIX,
        state=_embedded(_state(page)),
        script=files("condense.evaluate").joinpath("review_page.js").read_text("utf-8"),
    )


def confusions(transition: npt.NDArray[np.floating]) -> list[tuple[int, int, float]]:
    """(class, label, fraction) of the most frequent wrong labels, in descending order, down to 0.5 %."""
    wrong = np.array(transition, dtype=np.float64)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(place), len(wrong)) for place in order]
    return [(y, z, float(wrong[y, z])) for y, z in pairs if wrong[y, z] >= 0.005]


def _state(page: ReviewPage) -> dict[str, JSON]:
    """Data for the page's script; table cells are formatted here, so that the script only joins them."""
    return {
        "data": page.data,
        "classes": [visible(name) for name in page.classes],
        "names": list(page.classes),
        "cells": [_cells([to_cell(write_candidates([name]))]) for name in page.classes],
        "rows": [[_cells([file]), _cells([label]), trusted] for file, label, trusted in page.rows],
        "items": [
            {
                "row": item.row,
                "file": item.file,
                "shown": visible(item.file),
                "picture": item.picture,
                "original": item.original,
                "given": list(item.given),
                "suggested": item.suggested,
                "likeliest": [[y, round(probability, 4)] for y, probability in item.likeliest],
                "wrong": item.likely_wrong,
                "outlier": item.outlier,
                "twins": list(item.twins),
                "true": item.true,
            }
            for item in page.items
        ],
    }


def _cells(row: Sequence[str]) -> str:
    """Cells as a CSV line, without its line end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([*row, ""])  # a lone empty cell would be quoted
    return text.getvalue()[:-1]


def _embedded(value: object) -> str:
    """A value as JSON for a script element, escaped so that it cannot end the element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
