"""IDC: images whose gradients in networks trained on real images resemble those of real ones.

`pack=2` is the paper's multi-formation of four pictures in an image; the default, one, is its IDC-I. Real images are
drawn, and networks taught, by the beliefs of `--clean-first`, or by the given labels without it. See
`_real_gradients.py` for the equation and the departures.
Source: Kim et al. (2022), "Dataset Condensation via Efficient Synthetic-Data Parameterization",
https://arxiv.org/abs/2205.14959.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from condense.data.types import TrainingSet
from condense.methods._believed import believed_images
from condense.methods._learn import PackedOptions
from condense.methods._pixels import UNIT_RANGE, check_square, initial_images
from condense.methods._real_gradients import RealGradientOptions, evaluations_of, learn
from condense.preprocessing import standardisation
from condense.run import Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet


class Options(RealGradientOptions, PackedOptions):
    """Options of matching gradients, and where images start."""

    init: Literal["noise", "real"] = Field("real", description="where images start: noise or real")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks, real and learned."""
    return evaluations_of(train, ipc, options, options.pack)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Learn `ipc` images per class.

    Raises:
        UserError: images are not square, too few of them may be of a class, or the checkpoint is another run's.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """
    check_ipc(ipc, train)
    check_square(train)
    preprocessing = standardisation(train.images.images)
    least, patches = (ipc, options.pack**2) if options.init == "real" else (1, 1)
    reals = believed_images(train, preprocessing, least, patches=patches)
    start = initial_images(reals, ipc, options.init, seed, options.pack)
    learned = learn(train, reals, start, options, seed, run, "idc", options.pack)
    return assemble(
        train,
        learned.pixels,
        Making("idc", ipc, options, seed, cost=learned.cost, notes=learned.notes, pack=options.pack),
        preprocessing=preprocessing,
        value_range=UNIT_RANGE,
    )
