"""DMIS: a diffusion generator trained to be robust to imprecise labels, sampled class by class.

Source: "Learning Robust Diffusion Models from Imprecise Supervision" (2025), https://arxiv.org/abs/2510.03016.
Beyond the paper's plain conditional sampling, sampling starts from prototypes, a pool is drawn and representatives
chosen; `drawn=as-published` samples as the paper does.
"""

from __future__ import annotations

from condense.data.types import TrainingSet
from condense.methods._generate import GeneratorOptions, condense_with_generator
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class Options(GeneratorOptions):
    """A generator trained to be robust to the labels."""


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """`ipc` generated images per class."""
    return condense_with_generator(train, ipc, options, seed, run, "dmis")
