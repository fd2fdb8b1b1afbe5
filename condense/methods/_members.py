"""Which images belong to a class, for methods that take or start from real images."""

from __future__ import annotations

import numpy as np

from condense.data.types import TrainingSet
from condense.errors import UserError


def class_members(train: TrainingSet, ipc: int) -> list[np.ndarray]:
    """Indices of each class's images by observed label: int64 each, ascending.

    Raises:
        UserError: a class has fewer than `ipc` images with a single label.
    """
    observed = train.supervision.observed
    members = [np.flatnonzero(observed == y) for y in range(train.images.num_classes)]
    short = [(name, len(own)) for name, own in zip(train.images.classes, members, strict=True) if len(own) < ipc]
    if short:
        found = ", ".join(f"{name!r} has {count}" for name, count in short[:3])
        raise UserError(
            f"Too few images with a single label: {found}, ipc is {ipc}; lower ipc, drop the class, "
            "or choose a method that makes images (dmis)."
        )
    return members
