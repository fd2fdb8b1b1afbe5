"""The cells of a benchmark as rows of a CSV file, and as a table of methods over their seeds.

Methods are compared only within a column: one setting and size, and sets scored alike, by the same protocol, network,
kind of labels and packing.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from condense.errors import UserError, in_short
from condense.evaluate.comparisons import Against, BySeed, against, every_pair
from condense.evaluate.reference import Published, find
from condense.evaluate.stats import Paired, Summary, summarise, summarise_nested
from condense.files import atomic_write_text
from condense.text import from_cell, to_cell

REFERENCE = "all images"
"""In place of a method's name: networks on all real images, a reference rather than a competitor."""
Status = Literal["done", "failed", "missing"]
Over = Literal["noise", "sets", "networks"]
Column = tuple[str, str, int | None]  # setting, way of scoring, images per class
TaskName = Literal["condensation", "generation", "weak-supervision"]
"""The task of a cell: make and score a set, measure a generator's samples, or test a classifier."""


@dataclass(frozen=True)
class Measured:
    """One metric of a generator's samples.

    Attributes:
        metric: its key in the result of `quality`, e.g. "FD", "Density k=5".
        name: full name by `features.metric_name`, e.g. "FD (convnet, 1000 vs 1297)".
        value: the value; None if undefined.
    """

    metric: str
    name: str
    value: float | None


@dataclass(frozen=True)
class Result:
    """One cell: its request and its outcome. Accuracies are in percent.

    Attributes:
        cell: name of its folder.
        setting: data, size and noise in one name.
        method: method that made the set.
        data: name or path of the data set.
        noise: noise injected into its labels.
        ipc: images per class; None where no set was made.
        seed: seed of making and scoring the set.
        clean_first: labeller that repaired the labels beforehand.
        protocol: how networks were trained on the set; empty where no set was made.
        network: architecture of these networks.
        status: "done", "failed" or "missing", i.e. not yet run to its end.
        accuracies: one per network.
        mean: mean of the accuracies.
        std: their sample standard deviation; None for one network.
        ci95: half width of the 95 % interval; None for one network.
        seconds: time to make the set, training included.
        peak_memory_bytes: peak memory while making it; None if the method did not measure it.
        bytes: size of the set's file.
        labels_recovered: percentage of training labels right after recovery by the generator or the labeller.
        classifier_accuracy: test accuracy of the generator itself, used as a classifier.
        error: why it failed.
        task: task of the cell.
        measured: metrics of a generator's samples.
        published_data: data set of the published numbers to compare with; `data` when empty.
        published_noise: noise of these numbers; `noise` when empty.
        row: name in tables, if a benchmark has the method with several options; the method when empty.
        noise_seed: seed of the label noise; `seed` when None.
        protocol_version: version of the protocol.
        labels: training targets: "hard" class labels, stored "soft" ones, or those of an "online" teacher.
        packing: number of pictures in one stored image; training separates them, except in RDED's collages.
        worst_class: mean over the networks of each one's lowest accuracy on a class.
        coverage: fraction of each class's real images covered by the set, mean over classes, see `pixel_coverage`.
        training_bytes: uncompressed size of all training needs: images, labels, weights, an online teacher's network.
        sha256: SHA-256 of the set.
    """

    cell: str
    setting: str
    method: str
    data: str
    noise: str
    ipc: int | None
    seed: int
    clean_first: str
    protocol: str
    network: str
    status: Status
    accuracies: tuple[float, ...] = ()
    mean: float | None = None
    std: float | None = None
    ci95: float | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    bytes: int | None = None
    labels_recovered: float | None = None
    classifier_accuracy: float | None = None
    error: str = ""
    task: TaskName = "condensation"
    measured: tuple[Measured, ...] = ()
    published_data: str = ""
    published_noise: str = ""
    row: str = ""
    noise_seed: int | None = None
    protocol_version: int = 1
    labels: str = "hard"
    packing: int = 1
    worst_class: float | None = None
    coverage: float | None = None
    training_bytes: int | None = None
    sha256: str = ""

    @property
    def label(self) -> str:
        """The row's name with its labeller, if any: "dm" or "dm, labels by oracle"."""
        name = self.row or self.method
        return name if self.clean_first == "none" else f"{name}, labels by {self.clean_first}"

    @property
    def judged(self) -> str:
        """How it was scored, empty for a classifier; only results scored alike are compared."""
        if self.task != "condensation":
            return ""
        packed = f", {self.packing} pictures packed into each image" if self.packing > 1 else ""
        labels = {"online": "labels by a teacher asked at every step"}.get(self.labels, f"{self.labels} labels")
        return f"{self.network} by protocol {self.protocol} (version {self.protocol_version}), {labels}{packed}"

    @property
    def uses_true_labels(self) -> bool:
        """Whether it was made with true labels: an upper bound for other methods, not a competitor."""
        return self.clean_first == "oracle"

    @property
    def is_rival(self) -> bool:
        """Whether it may be the best of its column: made without true labels, and not the reference."""
        return not self.uses_true_labels and self.method != REFERENCE


