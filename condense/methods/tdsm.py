"""TDSM: the same generator trained by EDM on mixtures of all classes, weighed by a classifier trained beforehand.

Source: Na et al. (2024), "Label-Noise Robust Diffusion Models", https://arxiv.org/abs/2402.17517. The loss is
lambda ||sum_y w_y D(x_t, sigma, y) - x_0||^2 with w_y = T[y, z] h_y(x_t, sigma) / sum; h is a separate network,
trained by forward correction with the transition matrix T, which is given or estimated by VolMinNet
(https://arxiv.org/abs/2102.02400) or a labeller. `drawn=as-published` takes samples unselected, as the paper does.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from condense.data.types import TrainingSet
from condense.generator.options import TrainOptions
from condense.methods._generate import GeneratorOptions, condense_with_generator
from condense.run import Run
from condense.sets.condensed_set import CondensedSet


class WithTransition(TrainOptions):
    """Training options; the transition matrix cannot be learned during training."""

    transition: Literal["estimate", "labeller", "volmin"] | tuple[tuple[float, ...], ...] = Field(
        "volmin",
        description="label transition matrix (rows = true class); volmin: by VolMinNet; labeller: by quick classifiers",
    )


class Options(GeneratorOptions):
    """A generator trained on mixtures of all classes."""

    train: WithTransition = WithTransition()


def condense(train: TrainingSet, ipc: int, options: Options, seed: int, run: Run) -> CondensedSet:
    """`ipc` generated images per class.

    Raises:
        UserError: no label is untrusted and no transition matrix given, or no image has a label.
    """
    return condense_with_generator(train, ipc, options, seed, run, "tdsm")
