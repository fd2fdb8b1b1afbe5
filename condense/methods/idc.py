"""IDC: images whose gradients in networks trained on real images resemble those of real ones.

`pack=2` is the paper's multi-formation of four pictures in an image; the default, one, is its IDC-I. Real images are
drawn, and networks taught, by the beliefs of `--clean-first`, or by the given labels without it. See
`_real_gradients.py` for the equation and the departures.
Source: Kim et al. (2022), "Dataset Condensation via Efficient Synthetic-Data Parameterization",
https://arxiv.org/abs/2205.14959.
"""

from __future__ import annotations

from condense.data.types import TrainingSet
from condense.methods._real_gradients import RealGradientOptions, evaluations_of, learn
from condense.methods._started import StartedOptions, learned_by_beliefs
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(RealGradientOptions, StartedOptions):
    """Options of matching gradients, and where images start."""


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
    return learned_by_beliefs(
        train,
        ipc,
        options,
        seed,
        "idc",
        lambda reals, start: learn(train, reals, start, options, seed, run, "idc", options.pack),
    )
