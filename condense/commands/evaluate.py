"""`dmis evaluate`: train networks on a condensed set and test them on real images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from condense.classifiers import networks
from condense.classifiers.fit import Epoch
from condense.commands._data import load_source, own_data
from condense.commands._plan import Request, read_layers
from condense.condensed import read
from condense.condensed_set import CondensedSet
from condense.data.types import ImageData, Truth
from condense.errors import UserError
from condense.evaluate.protocols import Protocol, protocol
from condense.evaluate.score import Score, score
from condense.machine import best_device
from condense.recipe import DataRecipe, resolve
from condense.run import Run


def evaluate(path: Path, request: Request, *, network_names: Sequence[str] = (), progress: bool = False) -> list[Score]:
    """Score the condensed set at `path` with each of some networks.

    Args:
        path: the set.
        request: of the recipe the sections `data` (where the test images come from; the data set the set names when
            it gives no name) and `evaluate`, and the seed, are used.
        network_names: of `condense.classifiers.networks.NAMES`; the recipe's one when empty.
        progress: whether a bar is drawn on stderr.

    Returns:
        One score a network, in the order asked for.

    Raises:
        UserError: the set is damaged, does not fit the test data, or a name is not known.
        RunFailed: the training diverged.
    """
    layers = read_layers(request)
    recipe = resolve({key: layers[key] for key in ("data", "evaluate", "seed") if key in layers})
    wanted, rules = recipe.evaluate, protocol(recipe.evaluate.protocol)
    condensed = read(path)
    names = network_names or [wanted.network]
    for name in names:
        _check_network(name, condensed)
    data = recipe.data if "name" in layers.get("data", {}) else own_data(condensed, recipe.data)
    test, truth = test_split(condensed, data)
    run = Run(None, progress=progress)
    return [score_set(condensed, test, truth, rules, name, wanted.repeats, recipe.seed, run) for name in names]


def _check_network(name: str, condensed: CondensedSet) -> None:
    """Tell of an unknown name or too small images before the long work. Raises as `networks.build`."""
    _, side, _, channels = condensed.images.shape
    with torch.device("meta"):
        networks.build(name, in_channels=channels, image_size=side, num_classes=condensed.num_classes, seed=0)


def test_split(condensed: CondensedSet, data: DataRecipe) -> tuple[ImageData, Truth]:
    """Test images, brought to the size of the condensed ones unless `data` gives another, and their labels.

    Raises:
        UserError: the data cannot be read or has no test images.
    """
    size = data.image_size or condensed.images.shape[1]
    source = load_source(data.model_copy(update={"image_size": size}))
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
