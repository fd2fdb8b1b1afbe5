"""The cells of a benchmark as lines of a CSV file, and as a table of methods over their seeds.

Methods are held against each other within a column alone: one setting, one size, and sets judged alike, by the same
protocol, network, kind of labels and packing.
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
"""In place of a method: networks on all real images, a bound or a yardstick and no rival."""
Status = Literal["done", "failed", "missing"]
Over = Literal["noise", "sets", "networks"]
Column = tuple[str, str, int | None]  # setting, how judged, images per class
TaskName = Literal["condensation", "generation", "weak-supervision"]
"""What a cell did: made a set and scored it, measured a generator's samples, tested a classifier."""


@dataclass(frozen=True)
class Measured:
    """One metric of a generator's samples.

    Attributes:
        metric: as `quality` calls it, e.g. "FD", "Density k=5".
        name: as `features.metric_name` calls it, e.g. "FD (convnet, 1000 vs 1297)".
        value: None where it is not defined.
    """

    metric: str
    name: str
    value: float | None


@dataclass(frozen=True)
class Result:
    """One cell: what was asked for, and how it ended. Accuracies are in percent.

    Attributes:
        cell: name of its folder.
        setting: data, size and noise in one name.
        method: how the set was made.
        data: name or path of the data set.
        noise: injected into its labels.
        ipc: images per class; None where no set was made.
        seed: of the making and the scoring.
        clean_first: who repaired the labels beforehand.
        protocol: how networks were trained on the set; empty where no set was made.
        network: which.
        status: "missing" before it has been run to its end.
        accuracies: one per network.
        mean: of them.
        std: their sample standard deviation; None for one network.
        ci95: half width of the 95 % interval; None for one network.
        seconds: to make the set, training included.
        peak_memory_bytes: while making it; None where the method did not measure it.
        bytes: size of the set's file.
        labels_recovered: share of training labels right after the generator, or who repaired them, saw them.
        classifier_accuracy: on test images, of the generator itself.
        error: why it failed.
        task: what the cell did.
        measured: metrics of a generator's samples.
        published_data: data set whose published numbers stand beside; `data` when empty.
        published_noise: and the noise; `noise` when empty.
        row: what the method is called in tables, where a benchmark has it with several options; the method when empty.
        noise_seed: of the noise in the labels; the seed when None.
        protocol_version: of the protocol.
        labels: what networks were trained on: "hard" class labels, stored "soft" ones, or an "online" teacher's.
        packing: real or learned pictures that one stored image holds, which training takes apart again.
        worst_class: mean over the networks of the accuracy on the class that each knows least.
        coverage: share of real images of a class that have a set's image of it among their nearest, mean over classes.
        training_bytes: uncompressed, of all that training needs: images, labels, weights, an online teacher's network.
        sha256: of the set.
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
        """The row's name, and who repaired its labels: "dm" or "dm, labels by oracle"."""
        name = self.row or self.method
        return name if self.clean_first == "none" else f"{name}, labels by {self.clean_first}"

    @property
    def judged(self) -> str:
        """How it was judged, empty for a classifier; only results judged alike are compared."""
        if self.task != "condensation":
            return ""
        packed = f", {self.packing} pictures packed into each image" if self.packing > 1 else ""
        labels = {"online": "labels by a teacher asked at every step"}.get(self.labels, f"{self.labels} labels")
        return f"{self.network} by protocol {self.protocol} (version {self.protocol_version}), {labels}{packed}"

    @property
    def uses_true_labels(self) -> bool:
        """Whether it was made with true labels: a bound for other methods, not a rival."""
        return self.clean_first == "oracle"

    @property
    def is_rival(self) -> bool:
        """Whether it may be the best of its column: neither true labels nor all real images went into it."""
        return not self.uses_true_labels and self.method != REFERENCE


