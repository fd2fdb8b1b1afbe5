"""The images of each class, for methods that select or start from real images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condense.data.types import Labels, TrainingSet
from condense.errors import UserError


def class_members(train: TrainingSet, ipc: int, *, patches: int = 1) -> list[Labels]:
    """Indices of each class's images by observed label: int64 each, ascending. Unlabelled images are left out.

    Raises:
        UserError: labels are partial, or a class has fewer than ipc·patches images with a single label.
    """
    refuse_partial(train)
    return members_of(train.supervision.observed, train.images.classes, ipc, patches=patches)


def members_of(labels: Labels, classes: Sequence[str], ipc: int, *, patches: int = 1) -> list[Labels]:
    """Indices of each class's images: int64 each, ascending.

    Args:
        labels: the class of each image, int64 [n]; -1 for none.
        classes: names of the classes.
        ipc: images per class.
        patches: real images needed for each of these.

    Raises:
        UserError: a class has fewer than ipc·patches.
    """
    members = [np.flatnonzero(labels == y) for y in range(len(classes))]
    short = [(name, len(own)) for name, own in zip(classes, members, strict=True) if len(own) < ipc * patches]
    if short:
        found = ", ".join(f"{name!r} has {count}" for name, count in short[:3])
        tiles = f" of {patches} real ones each" if patches > 1 else ""
        raise UserError(
            f"Too few images with a single label: {found}, ipc is {ipc}{tiles}; lower ipc, drop the class, "
            "or choose a method that makes images (dmis)."
        )
    return members


def drawn(train: TrainingSet, count: int) -> int:
    """Number of images if `count` of each class are drawn, or all of a class with fewer."""
    known = train.supervision.observed
    return int(np.bincount(known[known >= 0], minlength=train.images.num_classes).clip(max=count).sum())


def refuse_partial(train: TrainingSet) -> None:
    """Raise `UserError` if images have several candidate labels, and so no single class."""
    known = train.supervision
    partial = np.flatnonzero(~known.single & ~known.unlabelled)
    if partial.size:
        names = [train.images.classes[y] for y in np.flatnonzero(known.candidates[partial[0]])]
        raise UserError(
            f"{partial.size} of {len(train)} images have several candidate labels (image {partial[0]}: "
            f"{' or '.join(map(repr, names[:3]))}{' …' * (len(names) > 3)}), but this method sorts real images by "
            "their one label; use dmis, rded or sre2l, or repair the labels first (--clean-first dmis)."
        )
