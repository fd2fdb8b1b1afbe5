"""Assemble images into a `CondensedSet`, with the record that every method fills in the same way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from condense import __version__
from condense.data.types import Labels, TrainingSet
from condense.errors import UserError
from condense.options import Options
from condense.preprocessing import Preprocessing, standardisation
from condense.run import JSON, git_revision
from condense.sets.condensed_set import CondensedSet, Cost, Floats, Pixels, Provenance


def check_ipc(ipc: int) -> None:
    """Raise `UserError` unless `ipc` is at least 1."""
    if ipc < 1:
        raise UserError(f"ipc is {ipc}; at least one image per class is needed.")


def class_major(num_classes: int, ipc: int) -> Labels:
    """Labels 0, 0, …, 1, 1, …: int64 [c * ipc]."""
    return np.repeat(np.arange(num_classes, dtype=np.int64), ipc)


def assemble(
    train: TrainingSet,
    images: Pixels,
    ipc: int,
    *,
    method: str,
    options: Options,
    seed: int,
    cost: Cost,
    source_index: Labels | None = None,
    soft_labels: Floats | None = None,
    notes: Mapping[str, JSON] | None = None,
    preprocessing: Preprocessing | None = None,
    value_range: tuple[float, float] = (0.0, 255.0),
) -> CondensedSet:
    """Combine images [c * ipc, H, W, C] in class-major order with their preprocessing and provenance.

    The notes record whether the images may be mirrored (`ImageData.may_flip`), so that evaluation does likewise.
    Without `preprocessing`, images are standardised by the training data's mean and standard deviation.

    Raises:
        UserError: the arrays do not make a valid `CondensedSet`.
    """
    return CondensedSet(
        images=images,
        labels=class_major(train.images.num_classes, ipc),
        classes=train.images.classes,
        preprocessing=preprocessing or standardisation(train.images.images),
        value_range=value_range,
        provenance=Provenance(
            method=method,
            ipc=ipc,
            seed=seed,
            recipe=json.loads(options.model_dump_json()),
            data_name=train.images.name,
            data_fingerprint=train.images.fingerprint(),
            supervision=train.supervision.kind,
            corruption=train.corruption.spec,
            corruption_rate=train.corruption.overall_rate,
            cost=cost,
            git_revision=git_revision(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            package_version=__version__,
            notes={**(notes or {}), "flip": train.images.may_flip},
        ),
        source_index=source_index,
        soft_labels=soft_labels,
    )