COLUMNS = tuple(field.name for field in dataclasses.fields(Result))
_WHOLE = {
    *("ipc", "seed", "peak_memory_bytes", "bytes"),
    *("noise_seed", "protocol_version", "packing", "training_bytes"),
}
_REAL = {
    *("mean", "std", "ci95", "seconds", "labels_recovered", "classifier_accuracy"),
    *("worst_class", "coverage"),
}


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write one line per cell: accuracies separated by blanks, metrics as JSON, empty what is not known.

    Raises `atomic_path`'s.
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
    """What `write_csv` wrote.

    Raises:
        UserError: the file is missing or of another kind.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f"{path} does not have the columns of a benchmark's results; make it anew.")
            return [_result(line) for line in reader]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a benchmark's results ({in_short(error)}); make it anew.") from error


def _result(line: dict[str, str]) -> Result:
    values: dict[str, object] = {name: from_cell(cell) for name, cell in line.items()}
    values |= {name: int(line[name]) if line[name] else None for name in _WHOLE}
    values |= {name: float(line[name]) if line[name] else None for name in _REAL}
    values["accuracies"] = tuple(map(float, line["accuracies"].split()))
    values["measured"] = tuple(Measured(**entry) for entry in json.loads(line["measured"] or "[]"))
    return Result(**values)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Entry:
    """One method at one setting and size, judged in one way, over all seeds.

    Attributes:
        label: the method, and who repaired its labels.
        method: the method.
        setting: data, size and noise in one name.
        judged: protocol, network, kind of labels and packing in one sentence; empty for a classifier.
        ipc: images per class; None for a classifier.
        summary: accuracy in percent, see `over`; None where no cell is done.
        over: what the interval is over: the draws of the "noise", the "sets" made under one draw of it, or only the
            "networks" trained on one set, which tells nothing of another set by the same method.
        num_sets: cells that are done.
        num_networks: trained on each set, at most.
        num_failed: cells that failed.
        seconds: to make a set, mean over the cells.
        worst_class: accuracy in percent on the worst class, mean over the cells.
        coverage: share of real images near the set's, mean over the cells.
        training_bytes: of all that training needs, mean over the cells.
        peak_memory_bytes: the most that making a set took.
        packing: pictures in one stored image.
        labels: "hard", "soft" or "online".
        uses_true_labels: whether true labels went into it.
        is_rival: whether it may be the best: neither true labels nor all real images went into it.
        best: whether no other rival of its column has a higher mean.
        against_best: how it fares against that one, seed by seed; None for itself and below three common seeds.
        published: the number printed for it in a paper, if there is one.
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
    """One entry for each method, setting, way of judging and size of a task's cells, in the order of the results."""
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
    """The results it may be compared with have the same one."""
    return result.setting, result.judged, result.ipc


def as_judged(results: Sequence[Result]) -> list[Result]:
    """Those not done as their method's done ones are judged: a missing cell does not know its labels and packing."""
    done = {(r.label, r.setting, r.protocol, r.network): r for r in reversed(results) if r.status == "done"}
    return [
        dataclasses.replace(result, labels=like.labels, packing=like.packing, protocol_version=like.protocol_version)
        if result.status != "done"
        and (like := done.get((result.label, result.setting, result.protocol, result.network))) is not None
        else result
        for result in results
    ]


def comparisons(results: Sequence[Result]) -> list[dict[str, str | int | float | None]]:
    """Every two methods of a column over the seeds both have, two at least; p-values are not corrected."""
    return [
        {"setting": setting, "judged": judged, "ipc": ipc, "a": a, "b": b, **dataclasses.asdict(paired)}
        for (setting, judged, ipc), scores in _by_seed(as_judged(results)).items()
        for a, b, paired in every_pair(scores)
    ]


def write_comparisons(path: Path, results: Sequence[Result]) -> None:
    """Write `comparisons` as CSV, what is not known is empty. Raises `atomic_path`'s."""
    text = io.StringIO()
    columns = ("setting", "judged", "ipc", "a", "b", *(field.name for field in dataclasses.fields(Paired)))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for line in comparisons(results):
        writer.writerow({name: to_cell(value) if isinstance(value, str) else value for name, value in line.items()})
    atomic_write_text(path, text.getvalue())


def _by_seed(results: Sequence[Result]) -> dict[Column, dict[str, dict[int, float]]]:
    """By column, then method, then draw of the noise: mean accuracy of its sets; methods without any are there.

    Where a column has one draw of the noise only, by seed of the set.
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
    """The entries of a column with the best marked and the others compared with it, by label."""
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
    """Over the draws of the noise; of one draw over its sets; of one set over its networks."""
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
    """A paper's number to stand beside a cell: of the same network where there is one; None where there is none.

    Args:
        result: the cell.
        task: of the number; the cell's own when None.
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
