"""The page of suspicious images: those whose label is likely wrong, the surest first, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense.data.types import Images
from condense.evaluate import figures
from condense.evaluate.page import render
from condense.files import atomic_write_text


@dataclass(frozen=True, eq=False)
class Suspect:
    """One image.

    Attributes:
        image: uint8 [H, W, 1 or 3].
        file: where it lies.
        given: its label or candidates.
        suggested: the class suggested in their place.
        confidence: probability of that class, in [0, 1].
        true: its true class, None where that is not known.
    """

    image: Images
    file: str
    given: str
    suggested: str
    confidence: float
    true: str | None


@dataclass(frozen=True, eq=False)
class RelabelReport:
    """What the page shows.

    Attributes:
        title: heading.
        images: number of images.
        would_change: number of them whose label would be another.
        likely_wrong: number of them whose label is likely wrong.
        found: shares in [0, 1] by name (wrong, precision, recall, auroc, right_before, right_after) or None.
        suspects: images to look at, the most suspicious first.
        classes: c class names.
        transition: estimated T [c, c], rows = true class.
        settings: (name, value) pairs, as text.
        labels_file: path of the table.
    """

    title: str
    images: int
    would_change: int
    likely_wrong: int
    found: Mapping[str, float | None] | None
    suspects: Sequence[Suspect]
    classes: Sequence[str]
    transition: npt.NDArray[np.float64]
    settings: Sequence[tuple[str, str]]
    labels_file: str


def write_relabel_report(path: Path, report: RelabelReport) -> None:
    """Write `report` as one HTML file that refers to nothing outside itself; raises as `atomic_path`."""
    atomic_write_text(path, render_relabel_report(report))


def render_relabel_report(report: RelabelReport) -> str:
    """The HTML text of `report`."""
    parts = np.rint(10_000 * report.transition).astype(np.int64)
    return render(
        "relabel_report.html.j2",
        report=report,
        cards=[(figures.png_data_uri(suspect.image), suspect) for suspect in report.suspects],
        transition=figures.figure_data_uri(
            figures.confusion(parts, report.classes, across="given label", down="class by the generator")
        ),
    )
