"""The real images that represent a class according to beliefs about them, whatever their labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condense.data.types import Beliefs, Labels, TrainingSet
from condense.errors import UserError
from condense.generator.labels.labeller import Labeller
from condense.machine import best_device
from condense.methods._pixels import RealImages
from condense.preprocessing import Preprocessing
from condense.run import peak_memory_bytes
from condense.sets.condensed_set import Cost

SURE = 0.95
"""Least belief in its class of an image that represents it, if the class has enough of them."""


def labelling_cost(fitted: Labeller) -> Cost:
    """The cost of training a labeller and of its predictions."""
    return Cost(fitted.seconds, fitted.network_evaluations, peak_memory_bytes(), fitted.images_seen)


def believed_members(beliefs: Beliefs, classes: Sequence[str], ipc: int, *, patches: int = 1) -> list[Labels]:
    """Indices of each class's images: int64 each, ascending.

    Those whose belief in the class exceeds `SURE`; if there are fewer than m = ipc·patches, the m most probable ones
    and all that are as probable as the last of them.

    Args:
        beliefs: p(y | x, z), float32 [n, c].
        classes: their names.
        ipc: images per class.
        patches: real images needed for each of these.

    Raises:
        UserError: fewer than ipc·patches images can be of a class at all.
    """
    members, needed = [], ipc * patches
    for y, name in enumerate(classes):
        own = beliefs[:, y]
        least = np.sort(own)[-needed] if needed <= len(own) else np.float32(0)
        if least <= 0:
            tiles = f" of {patches} real ones each" if patches > 1 else ""
            raise UserError(
                f"Too few images may be of the class {name!r}: {int((own > 0).sum())}, ipc is {ipc}{tiles}; lower ipc, "
                "or drop the class."
            )
        members.append(np.flatnonzero(own > SURE if least > SURE else own >= least))
    return members


def believed_images(train: TrainingSet, preprocessing: Preprocessing, least: int, *, patches: int = 1) -> RealImages:
    """The training images on the device, their batches drawn in proportion to the beliefs given or to the labels.

    Images of which nothing is known are in no batch: they would all be of every class. Learning may start from
    least·patches images of each class that are surest to be of it.

    Raises:
        UserError: fewer can be of a class at all, or only images of which nothing is known.
    """
    beliefs = train.believed()
    members = believed_members(beliefs, train.images.classes, least, patches=patches)
    known = np.zeros_like(beliefs)
    index = known_images(beliefs)
    known[index] = beliefs[index]
    for name, share in zip(train.images.classes, known.sum(0), strict=True):
        if share <= 0:
            raise UserError(f"No image is known to be of the class {name!r}; label some, or repair labels first.")
    return RealImages(train, preprocessing, least, best_device(), members, known)


def known_images(beliefs: Beliefs) -> Labels:
    """Indices of the images with any information on their class, int64.

    Args:
        beliefs: p(y | x, z), float32 [n, c].

    Raises:
        UserError: there are none.
    """
    known = np.flatnonzero(beliefs.max(1) - beliefs.min(1) > 1e-6)
    if not len(known):
        raise UserError("Nothing is known of the class of any image; label some, or repair labels first.")
    return known
