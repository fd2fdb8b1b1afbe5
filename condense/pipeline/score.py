"""Scoring condensed sets on the best device: preparing them for a protocol, and loading their test images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from condense.classifiers import networks
from condense.classifiers.beside import read_beside
from condense.classifiers.fit import Epoch
from condense.classifiers.teacher import Teacher, load_teacher
from condense.data.types import ImageData, Source, Truth
from condense.errors import UserError
from condense.evaluate.protocols import Protocol
from condense.evaluate.score import FreshNetworks, Score, check_comparable, score
from condense.evaluate.sets import Evaluation, check_one_method, combine
from condense.evaluate.soft import check_soft_labels
from condense.machine import best_device
from condense.pipeline.data import check_own_images, load_source, recorded_seed, tell_of_flip
from condense.pipeline.stages import operations
from condense.recipe import DataRecipe
from condense.run import Run
from condense.sets.condensed_set import CondensedSet
from condense.watch import Stage, expected


@dataclass(frozen=True)
class HowToScore:
    """How sets are scored.

    Attributes:
        rules: the protocol.
        networks: names of `condense.classifiers.networks.NAMES`; the protocol's own when empty.
        cross: whether one network of each architecture that accepts images of this size is trained too.
        teacher: run folder of the teacher that gives the images soft labels, for protocols that use them.
        repeats: networks trained on each set.
        seed: seed of the networks of the first set; set i, counted from 0, uses seed + i, since an interval over sets
            needs separate networks for every set.
    """

    rules: Protocol
    networks: Sequence[str] = ()
    cross: bool = False
    teacher: Path | None = None
    repeats: int = 5
    seed: int = 0


def evaluate_sets(
    sets: Mapping[str, CondensedSet], test: Callable[[CondensedSet], tuple[ImageData, Truth]], how: HowToScore, run: Run
) -> Evaluation:
    """Train networks on one set, or on several that differ only in the seed, and test them.

    Args:
        sets: sets by name; for a set in a file, its path, beside which the teacher is looked for.
        test: returns the test images and their labels for a set; called once, after all other checks.
        how: how sets are scored.
        run: for the progress bar.

    Raises:
        UserError: a set does not fit the protocol or the test data, the sets are of different kinds, two are the same,
            or a network is unknown or does not accept such images.
        RunFailed: the training diverged.
    """
    taught = [_taught(Path(name), condensed, how) for name, condensed in sets.items()]
    ready = [condensed for condensed, _ in taught]
    check_one_method(list(sets), ready)
    _check_one_kind_of_labels(list(sets), [beside for _, beside in taught])
    names = _network_names(how, ready[0].images.shape[1])
    images, truth = test(ready[0])
    for condensed in ready:
        check_comparable(condensed, images, truth)
    with expected(_ahead(names, ready) if run.progress else []):
        scores = [
            combine(
                [
                    score_set(one, images, truth, how.rules, fresh, run, teacher=beside)
                    for fresh, (one, beside) in zip(_fresh(how, name, len(taught)), taught, strict=True)
                ]
            )
            for name in names
        ]
    return Evaluation(tuple(sets), tuple(scores))


def _fresh(how: HowToScore, name: str, sets: int) -> list[FreshNetworks]:
    """The networks of architecture `name` for each of `sets` sets."""
    return [FreshNetworks(name, how.repeats, how.seed + index) for index in range(sets)]


def _ahead(names: Sequence[str], ready: Sequence[CondensedSet]) -> list[Stage]:
    """Every network on every set, in order."""
    height, width, channels = ready[0].images.shape[1:]
    shape, num_classes = (channels, height, width), ready[0].num_classes
    return [Stage(name, len(one) * operations(name, shape, num_classes)) for name in names for one in ready]


def _network_names(how: HowToScore, side: int) -> list[str]:
    """The networks to train, each once. Raises `UserError` if a name is unknown or a network is unsuitable."""
    names = list(how.networks)
    if how.cross:
        names += [name for name in networks.CROSS if networks.fits(name, side)]
    if not names:
        names = [how.rules.network]
    for name in names:
        networks.check_fits(name, side)
    return list(dict.fromkeys(names))


def _taught(path: Path, condensed: CondensedSet, how: HowToScore) -> tuple[CondensedSet, Teacher | None]:
    """The set unpacked, and the teacher to query online: the given one, else the one beside the set's file."""
    condensed = condensed.unpacked()
    if how.rules.labels != "teacher":
        return with_labels(condensed, how.rules, how.teacher), None
    if how.teacher is not None:
        teacher = load_teacher(how.teacher)
        teacher.check_data(_as_data(condensed))
        return condensed, teacher
    beside = read_beside(path, condensed.teacher_sha256)
    if beside is None:
        check_soft_labels(condensed)
    return condensed, beside


