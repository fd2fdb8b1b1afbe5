"""Sets whose images are learned from a start: noise, or real images of their class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field
from torch import Tensor

from condense.data.types import TrainingSet
from condense.methods._believed import believed_images
from condense.methods._learn import Learned, PackedOptions
from condense.methods._pixels import UNIT_RANGE, RealImages, check_square, initial_images
from condense.preprocessing import standardisation
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet


class StartedOptions(PackedOptions):
    """Options of methods that learn images from noise or real ones."""

    init: Literal["noise", "real"] = Field("real", description="where images start: noise or real")

    def needed(self, ipc: int) -> tuple[int, int]:
        """Images per class that learning starts from, and real ones in each of them."""
        return (ipc, self.pack**2) if self.init == "real" else (1, 1)


def learned_set(
    train: TrainingSet,
    reals: RealImages,
    ipc: int,
    options: StartedOptions,
    seed: int,
    method: str,
    learn: Callable[[RealImages, Tensor], Learned],
) -> CondensedSet:
    """The set that `learn` makes of `reals` and the initial images, normalised [c * ipc, C, H, W], `ipc` per class."""
    learned = learn(reals, initial_images(reals, ipc, options.init, seed, options.pack))
    return assemble(
        train,
        learned.pixels,
        Making(method, ipc, options, seed, cost=learned.cost, notes=learned.notes, pack=options.pack),
        preprocessing=reals.preprocessing,
        value_range=UNIT_RANGE,
        soft_labels=learned.soft_labels,
    )


def learned_by_beliefs(
    train: TrainingSet,
    ipc: int,
    options: StartedOptions,
    seed: int,
    method: str,
    learn: Callable[[RealImages, Tensor], Learned],
) -> CondensedSet:
    """As `learned_set`, of real images drawn by the beliefs of `train`, or by its labels without any.

    Raises:
        UserError: images are not square, or too few of them may be of a class.
    """
    check_ipc(ipc, train)
    check_square(train)
    least, patches = options.needed(ipc)
    reals = believed_images(train, standardisation(train.images.images), least, patches=patches)
    return learned_set(train, reals, ipc, options, seed, method, learn)
