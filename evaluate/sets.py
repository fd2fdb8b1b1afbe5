"""The combined score of one or more sets of a method, with the variances between sets and between networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from condense.errors import UserError
from condense.evaluate.mistakes import Mistakes, together
from condense.evaluate.score import Score
from condense.evaluate.stats import summarise, summarise_nested
from condense.run import JSON
from condense.sets.condensed_set import CondensedSet


@dataclass(frozen=True)
class SetsScore:
    """Test accuracies in percent of several networks of one architecture on each of one or more sets.

    Attributes:
        mean: mean of the sets' means.
        std: standard deviation of networks trained on one set; None if each set has one network.
        std_between: standard deviation of the true means of sets, see `summarise_nested`; None for one set.
        ci95: half width of the 95 % interval over sets, or over networks for a single set; None for one network.
        accuracies: accuracies of all networks, those of the first set first.
        by_set: the accuracies of each set.
        protocol: name and every setting.
        network: name of the architecture.
        seconds: wall-clock time of training and testing all of them.
        uses_true_labels: whether the sets were made with true labels: an upper bound for others, not a competitor.
        labels: as in `Score`, as are the two below.
        packing: number of pictures in a stored image.
        trained_on: number of images that every network was trained on.
        worst_class: each network's lowest accuracy on a class in percent, mean over the sets; None if unknown.
        test_data: the test data in words, as in `Score`.
        mistakes: confusions of the classes by all networks.
    """

    mean: float
    std: float | None
    std_between: float | None
    ci95: float | None
    accuracies: tuple[float, ...]
    by_set: tuple[tuple[float, ...], ...]
    protocol: dict[str, JSON]
    network: str
    seconds: float
    uses_true_labels: bool
    labels: str
    packing: int
    trained_on: int
    worst_class: float | None
    test_data: str = ""
    mistakes: Mistakes | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, JSON]:
        """All attributes as a JSON object, with the contents of `Mistakes.to_json` in place of `mistakes`."""
        plain = asdict(replace(self, mistakes=None))
        del plain["mistakes"]
        told = {} if self.mistakes is None else self.mistakes.to_json()
        by_set = [list(each) for each in self.by_set]
        return {**plain, "accuracies": list(self.accuracies), "by_set": by_set, **told}


@dataclass(frozen=True)
class Evaluation:
    """The scores of one or more sets of one method, one for each requested network architecture.

    Attributes:
        sets: names of the sets.
        scores: one per network, in the order requested; the properties below belong to the first.
    """

    sets: tuple[str, ...]
    scores: tuple[SetsScore, ...]

    @property
    def mean(self) -> float:
        """Mean test accuracy in percent."""
        return self.scores[0].mean

    @property
    def std(self) -> float | None:
        """Standard deviation of networks trained on one set; None if each set has one network."""
        return self.scores[0].std

    @property
    def ci95(self) -> float | None:
        """Half width of the 95 % interval of the mean; None for a single network."""
        return self.scores[0].ci95

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Test accuracy in percent of every network."""
        return self.scores[0].accuracies

    @property
    def network(self) -> str:
        """Name of the architecture."""
        return self.scores[0].network

    def to_json(self) -> dict[str, JSON]:
        """The first network's score at the top level, the `sets`, and every network's score under `scores`."""
        scores = [score.to_json() for score in self.scores]
        return {**scores[0], "sets": list(self.sets), "scores": scores}


def combine(scores: Sequence[Score]) -> SetsScore:
    """Combine the scores of one or more sets, all of the same network and protocol."""
    by_set = tuple(score.accuracies for score in scores)
    summary = summarise_nested(by_set)
    worst = [score.worst_class for score in scores if score.worst_class is not None]
    return SetsScore(
        summary.mean,
        summary.std_within,
        summary.std_between,
        summary.ci95 if len(scores) > 1 else summarise(by_set[0]).ci95,
        tuple(accuracy for each in by_set for accuracy in each),
        by_set,
        scores[0].protocol,
        scores[0].network,
        sum(score.seconds for score in scores),
        scores[0].uses_true_labels,
        scores[0].labels,
        scores[0].packing,
        scores[0].trained_on,
        sum(worst) / len(worst) if worst else None,
        scores[0].test_data,
        together([score.mistakes for score in scores]),
    )


def check_one_method(names: Sequence[str], sets: Sequence[CondensedSet]) -> None:
    """Refuse sets whose scores have no common mean.

    Raises:
        UserError: two sets differ in method, images per class, packing, data, label noise or repair, or are the same
            set.
    """
    seen: dict[str, str] = {}
    for name, condensed in zip(names, sets, strict=True):
        ours, first = _making(condensed), _making(sets[0])
        differing = [what for what in ours if ours[what] != first[what]]
        if differing:
            what = differing[0]
            raise UserError(
                f"{name} has the {what} {ours[what]}, {names[0]} {first[what]}; several sets can be scored together "
                "only if they differ in nothing but the seed. Evaluate each kind separately."
            )
        digest = condensed.sha256()
        if digest in seen:
            raise UserError(f"{name} and {seen[digest]} are the same set; counting it twice would narrow the interval.")
        seen[digest] = name


def _making(condensed: CondensedSet) -> dict[str, JSON]:
    made = condensed.provenance
    return {
        "method": made.method,
        "packing": condensed.packing,
        "images per class": made.ipc,
        "data": made.data_name,
        "label noise": made.corruption,
        "label repair": made.notes.get("labels_repaired_by", "none"),
        "use of true labels": condensed.uses_true_labels,
    }
