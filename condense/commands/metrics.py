"""`dmis metrics`: how close condensed sets are to real images, and how well networks learn from them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from condense.data.types import Images, Labels
from condense.errors import UserError
from condense.evaluate.ddranking import compression_ratio, set_bytes
from condense.evaluate.features import FeatureSpace
from condense.evaluate.judge import STEPS, known_labels
from condense.evaluate.protocols import protocol
from condense.evaluate.quality import KS, Metrics, Sample, quality, split_real
from condense.evaluate.score import FreshNetworks, check_same_kind
from condense.evaluate.soft import check_soft_labels
from condense.evaluate.stats import summarise
from condense.json_values import JSON
from condense.pipeline.data import LoadedData
from condense.pipeline.feature_space import NETWORK, check_space, embedded, feature_space, named
from condense.pipeline.real_data import real_data
from condense.pipeline.score import score_set
from condense.preprocessing import standardisation
from condense.recipe import DataRecipe
from condense.run import Run
from condense.sets.condensed_set import CondensedSet, Cost
from condense.sets.hdf5 import read


@dataclass(frozen=True)
class MetricsOptions:
    """How sets are measured.

    Attributes:
        space: feature space, one of `features.NAMES`.
        inception_weights: weights file that the space "inception" needs.
        ks: numbers of neighbours for Density and Coverage.
        reference: largest number of real images to compare with.
        steps: training steps of the classifier of the space "convnet".
        cas: protocol of the networks trained for CAS, or None to leave it out.
        repeats: number of those networks.
        seed: seed of the choice of real images, of the classifier, and of CAS.

    Raises:
        UserError: a name is unknown or a number out of range.
    """

    space: str = "convnet"
    inception_weights: Path | None = None
    ks: tuple[int, ...] = KS
    reference: int = 10_000
    steps: int = STEPS
    cas: str | None = "hard-quick"
    repeats: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_space(self.space, self.inception_weights)
        if min(self.ks) < 1 or self.reference < 2 or self.repeats < 1:
            raise UserError(
                f"k is {min(self.ks)}, the reference {self.reference} images, repeats {self.repeats}; "
                "k and repeats must be at least 1, the reference at least 2."
            )
        if self.cas is not None:
            protocol(self.cas)


@dataclass(frozen=True, eq=False)
class _Yardstick:
    """The reference that all sets are measured against."""

    given: LoadedData
    space: FeatureSpace
    labels: Labels
    real: Sample
    options: MetricsOptions
    run: Run

    @property
    def images(self) -> Images:
        return self.given.source.train.images

    def measure(self, images: Images, labels: Labels) -> Metrics:
        """All generation metrics of images uint8 [n, H, W, C], named after the space and the numbers of images."""
        classes = self.given.source.train.classes
        found = embedded(self.space, images, labels, self.run)
        values = quality(self.real, found, classes, ks=self.options.ks, device=self.space.device)
        return named(values, self.space, len(found), len(self.real))


def metrics(
    paths: Sequence[Path], data: DataRecipe, options: MetricsOptions, *, progress: bool = False
) -> dict[str, JSON]:
    """Measure condensed sets of one size, e.g. of several seeds, and as many real images for comparison.

    Packed images are cut apart, and learned pixels clipped and rounded to 8 bits first. CAS is test accuracy in percent
    after training on the set.

    Args:
        paths: the sets, all of one data set and with equally many images.
        data: the training data, by default those the sets record.
        options: see `MetricsOptions`.
        progress: whether bars are drawn on stderr.

    Returns:
        Space, network, data, labels and numbers of images compared; "sets": one entry each, with its "metrics"; "mean"
        and "std" over them (std None for one set); "floor": the same metrics, in the same order, of as many real
        images outside the reference, or of fewer if a class has too few, as the metrics' names show; their CAS is
        None then, and by a protocol for soft labels, which real images do not have.

    Raises:
        UserError: a set is damaged or of other data, packages or weights are missing, or there are too few images.
        RunFailed: a training diverged.
    """
    started = time.perf_counter()
    sets = [read(path) for path in paths]
    given = real_data(sets[0], data, options.seed)
    _check_alike(paths, sets, given)
    if options.cas is not None and protocol(options.cas).labels != "hard":
        for made in sets:
            check_soft_labels(made)
    first = sets[0].unpacked()
    bench, stand_in = _bench(first, given, options, Run(None, progress=progress))
    entries = [_measured(path, made, bench) for path, made in zip(paths, sets, strict=True)]
    found = [entry.metrics for entry in entries]
    return {
        "space": bench.space.name,
        "network": bench.space.description,
        "data": given.source.train.name,
        "labels": known_labels(given.source.supervision, given.source.truth)[1],
        "reference_images": len(bench.real),
        "images": len(first),
        "cas_protocol": options.cas,
        "sets": [asdict(entry) for entry in entries],
        "mean": _over_sets(found, "mean"),
        "std": _over_sets(found, "std"),
        "floor_images": len(stand_in),
        "floor": _floor(first, stand_in, bench),
        "seconds": time.perf_counter() - started,
    }


def _check_alike(paths: Sequence[Path], sets: Sequence[CondensedSet], given: LoadedData) -> None:
    for path, made in zip(paths, sets, strict=True):
        check_same_kind(made, given.source.train)
        here, there = (len(each) * each.pack**2 for each in (made, sets[0]))
        if here != there:
            raise UserError(
                f"{path} has {here} images, {paths[0]} {there}; metrics depend on the number of images, "
                "so measure sets of different sizes one at a time."
            )


def _bench(made: CondensedSet, given: LoadedData, options: MetricsOptions, run: Run) -> tuple[_Yardstick, Labels]:
    """The reference in its feature space, and the real images that stand in for a set."""
    source = given.source
    if options.cas is not None and (source.test is None or source.test_truth is None):
        raise UserError(f"{source.train.name} has no test images, which CAS needs; leave CAS out with --cas none.")
    labels, _ = known_labels(source.supervision, source.truth)
    reference, stand_in = split_real(labels, made.num_classes, made.ipc, options.reference, options.seed)
    few = np.flatnonzero(np.bincount(labels[reference], minlength=made.num_classes) <= max(options.ks))
    if few.size:
        raise UserError(
            f"Class {made.classes[few[0]]!r} has too few real images for k = {max(options.ks)} beside the {made.ipc} "
            "that stand in for the set; lower --k, raise --reference, or measure a smaller set."
        )
    space = feature_space(
        given, options.space, options.inception_weights, steps=options.steps, seed=options.seed, run=run
    )
    real = embedded(space, source.train.images[reference], labels[reference], run)
    return _Yardstick(given, space, labels, real, options, run), stand_in


@dataclass(frozen=True)
class _Measured:
    """What is told of one set."""

    path: str
    method: str
    uses_true_labels: bool
    metrics: Metrics
    bytes: int
    compression_ratio: float
    cost: Cost
    seconds: float


def _measured(path: Path, made: CondensedSet, bench: _Yardstick) -> _Measured:
    started = time.perf_counter()
    seen = made.unpacked()
    found = bench.measure(seen.pictures(), seen.labels)
    if bench.options.cas is not None:
        found["CAS"] = _cas(made, bench)
    return _Measured(
        str(path),
        made.provenance.method,
        made.uses_true_labels,
        found,
        set_bytes(made),
        compression_ratio(made, bench.given.source.train),
        made.provenance.cost,
        time.perf_counter() - started,
    )


def _floor(made: CondensedSet, stand_in: Labels, bench: _Yardstick) -> Metrics:
    """The metrics of real images; their CAS too if it needs no soft labels and there are as many as in the set."""
    chosen = stand_in[np.argsort(bench.labels[stand_in], kind="stable")]
    found = bench.measure(bench.images[chosen], bench.labels[chosen])
    if bench.options.cas is not None:
        found["CAS"] = None
        if protocol(bench.options.cas).labels == "hard" and len(chosen) == len(made):
            real = replace(
                made,
                images=bench.images[chosen],
                preprocessing=standardisation(bench.images),
                value_range=(0.0, 255.0),
                soft_labels=None,
                source_index=None,
                weights=None,
            )
            found["CAS"] = _cas(real, bench)
    return found


def _cas(made: CondensedSet, bench: _Yardstick) -> float:
    """Classification accuracy score: train on the set, test on real images; percent.

    Source: Ravuri & Vinyals (2019), https://arxiv.org/abs/1905.10887.
    """
    source, options = bench.given.source, bench.options
    assert source.test is not None and source.test_truth is not None and options.cas is not None
    rules = protocol(options.cas)
    fresh = FreshNetworks(NETWORK, options.repeats, options.seed)
    return score_set(made, source.test, source.test_truth, rules, fresh, bench.run).mean


def _over_sets(found: Sequence[Mapping[str, float | None]], which: str) -> Metrics:
    """Mean or standard deviation of each metric over the sets; None if a set lacks it."""
    values = {name: [entry[name] for entry in found] for name in found[0]}
    known = {name: [v for v in column if v is not None] for name, column in values.items()}
    return {
        name: getattr(summarise(column), which) if len(column) == len(found) else None for name, column in known.items()
    }