COLUMNS = tuple(field.name for field in dataclasses.fields(Result))
WHOLE = {
    *("ipc", "seed", "peak_memory_bytes", "bytes"),
    *("noise_seed", "protocol_version", "packing", "training_bytes"),
}
"""Columns of whole numbers."""
REAL = {
    *("mean", "std", "ci95", "seconds", "labels_recovered", "classifier_accuracy"),
    *("worst_class", "coverage"),
}
"""Columns of other single numbers."""


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write one line per cell: accuracies separated by spaces, metrics as JSON, unknown values empty.

    Raises as `atomic_path`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in results:
        line = dataclasses.asdict(result)
        measured = json.dumps(line["measured"]) if result.measured else ""
        line |= {"accuracies": " ".join(map(repr, result.accuracies)), "measured": measured}
        writer.writerow({name: to_cell(value) if isinstance(value, str) else value for name, value in line.items()})
    atomic_write_text(path, text.getvalue())


def read_csv(path: Path) -> list[Result]:
    """Read results written by `write_csv`.

    Raises:
        UserError: the file is missing or of another kind.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f"{path} does not have the columns of a benchmark's results; make it again.")
            return [_result(line) for line in reader]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read as a benchmark's results ({in_short(error)}); make it again."
        ) from error


def _result(line: dict[str, str]) -> Result:
    values: dict[str, object] = {name: from_cell(cell) for name, cell in line.items()}
    values |= {name: int(line[name]) if line[name] else None for name in WHOLE}
    values |= {name: float(line[name]) if line[name] else None for name in REAL}
    values["accuracies"] = tuple(map(float, line["accuracies"].split()))
    values["measured"] = tuple(Measured(**entry) for entry in json.loads(line["measured"] or "[]"))
    return Result(**values)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Entry:
    """One method at one setting and size, scored in one way, over all seeds.

    Attributes:
        label: the method and its labeller, if any.
        method: the method.
        setting: data, size and noise in one name.
        judged: protocol, network, kind of labels and packing in one sentence; empty for a classifier.
        ipc: images per class; None for a classifier.
        summary: accuracy in percent, see `over`; None if no cell is done.
        over: units of the interval: draws of the "noise", "sets" made under one draw of it, or only "networks" trained
            on one set, whose interval does not extend to other sets by the same method.
        num_sets: number of finished cells.
        num_networks: maximum number of networks trained on a set.
        num_failed: number of failed cells.
        seconds: time to make a set, mean over the cells.
        worst_class: accuracy in percent on the worst class, mean over the cells.
        coverage: fraction of real images covered by the set, mean over the cells.
        training_bytes: bytes of all training needs, mean over the cells.
        peak_memory_bytes: maximum over the cells of the peak memory to make a set.
        packing: pictures in one stored image.
        labels: "hard", "soft" or "online".
        uses_true_labels: whether it was made with true labels.
        is_rival: whether it may be the best, see `Result.is_rival`.
        best: whether no other rival of its column has a higher mean.
        against_best: comparison with the best, paired by seed; None for itself and below three common seeds.
        published: the published number for it, if there is one.
    """

    label: str
    method: str
    setting: str
    judged: str
    ipc: int | None
    summary: Summary | None
    over: Over
    num_sets: int
    num_networks: int
    num_failed: int
    seconds: float | None
    worst_class: float | None
    coverage: float | None
    training_bytes: float | None
    peak_memory_bytes: float | None
    packing: int
    labels: str
    uses_true_labels: bool
    is_rival: bool
    best: bool
    against_best: Against | None
    published: Published | None


def entries(results: Sequence[Result], task: TaskName = "condensation") -> list[Entry]:
    """One entry for each method, setting, way of scoring and size of a task's cells, in the order of the results."""
    groups: dict[tuple[str, Column], list[Result]] = {}
    alike = as_judged([result for result in results if result.task == task])
    for result in alike:
        groups.setdefault((result.label, column(result)), []).append(result)
    made = [_entry(group) for group in groups.values()]
    judged = {
        place: _judged([entry for entry in made if (entry.setting, entry.judged, entry.ipc) == place], scores)
        for place, scores in _by_seed(alike).items()
    }
    return [judged[(entry.setting, entry.judged, entry.ipc)][entry.label] for entry in made]


def column(result: Result) -> Column:
    """The column of a result; only results of the same column may be compared."""
    return result.setting, result.judged, result.ipc


def as_judged(results: Sequence[Result]) -> list[Result]:
    """Give unfinished cells the labels, packing and protocol version of their method's finished ones."""
    done = {(r.label, r.setting, r.protocol, r.network): r for r in reversed(results) if r.status == "done"}
    return [
        dataclasses.replace(result, labels=like.labels, packing=like.packing, protocol_version=like.protocol_version)
        if result.status != "done"
        and (like := done.get((result.label, result.setting, result.protocol, result.network))) is not None
        else result
        for result in results
    ]


