"""Images and training labels, shared by all commands that take `--data`, `--labels` and `--noise`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from condense.data import arrays, label_file, sources
from condense.data.corrupt import imprecise_share
from condense.data.noise import imprecise
from condense.data.noise_spec import parse_noise
from condense.data.reading import in_list
from condense.data.types import Corruption, ImageData, Mask, Source, Supervision, TrainingSet, check_every_class
from condense.errors import UserError
from condense.notices import tell
from condense.recipe import DataRecipe, parse
from condense.run import JSON
from condense.sets.condensed_set import CondensedSet


@dataclass(frozen=True, eq=False)
class LoadedData:
    """A loaded data set with the labels to use.

    Attributes:
        source: images, labels as given, and the truth for scoring; subsampled if a long tail was requested.
        corruption: how the labels were corrupted.
        recipe: the section `data` of the recipe.
        noise_seed: seed of the noise.
        images_found: number of training images before long-tail subsampling.
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
    """Read the data set a recipe names and show notices about it. Raises as `sources.load`."""
    return _told(
        sources.load(
            data.name,
            root=data.root,
            image_size=data.image_size,
            download=data.download,
            fit=data.fit,
            background=data.background,
            skip_unreadable=data.skip_unreadable,
            flip=data.flip,
        )
    )


def tell_of_flip(images: ImageData) -> None:
    """Tell the user the assumption about mirrored images, unless it is set explicitly."""
    if images.flip is None:
        does, says = ("", "false") if images.may_flip else (" not", "true")
        tell(
            f"{images.name}: judging by the class names, a mirror image does{does} show its class, so augmentation "
            f"may{does} mirror images; if this is wrong: --set data.flip={says}."
        )


def tell_of_unjudged(unjudged: Mask, supervision: Supervision, classes: Sequence[str]) -> None:
    """Tell the user about labels that are not judged, bool [n], see `cross.unjudged`; nothing if there are none."""
    count = int(unjudged.sum())
    if count:
        named = np.flatnonzero(supervision.candidates[unjudged].any(0)).tolist()
        which = "1 label is" if count == 1 else f"{count} labels are"
        tell(
            f"{which} not judged, but kept, since there were no other images of the class to learn it from: "
            f"{in_list([classes[y] for y in named])}."
        )


def source_of_arrays(contents: arrays.Arrays, data: DataRecipe) -> Source:
    """A data set from arrays in memory, read as the recipe says; shows notices about it. Raises as `from_arrays`."""
    return _told(
        sources.from_arrays(
            contents, data.name, image_size=data.image_size, fit=data.fit, background=data.background, flip=data.flip
        )
    )


def _told(source: Source) -> Source:
    """The source, after its notices have been shown."""
    for note in source.reading.notes:
        tell(note)
    return source


def given_labels(source: Source, data: DataRecipe, seed: int) -> LoadedData:
    """The data with the labels or the noise given by the recipe.

    Args:
        source: the data as loaded.
        data: label file and noise.
        seed: seed of the noise.

    Raises:
        UserError: the labels cannot be used; noise was requested without clean labels to inject it into, or with
            labels from a file; a class has no label.
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
    """The section `data` of the recipe a set was made with; empty if none is recorded."""
    recipe = condensed.provenance.recipe
    section = recipe.get("data") if isinstance(recipe, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def recorded_seed(condensed: CondensedSet, default: int = 0) -> int:
    """The seed of the noise in the labels a set was made from."""
    recipe = condensed.provenance.recipe
    whole: Mapping[str, Any] = recipe if isinstance(recipe, Mapping) else {}
    seeds = (recorded_data(condensed).get("noise_seed"), whole.get("seed"), default)
    return next(int(known) for known in seeds if known is not None)


def places(data: DataRecipe) -> dict[str, JSON]:
    """Absolute paths of the data, `data_path`, `data_root` and `data_labels`, as far as they are paths."""
    found: dict[str, JSON] = {}
    if data.name not in sources.names():
        found["data_path"] = _absolute(data.name)
    if data.root is not None:
        found["data_root"] = str(data.root.absolute())
    if data.labels is not None:
        found["data_labels"] = _absolute(data.labels)
    return found


def _absolute(place: str) -> str:
    """PATH or PATH::NAME with the absolute path."""
    path, colons, name = place.partition("::")
    return f"{Path(path).absolute()}{colons}{name}"


def own_data(condensed: CondensedSet, data: DataRecipe) -> DataRecipe:
    """`data` filled in from the set's record: name or absolute path, root, and how images were read.

    Raises `UserError` if the data have no known name and are not here.
    """
    made_from, notes = recorded_data(condensed), condensed.provenance.notes
    name = str(made_from.get("name", condensed.provenance.data_name))
    if name not in sources.names():
        asked = [str(notes.get("data_path", name)), name]
        here = next((place for place in asked if Path(place.partition("::")[0]).exists()), None)
        if here is None:
            raise UserError(f"The set was made from {asked[0]!r}, which is not found here; give its path with --data.")
        name = here
    found: dict[str, str | Path | None] = {"name": name}
    if data.root is None:
        roots = [Path(str(root)) for root in (notes.get("data_root"), made_from.get("root")) if root is not None]
        found["root"] = next((root for root in roots if root.exists()), None)
    kept = {"fit", "background", "skip_unreadable", "flip"} - data.model_fields_set
    recorded = {key: made_from[key] for key in sorted(kept & made_from.keys())}
    return parse(DataRecipe, {**data.model_dump(exclude_unset=True), **recorded, **found}, "data the set was made from")


def own_labels(condensed: CondensedSet) -> str | None:
    """FILE or FILE::NAME of the labels a set was made with, as it records; None if they were the data's own.

    Raises `UserError` if the file is not here.
    """
    recorded = recorded_data(condensed).get("labels")
    if recorded is None:
        return None
    place = str(condensed.provenance.notes.get("data_labels", recorded))
    if not Path(place.partition("::")[0]).exists():
        raise UserError(f"The set was made with the labels in {place!r}, which is not found here; put the file back.")
    return place


def check_own_images(condensed: CondensedSet, source: Source, seed: int) -> None:
    """Refuse data found by the set's record whose training images are not those the set was made from.

    Args:
        condensed: the set.
        source: the data as loaded, of the set's image size.
        seed: seed of the noise if not recorded; it decides which images a long tail keeps.

    Raises:
        UserError: the fingerprints differ.
    """
    noise = parse_noise(str(recorded_data(condensed).get("noise", "none")))
    train = source.train if noise.imbalance == 1 else imprecise(source, noise, seed)[0].train
    if train.fingerprint() != condensed.provenance.data_fingerprint:
        raise UserError(
            f"The training images of {source.train.provenance.get('path', source.train.name)} are not those that the "
            "set was made from (their fingerprints differ), so its test images may differ too; give the data to test "
            "on with --data."
        )


def _share(source: Source) -> float | None:
    return None if source.truth is None else imprecise_share(source.supervision, source.truth)
