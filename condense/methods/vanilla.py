"""Vanilla: the same generator trained by EDM on the labels as given, the baseline that shows the effect of noise.

Source: Karras et al. (2022), https://arxiv.org/abs/2206.00364. Partial labels: a random candidate per step; unlabelled
images are left out. `drawn=as-published` takes samples unselected.
"""

from __future__ import annotations

from condense.data.types import TrainingSet
from condense.methods._generate import GeneratorOptions, condense_with_generator
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(GeneratorOptions):
    """A generator trained on labels as given."""


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """`ipc` generated images per class."""
    return condense_with_generator(train, ipc, options, seed, run, "vanilla")
