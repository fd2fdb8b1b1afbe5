"""Assemble images into a `CondensedSet`, with the record that every method fills in the same way."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from condense import __version__
from condense.data.memory import check_fits
from condense.data.types import Labels, TrainingSet
from condense.errors import UserError
from condense.options import Options
from condense.preprocessing import Preprocessing, standardisation
from condense.run import JSON, git_revision
from condense.sets.condensed_set import CondensedSet, Cost, Floats, Pixels, Provenance


def check_ipc(ipc: int, train: TrainingSet) -> None:
    """Raise `UserError` unless `ipc` is at least 1 and as many images of each class of `train` fit in memory."""
    if ipc < 1:
        raise UserError(f"ipc is {ipc}; at least one image per class is needed.")
    check_fits(ipc * train.images.num_classes * math.prod(train.images.image_shape), f"A set of {ipc} images per class")


def class_major(num_classes: int, ipc: int) -> Labels:
    """Labels 0, 0, …, 1, 1, …: int64 [c * ipc]."""
    return np.repeat(np.arange(num_classes, dtype=np.int64), ipc)


@dataclass(frozen=True)
class Making:
    """A method's record of how it made a set; `assemble` adds the facts about the training data.

    Attributes:
        method: the method's name.
        ipc: images per class.
        options: the method's options, stored in the file as its recipe.
        seed: seed of everything random in making the set.
        cost: the cost of making it.
        notes: further JSON values to store in the file, by name.
        pack: pictures along a side of an image, see `condense.packing`.
    """

    method: str
    ipc: int
    options: Options
    seed: int
    cost: Cost = field(default_factory=Cost)
    notes: Mapping[str, JSON] = field(default_factory=dict)
    pack: int = 1

    def provenance(self, train: TrainingSet) -> Provenance:
        """The record for the file, with this package's version and the current time.

        Its notes record whether the images may be mirrored (`ImageData.may_flip`) and how many pictures they hold, so
        that evaluation does likewise.
        """
        return Provenance(
            method=self.method,
            ipc=self.ipc,
            seed=self.seed,
            recipe=json.loads(self.options.model_dump_json()),
            data_name=train.images.name,
            data_fingerprint=train.images.fingerprint(),
            supervision=train.supervision.kind,
            corruption=train.corruption.spec,
            corruption_rate=train.corruption.overall_rate,
            cost=self.cost,
            git_revision=git_revision(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            package_version=__version__,
            notes={**self.notes, "flip": train.images.may_flip, **({} if self.pack == 1 else {"pack": self.pack})},
        )


def assemble(
    train: TrainingSet,
    images: Pixels,
    making: Making,
    *,
    source_index: Labels | None = None,
    soft_labels: Floats | None = None,
    preprocessing: Preprocessing | None = None,
    value_range: tuple[float, float] = (0.0, 255.0),
) -> CondensedSet:
    """The condensed set of images [c * ipc, H, W, C] in class-major order, with labels and provenance.

    Without `preprocessing`, images are standardised by the training data's mean and standard deviation. The other
    arguments are as in `CondensedSet`.

    Raises:
        UserError: the arrays do not make a valid `CondensedSet`.
    """
    return CondensedSet(
        images=images,
        labels=class_major(train.images.num_classes, making.ipc),
        classes=train.images.classes,
        preprocessing=preprocessing or standardisation(train.images.images),
        value_range=value_range,
        provenance=making.provenance(train),
        source_index=source_index,
        soft_labels=soft_labels,
    )
