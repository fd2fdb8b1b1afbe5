"""Learning on from the images of a set, by beliefs: distribution matching, then gradients of networks on real images.

Distribution matching moves far in few steps and then stalls: it compares classes one by one. Gradients in networks that
already tell the classes apart show where they are taken for each other (docs/decisions.md). See `_distribution.py` and
`_real_gradients.py` for the equations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from condense import rng
from condense.data.types import TrainingSet
from condense.methods import _distribution, _real_gradients
from condense.methods._believed import believed_images
from condense.methods._distribution import Cooldown, DistributionOptions
from condense.methods._pixels import UNIT_RANGE, check_square
from condense.methods._real_gradients import RealGradientOptions
from condense.preprocessing import planes
from condense.run import Run
from condense.sets.condensed_set import CondensedSet

GRADIENTS = "gradients"  # folder, and purpose of the random numbers


class RefineOptions(DistributionOptions):
    """Options of learning on from images drawn: few steps, so the rate is larger with more images, and falls.

    The gradient in one of ipc images of a class is 1/ipc of that in their mean, so that at one rate fifty images move a
    fifth as far as ten (docs/decisions.md).
    """

    FREE: ClassVar[frozenset[str]] = DistributionOptions.FREE | {"gradients"}

    iterations: int = Field(300, ge=1, description="fresh networks, one step on the images each")
    lr_img: float | None = Field(
        None, gt=0, description="learning rate of the images; a fifth of ipc when empty, 1 at least"
    )
    cooldown: Cooldown = 1.0
    real_batch: int = Field(128, ge=1, description="real images per class and step")
    gradients: RealGradientOptions | None = Field(
        None, description="then learn on as idc does; the images stay as they are when empty"
    )

    def rate(self, ipc: int) -> tuple[float, int | None]:
        """The learning rate, which comes from no row."""
        return self.lr_img or max(1.0, ipc / 5), None


def refined(made: CondensedSet, train: TrainingSet, options: RefineOptions, seed: int, run: Run) -> CondensedSet:
    """The set with its images learned on by the beliefs of `train`, and the cost added to its record.

    Args:
        made: the set, its pixels uint8.
        train: images and beliefs.
        options: see `RefineOptions`.
        seed: random seed.
        run: keeps checkpoints, those of gradients in a folder of their own.

    Raises:
        UserError: images are not square, or a checkpoint is another run's.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """
    check_square(train)
    told, preprocessing = made.provenance, made.preprocessing
    reals = believed_images(train, preprocessing, 1)
    start = preprocessing.normalise(planes(made.images).float() / 255).to(reals.device)
    learned = _distribution.learn(train, reals, start, options, seed, run, told.method)
    cost, notes = told.cost + learned.cost, learned.notes
    if options.gradients is not None:
        start = preprocessing.normalise(planes(learned.pixels)).to(reals.device)
        learned = _real_gradients.learn(
            train,
            reals,
            start,
            options.gradients,
            rng.derive(seed, GRADIENTS),
            run.within(GRADIENTS),
            told.method,
            options.pack,
        )
        cost, notes = cost + learned.cost, {**notes, GRADIENTS: learned.notes}
    record = replace(told, cost=cost, notes={**told.notes, "refined": notes})
    return replace(made, images=learned.pixels, value_range=UNIT_RANGE, provenance=record)


def parts(train: TrainingSet, ipc: int, options: RefineOptions) -> list[tuple[str, int | None, int]]:
    """Network, its width if not its own, and number of images that will pass through it, of each part of `refined`."""
    found: list[tuple[str, int | None, int]] = [
        (options.backbone, None, _distribution.evaluations_of(train, ipc, options, believed=True))
    ]
    if (then := options.gradients) is not None:
        found.append((then.backbone, then.width, _real_gradients.evaluations_of(train, ipc, then, options.pack)))
    return found
