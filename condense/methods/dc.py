"""DC: learned images whose gradients resemble those of real images (gradient matching).

Source: Zhao, Mopuri & Bilen (2021), "Dataset Condensation with Gradient Matching",
https://arxiv.org/abs/2006.05929. The defaults are those of the authors' public code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from condense.data.types import TrainingSet
from condense.methods._by_ipc import nearest_row
from condense.methods._gradient_matching import (
    PUBLISHED_LOOPS,
    GradientMatchingOptions,
    Loops,
    MatchingMethod,
    Start,
    match_gradients,
    matching,
)
from condense.run import Run
from condense.sets.condensed_set import CondensedSet

# The public code defines no loops beyond 50 images per class. The author's advice for more, (50, 10) and real initial
# images, is our row of 100.
LOOPS = {**PUBLISHED_LOOPS, 100: Loops(50, 10)}
STARTS: dict[int, Start] = {1: "noise", 50: "noise", 100: "real"}


class Options(GradientMatchingOptions):
    """Options of gradient matching; `outer`, `inner` and `init` follow the row of LOOPS and STARTS nearest to ipc."""

    QUICK: ClassVar[Mapping[str, Any]] = {"iterations": 4, "outer": 2, "inner": 2, "real_batch": 32}

    init: Start | None = Field(None, description="where images start: noise or real; by ipc when empty")


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks, real and learned."""
    return matching(train, ipc, options, options.loops(LOOPS, max(ipc, 1))[0])


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Learn `ipc` images per class by gradient matching, without augmentation."""
    loops, note = options.loops(LOOPS, max(ipc, 1))
    start = options.init or nearest_row(STARTS, max(ipc, 1))[1]
    return match_gradients(
        train, ipc, options, seed, run, MatchingMethod("dc", start, loops, "none", {**note, "init": start})
    )
