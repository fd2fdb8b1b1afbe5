"""A condensed set made ready for a protocol, its test images, and its score on the best device."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from condense.classifiers.fit import Epoch
from condense.classifiers.teacher import load_teacher
from condense.data.types import ImageData, Truth
from condense.errors import UserError
from condense.evaluate.protocols import Protocol
from condense.evaluate.score import Score, score
from condense.evaluate.soft import check_soft_labels
from condense.machine import best_device
from condense.pipeline.data import check_own_images, load_source, recorded_seed, tell_of_flip
from condense.recipe import DataRecipe
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


def with_labels(condensed: CondensedSet, rules: Protocol, teacher: Path | None) -> CondensedSet:
    """The set with soft labels of a teacher where one is given; refused where the protocol lacks or spurns them."""
    if teacher is None:
        if rules.labels == "soft":
            check_soft_labels(condensed)
        return condensed
    if rules.labels != "soft":
        raise UserError(f"protocol {rules.name} trains on class labels; leave the teacher out, or choose soft.")
    found, images = load_teacher(teacher), condensed.pictures()
    found.check_data(ImageData(images, condensed.classes, f"the set of {condensed.provenance.method}", "train"))
    made = condensed.provenance
    return dataclasses.replace(
        condensed,
        soft_labels=found.soft_labels(images, 1.0),
        provenance=dataclasses.replace(made, notes={**made.notes, "soft_label_temperature": 1.0}),
    )


def test_split(condensed: CondensedSet, data: DataRecipe, *, its_own: bool = False) -> tuple[ImageData, Truth]:
    """Test images, brought to the size of the condensed ones unless `data` gives another, and their labels.

    Args:
        condensed: the set.
        data: where the images are.
        its_own: whether they must be of the data the set was made from, since it alone tells where they are.

    Raises:
        UserError: the data cannot be read, are others than the set's own, or have no test images.
    """
    size = data.image_size or condensed.images.shape[1]
    source = load_source(data.model_copy(update={"image_size": size}))
    if its_own and condensed.num_classes == source.train.num_classes:  # else the refusal of another kind says more
        check_own_images(condensed, source, recorded_seed(condensed))
    if source.test is None or source.test_truth is None:
        raise UserError(
            f"{source.train.name} has no test images; add a folder test/ (or rows with split test in labels.csv), "
            "or give other data with --data."
        )
    if "flip" not in condensed.provenance.notes:
        tell_of_flip(source.test)
    return source.test, source.test_truth


def score_set(
    condensed: CondensedSet,
    test: ImageData,
    truth: Truth,
    rules: Protocol,
    network: str | None,
    repeats: int,
    seed: int,
    run: Run,
) -> Score:
    """`condense.evaluate.score.score` on the best device, with the run's progress bar."""
    done = 0
    with run.track(repeats * rules.epochs, network or rules.network) as tracker:

        def on_epoch(repeat: int, epoch: Epoch) -> None:
            nonlocal done
            done += 1  # networks may be trained in turn or at once
            tracker.update(done, loss=epoch.loss)

        return score(
            condensed,
            test,
            truth,
            protocol=rules,
            network=network,
            repeats=repeats,
            seed=seed,
            device=best_device(),
            on_epoch=on_epoch,
        )
