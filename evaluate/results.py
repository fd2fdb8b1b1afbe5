"""The cells of a benchmark as lines of a CSV file, and as a table of methods over their seeds."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from condense.errors import UserError
from condense.evaluate.comparisons import Against, BySeed, against, every_pair
from condense.evaluate.reference import Published, find
from condense.evaluate.stats import Paired, Summary, summarise, summarise_nested
from condense.files import atomic_write_text

Status = Literal["done", "failed", "missing"]


@dataclass(frozen=True)
class Result:
    """One cell: what was asked for, and how it ended. Accuracies are in percent.

    Attributes:
        cell: name of its folder.
        setting: data, size and noise in one name.
        method: how the set was made; NAME@VARIANT where a method is there with several options.
        data: name or path of the data set.
        noise: injected into its labels.
        ipc: images per class.
        seed: of the making and the scoring.
        clean_first: who repaired the labels beforehand.
        protocol: how networks were trained on the set.
        network: which.
        status: "missing" before it has been run to its end.
        accuracies: one a network.
        mean: of them.
        std: their sample standard deviation; None for one network.
        ci95: half width of the 95 % interval; None for one network.
        seconds: to make the set, training included.
        peak_memory_bytes: while making it; None where the method did not measure it.
        bytes: size of the set's file.
        labels_recovered: share of training labels right after the generator, or who repaired them, saw them.
        classifier_accuracy: on test images, of the generator itself.
        error: why it failed.
    """

    cell: str
    setting: str
    method: str
    data: str
    noise: str
    ipc: int
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

    @property
    def label(self) -> str:
        """The method, and who repaired its labels: "dm" or "dm, labels by oracle"."""
        return self.method if self.clean_first == "none" else f"{self.method}, labels by {self.clean_first}"

    @property
    def uses_true_labels(self) -> bool:
        """Whether it was made with true labels: a bound for other methods, not a rival."""
        return self.clean_first == "oracle"


COLUMNS = tuple(field.name for field in dataclasses.fields(Result))
_WHOLE = {"ipc", "seed", "peak_memory_bytes", "bytes"}
_REAL = {"mean", "std", "ci95", "seconds", "labels_recovered", "classifier_accuracy"}


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write one line a cell; accuracies are separated by blanks, what is not known is empty. Raises `atomic_path`'s."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in results:
        line = dataclasses.asdict(result)
        writer.writerow(line | {"accuracies": " ".join(map(repr, result.accuracies))})
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
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read as a benchmark's results ({error}); make it anew.") from error


def _result(line: dict[str, str]) -> Result:
    values: dict[str, object] = dict(line)
    values |= {name: int(line[name]) if line[name] else None for name in _WHOLE}
    values |= {name: float(line[name]) if line[name] else None for name in _REAL}
    values["accuracies"] = tuple(map(float, line["accuracies"].split()))
    return Result(**values)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Entry:
    """One method at one setting and size, over all seeds.

    Attributes:
        label: the method, and who repaired its labels.
        method: the method.
        setting: data, size and noise in one name.
        ipc: images per class.
        summary: accuracy in percent over the sets of all seeds, see `stats.summarise_nested`, or over the networks of
            the only one; None where no cell is done.
        num_sets: cells that are done.
        num_failed: cells that failed.
        seconds: to make a set, mean over the cells.
        uses_true_labels: whether true labels went into it.
        best: whether no other method has a higher mean at this setting and size, those with true labels left out.
        against_best: how it fares against that one, seed by seed; None for itself and below three common seeds.
        published: the number printed for it in a paper, if there is one.
    """

    label: str
    method: str
    setting: str
    ipc: int
    summary: Summary | None
    num_sets: int
    num_failed: int
    seconds: float | None
    uses_true_labels: bool
    best: bool
    against_best: Against | None
    published: Published | None


def entries(results: Sequence[Result]) -> list[Entry]:
    """One entry for each method, setting and size, in the order of the results."""
    groups: dict[tuple[str, str, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.label, result.setting, result.ipc), []).append(result)
    made = [_entry(group) for group in groups.values()]
    columns = {
        column: _judged([entry for entry in made if (entry.setting, entry.ipc) == column], scores)
        for column, scores in _by_seed(results).items()
    }
    return [columns[(entry.setting, entry.ipc)][entry.label] for entry in made]


def comparisons(results: Sequence[Result]) -> list[dict[str, str | int | float | None]]:
    """Every two methods of a setting and size over the seeds both have, two at least; p-values are not corrected."""
    return [
        {"setting": setting, "ipc": ipc, "a": a, "b": b, **dataclasses.asdict(paired)}
        for (setting, ipc), scores in _by_seed(results).items()
        for a, b, paired in every_pair(scores)
    ]


def write_comparisons(path: Path, results: Sequence[Result]) -> None:
    """Write `comparisons` as CSV, what is not known is empty. Raises `atomic_path`'s."""
    text = io.StringIO()
    columns = ("setting", "ipc", "a", "b", *(field.name for field in dataclasses.fields(Paired)))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(comparisons(results))
    atomic_write_text(path, text.getvalue())


def _by_seed(results: Sequence[Result]) -> dict[tuple[str, int], dict[str, dict[int, float]]]:
    """By setting and size, then method, then seed: the mean accuracy of the set; methods without any are there."""
    found: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    for result in results:
        own = found.setdefault((result.setting, result.ipc), {}).setdefault(result.label, {})
        if result.status == "done" and result.accuracies:
            own[result.seed] = sum(result.accuracies) / len(result.accuracies)
    return found


def _judged(own: Sequence[Entry], scores: BySeed) -> dict[str, Entry]:
    """The entries of a setting and size with the best marked and the others compared with it, by label."""
    rivals = [(entry.summary.mean, entry.label) for entry in own if entry.summary and not entry.uses_true_labels]
    highest, best = max(rivals, key=lambda rival: rival[0], default=(None, None))
    found = {} if best is None else against(scores, best)
    return {
        entry.label: dataclasses.replace(
            entry,
            best=not entry.uses_true_labels and entry.summary is not None and entry.summary.mean == highest,
            against_best=found.get(entry.label),
        )
        for entry in own
    }


def _entry(group: Sequence[Result]) -> Entry:
    first, done = group[0], [result for result in group if result.status == "done"]
    accuracies = [result.accuracies for result in done if result.accuracies]
    seconds = [result.seconds for result in done if result.seconds is not None]
    return Entry(
        label=first.label,
        method=first.method,
        setting=first.setting,
        ipc=first.ipc,
        summary=_summary(accuracies) if accuracies else None,
        num_sets=len(done),
        num_failed=sum(result.status == "failed" for result in group),
        seconds=sum(seconds) / len(seconds) if seconds else None,
        uses_true_labels=first.uses_true_labels,
        best=False,
        against_best=None,
        published=_published(first) if first.clean_first == "none" else None,
    )


def _summary(accuracies: Sequence[Sequence[float]]) -> Summary:
    """Over the sets of all seeds; where there is one set, over its networks."""
    if len(accuracies) == 1:
        return summarise(accuracies[0])
    nested = summarise_nested(accuracies)
    return Summary(nested.mean, nested.std_between, nested.ci95)


def _published(result: Result) -> Published | None:
    """A paper's number, of the same network where there is one; a variant's is its method's."""
    method = result.method.partition("@")[0]
    same = find(result.data, result.noise, method, ipc=result.ipc, network=result.network)
    return same or find(result.data, result.noise, method, ipc=result.ipc)
