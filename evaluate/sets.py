"""Several sets a method made from the same data: their scores as one, with the variance of sets and of networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from condense.errors import UserError
from condense.evaluate.score import Score
from condense.evaluate.stats import summarise_nested
from condense.run import JSON
from condense.sets.condensed_set import CondensedSet


@dataclass(frozen=True)
class SetsScore:
    """Test accuracies in percent of several networks on each of several sets.

    Attributes:
        mean: of the sets' means.
        std_between: standard deviation of the true means of sets, see `summarise_nested`.
        std_within: standard deviation of networks on one set, None where each has one network.
        ci95: half width of the 95 % interval, whose unit is the set.
        accuracies: for every set, one a network.
        sets: names of the sets.
        protocol: name and every setting.
        network: name of the architecture.
        seconds: wall time of training and testing all of them.
        uses_true_labels: whether the sets were made with true labels: a bound for others, not a rival.
        test_data: what was tested on, as of `Score`.
    """

    mean: float
    std_between: float | None
    std_within: float | None
    ci95: float | None
    accuracies: tuple[tuple[float, ...], ...]
    sets: tuple[str, ...]
    protocol: dict[str, JSON]
    network: str
    seconds: float
    uses_true_labels: bool
    test_data: str = ""

    def to_json(self) -> dict[str, JSON]:
        """All of it, as a JSON object with the attributes' names."""
        return {**asdict(self), "accuracies": [list(each) for each in self.accuracies], "sets": list(self.sets)}


def combine(names: Sequence[str], scores: Sequence[Score]) -> SetsScore:
    """One score of the sets called `names`, from the score of each, all of one network and protocol."""
    accuracies = tuple(score.accuracies for score in scores)
    summary = summarise_nested(accuracies)
    return SetsScore(
        summary.mean,
        summary.std_between,
        summary.std_within,
        summary.ci95,
        accuracies,
        tuple(names),
        scores[0].protocol,
        scores[0].network,
        sum(score.seconds for score in scores),
        scores[0].uses_true_labels,
        scores[0].test_data,
    )


def check_one_method(names: Sequence[str], sets: Sequence[CondensedSet]) -> None:
    """Refuse sets whose scores have no common mean.

    Raises:
        UserError: two sets differ in method, images a class, data or labels, or hold the same images.
    """
    seen: dict[str, str] = {}
    for name, condensed in zip(names, sets, strict=True):
        ours, first = _making(condensed), _making(sets[0])
        differing = [what for what in ours if ours[what] != first[what]]
        if differing:
            what = differing[0]
            raise UserError(
                f"{name} has the {what} {ours[what]}, {names[0]} {first[what]}; several sets are judged together where "
                "one method made them alike but for the seed. Evaluate each kind by itself."
            )
        digest = condensed.sha256()
        if digest in seen:
            raise UserError(f"{name} and {seen[digest]} are the same set; counted twice it would narrow the interval.")
        seen[digest] = name


def _making(condensed: CondensedSet) -> dict[str, JSON]:
    made = condensed.provenance
    return {"method": made.method, "images per class": made.ipc, "data": made.data_name, "label noise": made.corruption}
