"""Random: real images drawn uniformly without replacement from each observed class.

The lower bound every condensation method is compared with. Source: e.g. Zhao, Mopuri & Bilen (2021),
https://arxiv.org/abs/2006.05929, Table 1.
"""

from __future__ import annotations

import time

import numpy as np

from condense import rng
from condense.data.types import TrainingSet
from condense.methods._members import class_members
from condense.options import Options as BaseOptions
from condense.run import Run
from condense.sets.assemble import Making, assemble, check_ipc
from condense.sets.condensed_set import CondensedSet, Cost


class Options(BaseOptions):
    """Random has no options."""


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """No network is used."""
    return 0


def check(train: TrainingSet, ipc: int, options: Options) -> None:
    """Raise `UserError` unless every class has `ipc` images with a single label."""
    class_members(train, ipc)


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Draw `ipc` real images from each class by observed label.

    Raises:
        UserError: a class has fewer than `ipc` images, or labels are not single.
    """
    started = time.perf_counter()
    check_ipc(ipc, train)
    members = class_members(train, ipc)
    generator = np.random.default_rng(rng.derive(seed, "random"))
    chosen = np.concatenate([generator.choice(own, ipc, replace=False) for own in members]).astype(np.int64)
    return assemble(
        train,
        train.images.images[chosen],
        Making("random", ipc, options, seed, cost=Cost(seconds=time.perf_counter() - started)),
        source_index=chosen,
    )
