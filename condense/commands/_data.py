"""Images and the labels that training gets, shared by all commands that take `--data` and `--noise`."""

from __future__ import annotations

from condense.data import arrays, corrupt, sources
from condense.data.types import Corruption, Source, Supervision, TrainingSet
from condense.errors import UserError
from condense.recipe import DataRecipe


def load_source(data: DataRecipe) -> Source:
    """Read the data set a recipe names. Raises as `condense.data.sources.load`."""
    return sources.load(data.name, root=data.root, image_size=data.image_size, download=data.download)


def given_labels(source: Source, noise: str, seed: int) -> tuple[Supervision, Corruption]:
    """The labels as training gets them, and how they were made.

    Raises:
        UserError: noise was asked for and there are no clean labels to inject it into.
    """
    if corrupt.parse(noise).kind == "none":
        return source.supervision, arrays.recorded_corruption(source.train)
    if source.truth is None:
        raise UserError(f"{source.train.name} has no clean labels, so {noise!r} cannot be injected; leave it out.")
    return corrupt.apply(noise, source.truth, source.train, seed)


def training_set(source: Source, noise: str, seed: int) -> TrainingSet:
    """Images and imprecise labels, without the truth. Raises as `given_labels`."""
    return TrainingSet(source.train, *given_labels(source, noise, seed))
