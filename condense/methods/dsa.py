"""DSA: gradient matching with learned and real images under the same random augmentation.

Source: Zhao & Bilen (2021), "Dataset Condensation with Differentiable Siamese Augmentation",
https://arxiv.org/abs/2102.08259. The defaults are those of the authors' public code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from condense.augment import DSA
from condense.data.types import TrainingSet
from condense.methods._augmentation import check_augmentation
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

# The public code defines no loops beyond 50 images per class; its author reports a result with (100, 2) at 100.
LOOPS = {**PUBLISHED_LOOPS, 100: Loops(100, 2)}


class Options(GradientMatchingOptions):
    """Options of gradient matching; `outer` and `inner` follow the row of LOOPS nearest to ipc."""

    QUICK: ClassVar[Mapping[str, Any]] = {"iterations": 4, "outer": 2, "inner": 2, "real_batch": 32}

    init: Start = Field("real", description="where images start: noise or real")
    augment: Annotated[str, AfterValidator(check_augmentation)] = Field(
        DSA,
        description="operations, joined by _, of which one is drawn per class and step; flip only as data.flip allows",
    )


def evaluations(train: TrainingSet, ipc: int, options: Options) -> int:
    """Images that will pass through networks, real and learned."""
    return matching(train, ipc, options, options.loops(LOOPS, max(ipc, 1))[0])


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """Learn `ipc` images per class by gradient matching with siamese augmentation."""
    loops, note = options.loops(LOOPS, max(ipc, 1))
    return match_gradients(
        train, ipc, options, seed, run, MatchingMethod("dsa", options.init, loops, options.augment, note)
    )
