"""Human-readable results: short tables on stdout."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from condense import console
from condense.json_values import JSON

if TYPE_CHECKING:
    from condense.benchmark.outcome import Outcome
    from condense.evaluate.mistakes import Mistakes
    from condense.evaluate.sets import Evaluation
    from condense.pipeline.arm_scores import ArmScores
    from condense.pipeline.relabelling import Relabelling

Result = TypeVar("Result")

_MOST_CLASSES, _WORST, _CONFUSIONS = 20, 10, 5  # shown for an evaluation


def answer(command: Callable[[], Result], as_json: bool, show: Callable[[Result], None]) -> None:
    """Call the command and print its result, as JSON with nothing else on stdout, or as a table."""
    with contextlib.redirect_stdout(sys.stderr):
        result = command()
    console.deliver(json.dumps(result, default=_plain) + "\n" if as_json else console.gathered(lambda: show(result)))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return value.to_json()


class Told(Protocol):
    """A result that lists what the command prints."""

    def to_json(self) -> Mapping[str, Any]:
        """Names and values."""
        ...


def told(result: Told) -> None:
    """A result's names and values in two columns."""
    facts(result.to_json())


def facts(values: Mapping[str, Any]) -> None:
    """Names and values in two columns; nested mappings as a.b."""
    rows([(name.replace("_", " "), value) for name, value in _lines(values)])


def rows(lines: Sequence[Sequence[str]]) -> None:
    """A table with columns as wide as their content."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join(cells).rstrip())


def cells(found: Sequence[Mapping[str, str]]) -> None:
    """The cells of a benchmark and the status of each."""
    rows([[cell["status"], cell["cell"]] for cell in found])
    print(f"{len(found)} cells, {sum(cell['status'] != 'done' for cell in found)} to be run")


def benchmarked(outcome: Outcome) -> None:
    """The folder of a benchmark's results, the number of cells done, and the accuracies."""
    table = outcome.table
    facts({name: value for name, value in outcome.to_json().items() if name not in ("comparisons", "table")})
    for setting, judged in dict.fromkeys((row["setting"], row["judged"]) for row in table):
        own = [row for row in table if (row["setting"], row["judged"]) == (setting, judged)]
        sizes = list(dict.fromkeys(row["ipc"] for row in own))
        found = {(row["method"], row["ipc"]): row["accuracy"] for row in own}
        print(f"\n{setting}" + (f", judged by {judged}" if judged else "") + "; test accuracy in percent")
        head = ["", *("accuracy" if size is None else f"IPC {size}" for size in sizes)]
        names = dict.fromkeys(str(row["method"]) for row in own)
        rows([head, *([name, *(str(found.get((name, size), "")) for size in sizes)] for name in names)])


def audit(result: Mapping[str, Any]) -> None:
    """The findings of `dmis audit`: single values, then values per class."""
    facts(_single(result))
    judged = result.get("judged") or {}
    if "share_agreed_per_class" in judged:
        print()
        each = zip(result["classes"], judged["share_agreed_per_class"], judged["images_seen_per_class"], strict=True)
        rows([["class", "label agreed", "images seen as it"], *([name, f"{a:.2f}", str(n)] for name, a, n in each)])
    if "transition" in judged:
        print()
        own = [row[y] for y, row in enumerate(judged["transition"])]
        each = zip(result["classes"], result["labels_per_class"], own, strict=True)
        rows([["class", "labels", "right, estimated"], *([name, str(n), f"{a:.2f}"] for name, n, a in each)])
    if result.get("memorisation", {}).get("flagged"):
        told = result["memorisation"]
        print(f"\nMemorised: {told['copies']} of {result['images']} images are copies of training images.")
    if result.get("averages", {}).get("flagged"):
        told = result["averages"]
        print(
            f"\nAverages: {told['averages']} of {result['images']} images are nearer to an average of two training "
            f"images than {1 - told['share_averaged_real']:.0%} of real images are."
        )


def metrics(result: Mapping[str, Any]) -> None:
    """The result of `dmis metrics`: the images compared, then each metric beside its value for real images."""
    facts({name: value for name, value in _single(result).items() if name not in ("mean", "std", "floor")})
    print()
    several = len(result["sets"]) > 1
    head = ["", f"mean of {len(result['sets'])} sets", "std"] if several else ["", result["sets"][0]["method"]]
    lines = []
    for (name, value), floor in zip(result["mean"].items(), result["floor"].values(), strict=True):
        spread = [_shown(result["std"][name])] if several else []
        lines.append([name, _shown(value), *spread, _shown(floor)])
    rows([[*head, "real images"], *lines])
    _oracle(any(entry["uses_true_labels"] for entry in result["sets"]))


