"""Images and the labels that training gets, shared by all commands that take `--data`, `--labels` and `--noise`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from condense.data import arrays, label_file, sources
from condense.data.corrupt import imprecise_share
from condense.data.noise import imprecise
from condense.data.noise_spec import parse_noise
from condense.data.types import Corruption, Source, TrainingSet, check_every_class
from condense.errors import UserError
from condense.recipe import DataRecipe
from condense.run import JSON
from condense.sets.condensed_set import CondensedSet


@dataclass(frozen=True, eq=False)
class LoadedData:
    """A data set as it is worked on.

    Attributes:
        source: images, labels as given, and the truth for scoring; thinned out where a long tail was asked for.
        corruption: how the labels came to be what they are.
        recipe: what was asked for.
        noise_seed: seed of the noise.
        images_found: how many training images there were before a long tail thinned them out.
    """

    source: Source
    corruption: Corruption
    recipe: DataRecipe
    noise_seed: int
    images_found: int

    def __len__(self) -> int:
        return len(self.source.train)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the label numbers."""
        return self.source.train.classes

    def training_set(self) -> TrainingSet:
        """Images and imprecise labels, without the truth."""
        return TrainingSet(self.source.train, self.source.supervision, self.corruption)

    def to_json(self) -> dict[str, JSON]:
        """Name, numbers, kind of the labels and their corruption, as a JSON object."""
        train = self.source.train
        return {
            "name": train.name,
            "images": len(train),
            "image_shape": list(train.images.shape[1:]),
            "classes": list(train.classes),
            "test_images": None if self.source.test is None else len(self.source.test),
            "supervision": self.source.supervision.kind,
            "corruption": self.corruption.spec,
            "corruption_rate": self.corruption.overall_rate,
        }


def load_source(data: DataRecipe) -> Source:
    """Read the data set a recipe names, as found. Raises as `condense.data.sources.load`."""
    return sources.load(data.name, root=data.root, image_size=data.image_size, download=data.download)


def given_labels(source: Source, data: DataRecipe, seed: int) -> LoadedData:
    """The data with the labels that the recipe names, or with the noise it asks for.

    Args:
        source: the data as found.
        data: label file and noise.
        seed: of the noise.

    Raises:
        UserError: the labels cannot be used; noise was asked for and there are no clean labels to inject it into, or
            the labels come from a file; nobody labelled a class.
    """
    noise, found = parse_noise(data.noise), len(source.train)
    corruption = arrays.recorded_corruption(source.train)
    if data.labels is not None:
        if not noise.keeps_labels:
            raise UserError(
                f"The labels come from {data.labels}, so the noise {data.noise!r} cannot be injected as well; "
                "leave one of --labels and --noise out."
            )
        source = source.with_supervision(label_file.read(data.labels, source))
        corruption = Corruption(f"labels:{Path(data.labels).name}", 0, _share(source))
    if not noise.keeps_all:
        before = corruption.spec
        source, corruption = imprecise(source, noise, seed)
        if noise.keeps_labels and before != "none":
            corruption = replace(corruption, spec=f"{noise}+{before}")
    if data.labels is not None or not noise.keeps_all:
        check_every_class(source.supervision, source.train.classes, source.train.name)
    return LoadedData(source, corruption, data, seed, found)


def recorded_data(condensed: CondensedSet) -> Mapping[str, Any]:
    """The section `data` of the recipe a set was made by; empty where none is recorded."""
    recipe = condensed.provenance.recipe
    section = recipe.get("data") if isinstance(recipe, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def own_data(condensed: CondensedSet, data: DataRecipe) -> DataRecipe:
    """`data` with the name or path, and the root, of what the set was made from, as its recipe tells.

    Raises `UserError` where that is neither a known name nor here.
    """
    made_from = recorded_data(condensed)
    name, root = str(made_from.get("name", condensed.provenance.data_name)), made_from.get("root")
    if name not in sources.NAMES and not Path(name.partition("::")[0]).exists():
        raise UserError(f"The set was made from {name!r}, which is not here; say where that data is with --data.")
    found: dict[str, Any] = {"name": name}
    if data.root is None and root is not None and Path(str(root)).exists():
        found["root"] = Path(str(root))
    return data.model_copy(update=found)


def _share(source: Source) -> float | None:
    return None if source.truth is None else imprecise_share(source.supervision, source.truth)
