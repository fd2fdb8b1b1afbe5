"""Published numbers to compare with ours, read from the tables in `reference/*.csv`.

| file              | source                                                                                 |
|-------------------|----------------------------------------------------------------------------------------|
| dmis_paper.csv    | "Learning Robust Diffusion Models from Imprecise Supervision", arXiv 2510.03016; the   |
|                   | column `table` is the number of its table                                              |
| rdc_paper.csv     | the main table of RDC (ICCV 2025): CIFAR-10, ResNet-18 for condensing and for testing  |
| dc_dsa_papers.csv | table 1 of DC and of DSA, as their public code repeats it: true labels, ConvNet-3      |

Of the first paper, tables 1, 2, 3, 8, 9 and 13 are included. Tables 5 to 7 and 11 are not: neither their numbers nor
the meaning of their rows was available.

Treat a number as accurate to within several points: the first paper does not state epochs, learning rate, augmentation
or label type of its test networks, some cells disagree between its tables, and "40 % asymmetric" means different
fractions of wrong labels in the two papers. They are for orientation; a fair comparison runs both methods.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

CAUTION = "As printed in the papers, under protocols that differ from ours: accurate to several points at best."

_DATA = {"Fashion-MNIST": "fashion-mnist", "CIFAR-10": "cifar10", "ImageNette": "imagenette"}
_NOISE = {
    "clean": "none",
    "sym-20": "sym:0.2",
    "sym-40": "sym:0.4",
    "asym-40": "asym:0.4",
    "pairflip-20": "pair:0.2",
    "pairflip-40": "pair:0.4",
    "partial-random": "partial:0.5",
    "partial-class": "class-partial",
    "unlabeled-1": "unlabeled:0.01",
    "unlabeled-10": "unlabeled:0.1",
    "instance-dependent": "instance:0.4",
}


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        paper: arXiv number of the paper, or venue and name.
        table: number of the table in the paper.
        task: "condensation", "generation", "weak-supervision" or "real-world".
        data: name of the data set in `condense.data.sources`.
        noise: noise in the notation of `condense.data.corrupt`, or the paper's name for human labels.
        ipc: images per class; None where nothing was condensed.
        method: the paper's name for the method.
        network: the network tested; None if the paper does not state it.
        metric: "accuracy" in percent, "FID", "IS", …
        mean: the number.
        std: the deviation printed beside it, if any.
    """

    paper: str
    table: str
    task: str
    data: str
    noise: str
    ipc: int | None
    method: str
    network: str | None
    metric: str
    mean: float
    std: float | None


@functools.cache
def published() -> tuple[Published, ...]:
    """All numbers, in the order of the files."""
    return (*_dmis_paper(), *_rdc_paper(), *_dc_and_dsa_papers())


def find(
    data: str,
    noise: str,
    method: str,
    *,
    ipc: int | None = None,
    network: str | None = None,
    task: str = "condensation",
    metric: str = "accuracy",
) -> Published | None:
    """The published number for a cell, the DMIS paper's before others; None if there is none.

    Args:
        data: as in `Published`.
        noise: as in `Published`.
        method: in our spelling or the paper's; case is ignored.
        ipc: images per class; None where nothing was condensed.
        network: network to match; any when None.
        task: as in `Published`.
        metric: as in `Published`.
    """
    return next(
        (
            number
            for number in published()
            if (number.data, number.noise, number.ipc) == (data, noise, ipc)
            and (number.task, number.metric) == (task, metric)
            and number.method.casefold() == method.casefold()
            and network in (None, number.network)
        ),
        None,
    )


def _dmis_paper() -> Iterator[Published]:
    for row in _rows("dmis_paper.csv"):
        yield Published(
            paper="arXiv 2510.03016",
            table=row["table"],
            task=row["task"],
            data=_DATA[row["dataset"]],
            noise=_NOISE.get(row["setting"], row["setting"]),
            ipc=int(row["ipc"]) if row["ipc"] else None,
            method=row["method"],
            network="resnet34" if row["task"] == "condensation" else None,
            metric=row["metric"],
            mean=float(row["mean"]),
            std=float(row["std"]) if row["std"] else None,
        )


def _rdc_paper() -> Iterator[Published]:
    for row in _rows("rdc_paper.csv"):
        condensed = row["ipc"] != "full"
        yield Published(
            paper="RDC, ICCV 2025",
            table="main",
            task="condensation" if condensed else "weak-supervision",
            data=_DATA[row["dataset"]],
            noise=_NOISE.get(row["setting"], row["setting"]),
            ipc=int(row["ipc"]) if condensed else None,
            method=row["method"],
            network="resnet18",
            metric="accuracy",
            mean=float(row["accuracy"]),
            std=None,
        )


def _dc_and_dsa_papers() -> Iterator[Published]:
    for row in _rows("dc_dsa_papers.csv"):
        yield Published(
            paper=row["paper"],
            table="1",
            task="condensation",
            data=_DATA[row["dataset"]],
            noise="none",
            ipc=int(row["ipc"]),
            method=row["method"],
            network="convnet3",
            metric="accuracy",
            mean=float(row["accuracy"]),
            std=None,
        )


def _rows(name: str) -> Iterator[Mapping[str, str]]:
    text = files("condense.evaluate").joinpath("reference", name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())