def _single(values: Mapping[str, Any]) -> dict[str, JSON]:
    """The values without lists, which would be too long to read."""
    kept = {name: value for name, value in values.items() if not isinstance(value, list)}
    return {name: _single(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def accuracy(mean: float, ci95: float | None) -> str:
    """E.g. "92.5 ± 0.4 %", with the 95 % interval if there is one."""
    return f"{mean:.1f} %" if ci95 is None else f"{mean:.1f} ± {ci95:.1f} %"


def relabelling(found: Relabelling) -> None:
    """The result of `dmis relabel`: counts, and the transition matrix in percent for up to 20 classes."""
    from condense.pipeline.review import asked

    result: Mapping[str, Any] = found.to_json()
    apart = ("classes", "transition", "asked", "left_out", "found", "without_likelier", "would_fill_in")
    told = {name: value for name, value in result.items() if name not in apart} | {"asked": asked(found)}
    if result["without_likelier"]:
        without = f"{result['without_likelier']:,} without a more likely class"
        told["likely_wrong"] = f"{result['likely_wrong']:,} ({without})"
    if result["would_fill_in"]:
        told["would_fill_in"] = f"{result['would_fill_in']:,} images without one label"
    if result["found"] is not None:
        told["found"] = result["found"]
    facts(told)
    if found.left_out is not None:
        print(f"Limitations – {found.left_out}")
    classes, transition = result["classes"], result["transition"]
    if len(classes) <= 20:
        print("\nEstimated transition matrix: for the images of each class (rows), the percentage with each label.")
        rows(
            [
                ["", *classes],
                *(
                    [name, *(f"{100 * share:.0f}" for share in row)]
                    for name, row in zip(classes, transition, strict=True)
                ),
            ]
        )
    print(f"Next: open {result['report']} in a browser and decide, or train with --labels {result['labels']} as is.")


def applied(result: Mapping[str, Any]) -> None:
    """The file of the reviewed labels, and the number of decisions in it."""
    facts(result)
    print(f"Next: train with --labels {result['labels']}")


def classification(found: ArmScores) -> None:
    """The result of `dmis classify`: a line per arm, with the published number if any, then the arms left out.

    Intervals are over the seeds.
    """
    lines = [
        [
            score.arm,
            accuracy(score.mean, score.ci95),
            "–" if score.published is None else f"{score.published:.1f}",
            f"{score.seconds:.0f} s",
        ]
        for score in found.arms
    ]
    rows([["arm", "test accuracy", "published", "time"], *lines])
    print(
        f"{found.data}, noise {found.noise}; {found.network}, {found.epochs} epochs, "
        f"{len(found.seeds)} seed{'s' if len(found.seeds) > 1 else ''}."
    )
    if found.refused:
        print(f"Left out, as they need other labels: {', '.join(found.refused)}.")


def scores(found: Evaluation) -> None:
    """A line per network; for several sets also the deviations between and within them, and each set's mean."""
    several = len(found.sets) > 1
    names = [str(number) for number in range(1, len(found.sets) + 1)] if several else []
    lines = [
        [
            score.network,
            accuracy(score.mean, score.ci95),
            *([_shown(score.std_between), _shown(score.std)] if several else []),
            *(f"{sum(each) / len(each):.1f}" for _, each in zip(names, score.by_set, strict=False)),
            str(len(score.accuracies)),
            f"{score.seconds:.0f} s",
        ]
        for score in found.scores
    ]
    deviations = ["sd sets", "sd networks"] if several else []
    rows([["network", "test accuracy", *deviations, *names, "networks", "time"], *lines])
    if several:
        print("Sets: " + ", ".join(f"{number} = {name}" for number, name in zip(names, found.sets, strict=True)))
    if (packing := found.scores[0].packing) > 1:
        print(f"{packing} pictures in every stored image; networks trained on {found.scores[0].trained_on} images")
    _tested(found.scores[0].test_data)
    if found.scores[0].mistakes is not None:
        _mistakes(found.scores[0].mistakes, found.scores[0].network)
    _oracle(found.scores[0].uses_true_labels)


def _mistakes(found: Mistakes, network: str) -> None:
    """Accuracy per class, or of the ten worst of many classes, and the most frequent confusions."""
    known = [
        (float(value), name)
        for value, name in zip(found.per_class, found.classes, strict=True)
        if not math.isnan(value)
    ]
    many = len(known) > _MOST_CLASSES
    told = sorted(known)[:_WORST] if many else known
    print(f"\n{network}, {f'the {_WORST} worst of {len(known)} classes' if many else 'each class'}:")
    rows([[name, f"{value:.1f} %"] for value, name in told])
    if found.worst:
        names = found.classes
        pairs = [f"{names[y]} taken for {names[z]} {share:.1f} %" for y, z, share in found.worst[:_CONFUSIONS]]
        print("Most often confused: " + "; ".join(pairs))


def _tested(test_data: str) -> None:
    if test_data:
        print(f"on {test_data}")


def _oracle(used: bool) -> None:
    """The warning about a set made with true labels."""
    if used:
        print("Made with the true labels (oracle): an upper bound from perfect repair, not a competing method.")


def ranking(result: Mapping[str, Any]) -> None:
    """A line per set, best LRS first: DD-Ranking's scores, accuracies as fractions, size and cost."""
    head = ["set", "method", "IPC", "LRS", "ARS", "HLR", "IOR", "accuracy", "random", "real", "ratio", "made in"]
    lines = [
        [
            entry["path"],
            entry["method"] + (" (oracle)" if entry["uses_true_labels"] else ""),
            str(entry["ipc"]),
            *(f"{entry['scores'][name]:.3f}" for name in ("lrs", "ars", "hlr", "ior")),
            *(f"{entry['accuracy'][arm]['mean']:.3f}" for arm in ("own", "random", "real")),
            f"{entry['compression_ratio']:,.1f}",
            f"{entry['cost']['seconds']:,.0f} s",
        ]
        for entry in result["sets"]
    ]
    rows([head, *lines])
    print(
        "LRS and ARS: higher is better. HLR: accuracy lost against all real images as labelled; IOR: accuracy "
        "gained over as many random images. Ratio: bytes of the data per byte of the set, soft labels included."
    )
    _oracle(any(entry["uses_true_labels"] for entry in result["sets"]))


def _lines(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(value)


def _shown(value: object) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        case list() | tuple():
            return ", ".join(map(_shown, value))
        case _:
            return str(value)


def dry_run(result: Mapping[str, Any]) -> None:
    """The resolved recipe as YAML, then its cost."""
    from condense.pipeline.plan import as_yaml

    print(as_yaml(result["recipe"]))
    facts({name: value for name, value in result.items() if name != "recipe"})
