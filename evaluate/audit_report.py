"""The audit's report: one HTML file with the findings, the confusion matrices and the suspected pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense.data.types import Images, Mask
from condense.evaluate import figures
from condense.evaluate.page import render
from condense.files import atomic_write_text
from condense.run import JSON


@dataclass(frozen=True, eq=False)
class Matrix:
    """A confusion matrix to show: counts [c, c], with labels of the rows (`down`) and columns (`across`)."""

    caption: str
    counts: npt.NDArray[np.int64]
    down: str
    across: str


@dataclass(frozen=True, eq=False)
class FramedPictures:
    """Pictures to show, uint8 [n, H, W, C], `columns` per row; those `marked` (bool [n]) are framed in red."""

    caption: str
    images: Images
    columns: int
    marked: Mask | None


@dataclass(frozen=True, eq=False)
class Doubted:
    """An image uint8 [H, W, C] with a doubted label: its file, its given label and the judge's class.

    `marked`: whether its label is known to be wrong.
    """

    image: Images
    file: str
    given: str
    judged: str
    marked: bool


@dataclass(frozen=True, eq=False)
class AuditReport:
    """Contents of the report.

    Attributes:
        title: heading.
        classes: c class names.
        result: the command's result; lists in it are left out, since the pictures show them.
        matrices: confusion matrices, in order.
        pictures: rows of pictures, in order.
        doubted: a caption, and the images whose label is doubted.
    """

    title: str
    classes: Sequence[str]
    result: Mapping[str, JSON]
    matrices: Sequence[Matrix]
    pictures: Sequence[FramedPictures]
    doubted: tuple[str, Sequence[Doubted]] = ("", ())


def write_audit_report(path: Path, report: AuditReport) -> None:
    """Write `report` as one self-contained HTML file; raises as `atomic_path`."""
    atomic_write_text(path, render_audit_report(report))


def render_audit_report(report: AuditReport) -> str:
    """The HTML text of `report`."""
    matrices = [
        (matrix.caption, figures.figure_data_uri(
            figures.confusion(matrix.counts, report.classes, across=matrix.across, down=matrix.down)
        ))
        for matrix in report.matrices
    ]  # fmt: skip
    pictures = [
        (shown.caption, figures.png_data_uri(figures.picture_rows(shown.images, shown.columns, shown.marked)))
        for shown in report.pictures
    ]
    caption, doubted = report.doubted
    return render(
        "audit_report.html.j2",
        report=report,
        facts=list(_facts(report.result)),
        matrices=matrices,
        pictures=pictures,
        caption=caption,
        cards=[(figures.png_data_uri(each.image), each) for each in doubted],
    )


def _facts(values: Mapping[str, JSON], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values as text; nested names are joined, as in "memorisation: copies"."""
    for name, value in values.items():
        words = prefix + name.replace("_", " ")
        match value:
            case Mapping():
                yield from _facts(value, f"{words}: ")
            case bool():
                yield words, "yes" if value else "no"
            case None:
                yield words, "not known"
            case int():
                yield words, f"{value:,}"
            case float():
                yield words, f"{value:.4g}"
            case str():
                yield words, value