def _check_one_kind_of_labels(names: Sequence[str], teachers: Sequence[Teacher | None]) -> None:
    """Raise `UserError` if only some of the sets have a teacher to query."""
    without = [name for name, teacher in zip(names, teachers, strict=True) if teacher is None]
    if 0 < len(without) < len(names):
        taught = next(name for name in names if name not in without)
        raise UserError(
            f"{taught} has its teacher beside it, {without[0]} has none and would be trained on stored soft labels; "
            "put its teacher file there too, give one to all (--teacher), or choose the protocol soft-stored."
        )


def _as_data(condensed: CondensedSet) -> ImageData:
    name = f"the set of {condensed.provenance.method}"
    return ImageData(condensed.pictures(), condensed.classes, name, "train")


def with_labels(condensed: CondensedSet, rules: Protocol, teacher: Path | None) -> CondensedSet:
    """The set with a teacher's soft labels, if given. Raises `UserError` if the protocol needs or forbids them."""
    if teacher is None:
        if rules.labels == "soft":
            check_soft_labels(condensed)
        return condensed
    if rules.labels != "soft":
        raise UserError(f"protocol {rules.name} trains on class labels; leave the teacher out, or choose soft.")
    found, images = load_teacher(teacher), condensed.pictures()
    found.check_data(_as_data(condensed))
    made = condensed.provenance
    return dataclasses.replace(
        condensed,
        soft_labels=found.soft_labels(images, 1.0),
        provenance=dataclasses.replace(made, notes={**made.notes, "soft_label_temperature": 1.0}),
    )


def test_split(condensed: CondensedSet, data: DataRecipe, *, its_own: bool = False) -> tuple[ImageData, Truth]:
    """Test images, resized to the condensed ones unless `data` gives another size, and their labels.

    Args:
        condensed: the set.
        data: where the images are.
        its_own: whether they must belong to the data the set was made from, because the path comes from its record.

    Raises:
        UserError: the data cannot be read, are not the set's own if they must be, or have no test images.
    """
    size = data.image_size or condensed.images.shape[1]
    source = load_source(data.model_copy(update={"image_size": size}))
    alike = condensed.num_classes == source.train.num_classes and size == condensed.images.shape[1]
    if its_own and alike:  # otherwise a later check gives a clearer error
        check_own_images(condensed, source, recorded_seed(condensed))
    if "flip" not in condensed.provenance.notes:
        tell_of_flip(source.train)
    return tested(source)


def tested(source: Source) -> tuple[ImageData, Truth]:
    """Test images and their labels. Raises `UserError` if there are none."""
    if source.test is None or source.test_truth is None:
        raise UserError(
            f"{source.train.name} has no test images; add a folder test/ (or rows with split test in labels.csv), "
            "or give other data with --data."
        )
    return source.test, source.test_truth


def score_set(
    condensed: CondensedSet,
    test: ImageData,
    truth: Truth,
    rules: Protocol,
    fresh: FreshNetworks,
    run: Run,
    *,
    teacher: Teacher | None = None,
) -> Score:
    """`condense.evaluate.score.score` on the best device, with the run's progress bar."""
    done = 0
    with run.track(fresh.repeats * rules.epochs, fresh.architecture(rules)) as tracker:

        def on_epoch(repeat: int, epoch: Epoch) -> None:
            nonlocal done
            done += 1  # networks may be trained in turn or together
            tracker.update(done, loss=epoch.loss)

        return score(
            condensed,
            test,
            truth,
            protocol=rules,
            fresh=fresh,
            device=best_device(),
            on_epoch=on_epoch,
            teacher=teacher,
        )
