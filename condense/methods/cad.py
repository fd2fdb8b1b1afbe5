"""CAD: the same generator trained by EDM on the labels as given, conditioned on how credible each label is.

Source: Dufour et al. (2024), "Don't drop your samples!", https://arxiv.org/abs/2405.20324. The coherence r in [0, 1] of
an image and its label is an input beside the class; samples are drawn at r = 1. Where r comes from is our choice, see
`condense.generator.labels.coherence`. Partial labels: one random candidate each time; unlabelled images are
left out. `drawn=as-published` takes samples unselected. Left out: guidance between r = 1 and r = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from condense.classifiers.cross import FoldOptions
from condense.data.types import TrainingSet
from condense.methods._generate import GeneratorOptions, condense_with_generator
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(GeneratorOptions):
    """A generator conditioned on how credible each label is."""

    QUICK: ClassVar[Mapping[str, Any]] = {
        **GeneratorOptions.QUICK,
        "train": {**GeneratorOptions.QUICK["train"], "coherence": FoldOptions.QUICK},
    }


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """`ipc` generated images per class.

    Raises:
        UserError: no image has a label.
    """
    return condense_with_generator(train, ipc, options, seed, run, "cad")
