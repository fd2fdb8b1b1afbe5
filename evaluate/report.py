"""The demo's report: one self-contained HTML file, laid out for phones and for printing too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from condense.data.types import Images, Mask
from condense.evaluate import figures
from condense.evaluate.page import class_rows, render
from condense.files import atomic_write_text


@dataclass(frozen=True, eq=False)
class DemoReport:
    """Contents of the demo's report.

    Attributes:
        title: heading of the report.
        settings: (name, value) pairs, as text.
        classes: c class names.
        real_images: uint8 [c·k, H, W, C], k training images for each given label, class-major.
        real_wrong: bool [c·k], images whose given label is wrong.
        synthetic: uint8 [c·ipc, H, W, C] for each method, class-major.
        ipc: images per class of the condensed sets.
        given_confusion: counts int [c, c], rows are true classes, columns given labels.
        recovered_confusion: counts int [c, c], rows are true classes, columns recovered labels.
        classifier_accuracy: test accuracy in percent of each generator used as a classifier.
        labels_recovered: percentage of training labels that are right after recovery.
        condensed_accuracy: for each method (mean, half width of the 95 % interval or None), in percent.
        seconds: duration of the demo.
        commands: shell commands that reproduce the demo.
    """

    title: str
    settings: Sequence[tuple[str, str]]
    classes: Sequence[str]
    real_images: Images
    real_wrong: Mask
    synthetic: Mapping[str, Images]
    ipc: int
    given_confusion: npt.NDArray[np.integer]
    recovered_confusion: npt.NDArray[np.integer]
    classifier_accuracy: Mapping[str, float]
    labels_recovered: float
    condensed_accuracy: Mapping[str, tuple[float, float | None]]
    seconds: float
    commands: Sequence[str]


def write_demo_report(path: Path, report: DemoReport) -> None:
    """Write `report` as one self-contained HTML file; raises as `atomic_path`."""
    atomic_write_text(path, render_demo_report(report))


def render_demo_report(report: DemoReport) -> str:
    """The HTML text of `report`."""
    given = report.given_confusion
    return render(
        "demo_report.html.j2",
        report=report,
        labels_wrong=100 * (1 - given.trace() / given.sum()),
        real_rows=class_rows(report.real_images, report.classes, report.real_wrong),
        synthetic={name: class_rows(images, report.classes) for name, images in report.synthetic.items()},
        bars=figures.figure_data_uri(figures.accuracy_bars(report.condensed_accuracy)),
        given=figures.figure_data_uri(figures.confusion(given, report.classes, across="given label")),
        recovered=figures.figure_data_uri(
            figures.confusion(report.recovered_confusion, report.classes, across="recovered label")
        ),
    )
