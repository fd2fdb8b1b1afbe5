"""The real data with which a condensed set is compared, and the classifier trained on them as its judge."""

from __future__ import annotations

from condense.classifiers.fit import Epoch
from condense.evaluate.judge import Judge, train_judge
from condense.evaluate.score import check_same_kind
from condense.json_values import JSON
from condense.machine import best_device
from condense.pipeline.data import (
    LoadedData,
    check_own_images,
    given_labels,
    load_source,
    own_data,
    own_labels,
    recorded_data,
    recorded_seed,
)
from condense.recipe import DataRecipe
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


def real_data(condensed: CondensedSet, asked: DataRecipe, seed: int = 0) -> LoadedData:
    """The training data of a set with the labels its method was given, as far as the set records them.

    Args:
        condensed: the set.
        asked: options of the command line, which override the set's recipe.
        seed: seed of the noise if the set does not record it.

    Raises:
        UserError: the data or their labels cannot be read, or their classes or image shape differ.
    """
    before = recorded_data(condensed)
    named = "name" in asked.model_fields_set
    data = asked if named else own_data(condensed, asked)
    filled: dict[str, JSON] = {"image_size": data.image_size or condensed.images.shape[1]}
    told = condensed.provenance
    its_own = not named or data.name in (before.get("name"), told.data_name, told.notes.get("data_path"))
    if its_own and not {"noise", "labels"} & asked.model_fields_set:
        filled |= {"noise": before.get("noise", "none"), "labels": own_labels(condensed)}
    noise_seed = recorded_seed(condensed, seed) if asked.noise_seed is None else asked.noise_seed
    data = data.model_copy(update=filled)
    source = load_source(data)
    check_same_kind(condensed, source.train)
    if not named:
        check_own_images(condensed, source, noise_seed)
    return given_labels(source, data, noise_seed)


def trained_judge(given: LoadedData, network: str, steps: int, seed: int, run: Run) -> Judge:
    """A classifier trained on the data, with the true labels if known, on the best device and with a progress bar.

    Raises as `train_judge`.
    """
    with run.track(100, "training on real images") as tracker:

        def on_epoch(epoch: Epoch, total: int) -> None:
            tracker.update(100 * epoch.epoch // total, loss=epoch.loss)

        source = given.source
        return train_judge(
            source.train,
            source.supervision,
            source.truth,
            network=network,
            steps=steps,
            seed=seed,
            device=best_device(),
            on_epoch=on_epoch,
        )
