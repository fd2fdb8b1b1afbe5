"""`dmis rank`: DD-Ranking's scores of condensed sets, with their size and the cost of making them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from condense import methods, rng
from condense.classifiers import networks
from condense.data.types import ImageData, Truth
from condense.errors import UserError
from condense.evaluate.ddranking import Arms, Ranking, compression_ratio, ranking, set_bytes
from condense.evaluate.protocols import SOFT_STORED, Protocol, protocol
from condense.evaluate.score import FreshNetworks, check_comparable, may_flip
from condense.evaluate.stats import Summary, summarise
from condense.evaluate.whole import epochs_of_steps, score_whole
from condense.json_values import JSON
from condense.machine import best_device
from condense.pipeline.data import LoadedData
from condense.pipeline.real_data import real_data
from condense.pipeline.score import score_set, with_labels
from condense.recipe import DataRecipe
from condense.run import Run
from condense.sets.condensed_set import CondensedSet, Cost
from condense.sets.hdf5 import read

STEPS = 2000


@dataclass(frozen=True)
class RankOptions:
    """How sets are ranked.

    Attributes:
        protocol: protocol of networks trained on hard labels; those trained on soft labels follow soft-stored.
        network: the network trained throughout; the protocols' own when None.
        repeats: networks per set, and number of random sets, with one network each, that it is compared with.
        steps: training steps, with the protocol's batch size, on all real images; optimiser, learning rate and
            augmentation are those of the networks trained on the sets.
        real_accuracy: accuracy in [0, 1] of that network, if already known; else it is trained.
        teacher: run folder of the teacher that gives random images soft labels; needed for sets with soft labels.
        hard_labels: whether soft labels of the sets are ignored.
        lrs_weight: w of LRS.
        ars_weight: gamma of ARS.
        seed: random seed.

    Raises:
        UserError: a name is unknown, a number out of range, or the protocol trains on soft labels.
    """

    protocol: str = "hard"
    network: str | None = None
    repeats: int = 5
    steps: int = STEPS
    real_accuracy: float | None = None
    teacher: Path | None = None
    hard_labels: bool = False
    lrs_weight: float = 0.5
    ars_weight: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if protocol(self.protocol).labels != "hard":
            raise UserError(
                f"The protocol {self.protocol} trains on soft labels; choose one for hard labels (hard, hard-quick, "
                "hard-adam, dmis, quick); soft labels of a set are used in addition."
            )
        if min(self.repeats, self.steps) < 1:
            raise UserError(f"repeats is {self.repeats} and steps {self.steps}; both must be at least 1.")
        # check fractions and weights before the long training
        ranking(
            Arms(self.real_accuracy or 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
            lrs_weight=self.lrs_weight,
            ars_weight=self.ars_weight,
        )


@dataclass(frozen=True, eq=False)
class _Comparisons:
    """Trains the networks with which sets are compared, once for each labelling of the data."""

    options: RankOptions
    run: Run
    real: dict[str, tuple[float, str]] = field(default_factory=dict)
    random: dict[tuple[str, int, str], Summary] = field(default_factory=dict)

    def on_real(self, given: LoadedData, network: str) -> tuple[float, str]:
        """Test accuracy in [0, 1] after training on all real images with their given labels, and its origin."""
        key = given.source.supervision.fingerprint()
        if self.options.real_accuracy is not None:
            return self.options.real_accuracy, "as told"
        if key not in self.real:
            test, truth = _tested(given)
            source, rules = given.source, protocol(self.options.protocol)
            labelled = int((~source.supervision.unlabelled).sum())
            epochs = epochs_of_steps(self.options.steps, labelled, rules.batch_size)
            with self.run.track(epochs, "training on all real images") as tracker:
                found = score_whole(
                    given.training_set(),
                    test,
                    truth,
                    protocol=replace(rules, epochs=epochs),
                    fresh=FreshNetworks(network, seed=self.options.seed),
                    device=best_device(),
                    on_epoch=lambda repeat, epoch: tracker.update(epoch.epoch, loss=epoch.loss),
                )
            how = f"{network} by {rules.name} for {epochs} epochs on {labelled:,} images with their given labels"
            self.real[key] = found.mean / 100, how
        return self.real[key]

    def on_random(self, given: LoadedData, ipc: int, rules: Protocol) -> Summary:
        """Test accuracy in percent of networks trained on random real images, a new draw for each."""
        key = (given.source.supervision.fingerprint(), ipc, rules.name)
        if key not in self.random:
            random = methods.load("random")
            accuracies: list[float] = []
            for repeat in range(self.options.repeats):
                seed = rng.derive(self.options.seed, "rank random", repeat)
                drawn = random.condense(given.training_set(), ipc, random.Options(), seed, Run(None))
                drawn = with_labels(drawn, rules, self.options.teacher if rules.labels == "soft" else None)
                accuracies += self.scored(drawn, given, rules, 1, seed)
            self.random[key] = summarise(accuracies)
        return self.random[key]

    def on_set(self, condensed: CondensedSet, given: LoadedData, rules: Protocol) -> Summary:
        """Test accuracy in percent of networks trained on a set."""
        return summarise(self.scored(condensed, given, rules, self.options.repeats, self.options.seed))

    def scored(
        self, condensed: CondensedSet, given: LoadedData, rules: Protocol, repeats: int, seed: int
    ) -> tuple[float, ...]:
        """Accuracies in percent, one per network."""
        test, truth = _tested(given)
        fresh = FreshNetworks(self.options.network, repeats, seed)
        return score_set(condensed, test, truth, rules, fresh, self.run).accuracies


def rank(paths: Sequence[Path], data: DataRecipe, options: RankOptions, *, progress: bool = False) -> dict[str, JSON]:
    """Score sets of one data set by DD-Ranking's definitions, best LRS first.

    Real images have the labels that the sets' methods were given, wrong ones included. For a set with soft
    labels the random images have soft labels too.

    Args:
        paths: the sets, of any methods and sizes.
        data: the training and test images, by default those the sets record.
        options: see `RankOptions`.
        progress: whether bars are drawn on stderr.

    Returns:
        Protocols as networks were trained, weights, and "sets": for each the scores hlr, ior, lrs and ars, the
        underlying accuracies as fractions, bytes, compression_ratio and cost.

    Raises:
        UserError: a set is damaged or of other data, there are no test images, or soft labels need a teacher.
        RunFailed: a training diverged.
    """
    started = time.perf_counter()
    sets = [read(path) for path in paths]
    for path, made in zip(paths, sets, strict=True):
        if made.soft_labels is not None and not options.hard_labels and options.teacher is None:
            raise UserError(
                f"{path} has soft labels, so the random images for comparison need them too; give the teacher "
                "(--teacher RUN), or leave the soft labels out (--hard-labels)."
            )
    networks.check_fits(options.network or protocol(options.protocol).network, sets[0].images.shape[1])
    everyone = [real_data(made, data, options.seed) for made in sets]
    _check_one_data_set(paths, sets, everyone)
    bench = _Comparisons(options, Run(None, progress=progress))
    entries = [_ranked(*each, bench) for each in zip(paths, sets, everyone, strict=True)]
    mirrored = may_flip(sets[0], everyone[0].source.train)
    soft = any(entry.labels == "soft" for entry in entries)
    return {
        "data": everyone[0].source.train.name,
        "protocol": _as_trained(protocol(options.protocol), options.network, mirrored=mirrored),
        "soft_protocol": _as_trained(SOFT_STORED, options.network, mirrored=mirrored) if soft else None,
        "repeats": options.repeats,
        "weights": {"lrs": options.lrs_weight, "ars": options.ars_weight},
        "sets": [asdict(entry) for entry in sorted(entries, key=lambda entry: -entry.scores.lrs)],
        "seconds": time.perf_counter() - started,
    }


def _as_trained(rules: Protocol, network: str | None, *, mirrored: bool) -> dict[str, JSON]:
    """A protocol with the network and the augmentation used."""
    return asdict(replace(rules.for_data(may_flip=mirrored), network=network or rules.network))


@dataclass(frozen=True)
class _Ranked:
    """What is told of one set; accuracies are fractions."""

    path: str
    method: str
    ipc: int
    uses_true_labels: bool
    labels: str
    scores: Ranking
    accuracy: Mapping[str, JSON]
    bytes: int
    compression_ratio: float
    cost: Cost


def _ranked(path: Path, made: CondensedSet, given: LoadedData, bench: _Comparisons) -> _Ranked:
    rules = protocol(bench.options.protocol)
    soft = made.soft_labels is not None and not bench.options.hard_labels
    own = SOFT_STORED if soft else rules
    real, how = bench.on_real(given, bench.options.network or rules.network)
    found = {"hard": bench.on_set(made, given, rules)}
    found["own"] = bench.on_set(made, given, own) if soft else found["hard"]
    found["random"] = bench.on_random(given, made.ipc, own)
    found["own_plain"] = bench.on_set(made, given, own.plain())
    found["random_plain"] = bench.on_random(given, made.ipc, own.plain())
    scores = ranking(
        Arms(real, *(found[arm].mean / 100 for arm in ("hard", "own", "random", "own_plain", "random_plain"))),
        lrs_weight=bench.options.lrs_weight,
        ars_weight=bench.options.ars_weight,
    )
    return _Ranked(
        str(path),
        made.provenance.method,
        made.ipc,
        made.uses_true_labels,
        own.labels,
        scores,
        {"real": {"mean": real, "how": how}, **{arm: _fractions(each) for arm, each in found.items()}},
        set_bytes(made),
        compression_ratio(made, given.source.train),
        made.provenance.cost,
    )


def _fractions(found: Summary) -> dict[str, float | None]:
    return {name: None if value is None else value / 100 for name, value in asdict(found).items()}


def _tested(given: LoadedData) -> tuple[ImageData, Truth]:
    """Test images and their labels."""
    source = given.source
    if source.test is None or source.test_truth is None:
        raise UserError(f"{source.train.name} has no test images, so sets made from it cannot be ranked.")
    return source.test, source.test_truth


def _check_one_data_set(paths: Sequence[Path], sets: Sequence[CondensedSet], everyone: Sequence[LoadedData]) -> None:
    first = everyone[0].source
    for path, made, given in zip(paths, sets, everyone, strict=True):
        if given.source.train.fingerprint() != first.train.fingerprint():
            raise UserError(
                f"{path} was made from {given.source.train.name}, {paths[0]} from {first.train.name}; rank sets of "
                "one data set at a time."
            )
        check_comparable(made, *_tested(given))