def comparisons(results: Sequence[Result]) -> list[dict[str, str | int | float | None]]:
    """All pairs of methods of a column over their common seeds, at least two; p-values are not corrected."""
    return [
        {"setting": setting, "judged": judged, "ipc": ipc, "a": a, "b": b, **dataclasses.asdict(paired)}
        for (setting, judged, ipc), scores in _by_seed(as_judged(results)).items()
        for a, b, paired in every_pair(scores)
    ]


def write_comparisons(path: Path, results: Sequence[Result]) -> None:
    """Write `comparisons` as CSV; unknown values are empty. Raises as `atomic_path`."""
    text = io.StringIO()
    columns = ("setting", "judged", "ipc", "a", "b", *(field.name for field in dataclasses.fields(Paired)))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for line in comparisons(results):
        writer.writerow({name: to_cell(value) if isinstance(value, str) else value for name, value in line.items()})
    atomic_write_text(path, text.getvalue())


def _by_seed(results: Sequence[Result]) -> dict[Column, dict[str, dict[int, float]]]:
    """Mean accuracy of the sets by column, method and draw of the noise; methods without results stay empty.

    In a column with only one draw of the noise, the last key is the seed of the set.
    """
    found: dict[Column, dict[str, dict[int, list[float]]]] = {}
    draws: dict[Column, set[int]] = {}
    for result in results:
        draws.setdefault(column(result), set()).add(_noise_seed(result))
    for result in results:
        own = found.setdefault(column(result), {}).setdefault(result.label, {})
        if result.status == "done" and result.accuracies:
            seed = _noise_seed(result) if len(draws[column(result)]) > 1 else result.seed
            own.setdefault(seed, []).append(float(np.mean(result.accuracies)))
    return {
        place: {label: {seed: float(np.mean(each)) for seed, each in own.items()} for label, own in scores.items()}
        for place, scores in found.items()
    }


def _noise_seed(result: Result) -> int:
    return result.seed if result.noise_seed is None else result.noise_seed


def _judged(own: Sequence[Entry], scores: BySeed) -> dict[str, Entry]:
    """The entries of a column by label, with the best one marked and the others compared with it."""
    rivals = [(entry.summary.mean, entry.label) for entry in own if entry.summary and entry.is_rival]
    highest, best = max(rivals, key=lambda rival: rival[0], default=(None, None))
    found = {} if best is None else against(scores, best)
    return {
        entry.label: dataclasses.replace(
            entry,
            best=entry.is_rival and entry.summary is not None and entry.summary.mean == highest,
            against_best=found.get(entry.label),
        )
        for entry in own
    }


def _entry(group: Sequence[Result]) -> Entry:
    first, done = group[0], [result for result in group if result.status == "done"]
    summary, over = _summary([result for result in done if result.accuracies])
    memory = [result.peak_memory_bytes for result in done if result.peak_memory_bytes is not None]
    return Entry(
        label=first.label,
        method=first.method,
        setting=first.setting,
        judged=first.judged,
        ipc=first.ipc,
        summary=summary,
        over=over,
        num_sets=len(done),
        num_networks=max((len(result.accuracies) for result in done), default=0),
        num_failed=sum(result.status == "failed" for result in group),
        seconds=_mean([result.seconds for result in done]),
        worst_class=_mean([result.worst_class for result in done]),
        coverage=_mean([result.coverage for result in done]),
        training_bytes=_mean([result.training_bytes for result in done]),
        peak_memory_bytes=max(memory, default=None),
        packing=first.packing,
        labels=first.labels,
        uses_true_labels=first.uses_true_labels,
        is_rival=first.is_rival,
        best=False,
        against_best=None,
        published=beside(first) if first.clean_first == "none" and not first.row else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _summary(done: Sequence[Result]) -> tuple[Summary | None, Over]:
    """Summary over draws of the noise; for one draw, over its sets; for one set, over its networks."""
    draws: dict[int, list[tuple[float, ...]]] = {}
    for result in done:
        draws.setdefault(_noise_seed(result), []).append(result.accuracies)
    sets = [accuracies for own in draws.values() for accuracies in own]
    if not sets:
        return None, "networks"
    if len(sets) == 1:
        return summarise(sets[0]), "networks"
    if len(draws) == len(sets) or len(draws) == 1:
        nested = summarise_nested(sets)
    else:  # several sets of each draw of the noise
        nested = summarise_nested([[float(np.mean(accuracies)) for accuracies in own] for own in draws.values()])
    return Summary(nested.mean, nested.std_between, nested.ci95), "noise" if len(draws) > 1 else "sets"


def beside(result: Result, task: TaskName | None = None, metric: str = "accuracy") -> Published | None:
    """The published number to compare a cell with, for the same network if possible; None if there is none.

    Args:
        result: the cell.
        task: task of the number; the cell's own when None.
        metric: as in `Published`.
    """
    data, noise = result.published_data or result.data, result.published_noise or result.noise
    task = task or result.task
    if task == "condensation":
        same = find(data, noise, result.method, ipc=result.ipc, network=result.network)
        return same or find(data, noise, result.method, ipc=result.ipc)
    tasks = (task, "real-world")
    found = (find(data, noise, result.method, task=each, metric=metric) for each in tasks)
    return next((number for number in found if number is not None), None)
