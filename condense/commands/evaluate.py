"""`dmis evaluate`: train networks on a condensed set and test them on real images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from condense.classifiers import networks
from condense.classifiers.fit import Epoch
from condense.commands._data import load_source
from condense.condensed import read
from condense.condensed_set import CondensedSet
from condense.data import sources
from condense.data.types import ImageData, Truth
from condense.errors import UserError
from condense.evaluate.protocols import Protocol, protocol
from condense.evaluate.score import Score, score
from condense.machine import best_device
from condense.recipe import DataRecipe
from condense.run import Run


def evaluate(
    path: Path,
    *,
    data: DataRecipe | None = None,
    protocol_name: str = "hard",
    network_names: Sequence[str] = ("convnet3",),
    repeats: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> list[Score]:
    """Score the condensed set at `path` with each of some networks.

    Args:
        path: the set.
        data: where the test images come from; the data set the set names when None.
        protocol_name: one of `condense.evaluate.protocols.PROTOCOLS`.
        network_names: of `condense.classifiers.networks.NAMES`.
        repeats: networks trained of each.
        seed: of weights, order and augmentation.
        progress: whether a bar is drawn on stderr.

    Returns:
        One score a network, in the order asked for.

    Raises:
        UserError: the set is damaged, does not fit the test data, or a name is not known.
        RunFailed: the training diverged.
    """
    rules = protocol(protocol_name)
    condensed = read(path)
    for name in network_names:
        with torch.device("meta"):  # an unknown name or too small an image is told before the long work
            networks.build(
                name,
                in_channels=condensed.images.shape[3],
                image_size=condensed.images.shape[1],
                num_classes=condensed.num_classes,
                seed=0,
            )
    test, truth = test_split(condensed, data)
    run = Run(None, progress=progress)
    return [score_set(condensed, test, truth, rules, name, repeats, seed, run) for name in network_names]


def test_split(condensed: CondensedSet, data: DataRecipe | None) -> tuple[ImageData, Truth]:
    """Test images of the size of the condensed ones, and their labels.

    Raises:
        UserError: the set's data set is no known name and `data` is None; or it has no test images.
    """
    name = condensed.provenance.data_name
    if data is None and name not in sources.NAMES:
        raise UserError(
            f"The set was made from {name!r}, which is no known name; say where its test images are with --data."
        )
    recipe = data or DataRecipe(name=name)
    if recipe.image_size is None:
        recipe = recipe.model_copy(update={"image_size": condensed.images.shape[1]})
    source = load_source(recipe)
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
    network: str,
    repeats: int,
    seed: int,
    run: Run,
) -> Score:
    """`condense.evaluate.score.score` on the best device, with the run's progress bar."""
    with run.track(repeats * rules.epochs, network) as tracker:

        def on_epoch(repeat: int, epoch: Epoch) -> None:
            tracker.update(repeat * rules.epochs + epoch.epoch, loss=epoch.loss)

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
