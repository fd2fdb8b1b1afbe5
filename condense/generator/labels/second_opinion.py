"""A second opinion on labels, pooled with the diffusion classifier's.

Classifiers trained on the same imprecise labels recognise photographs after less training than a generator, and make
other errors. The two are combined in a logarithmic opinion pool, p(y | x) ~ r_y (f_y / r_y)^a (h_y / r_y)^b with the
class prior r; a and b maximise the likelihood of the labels of the generator's held-out images, so that the better
model counts more. Source: Genest & Zidek (1986), "Combining Probability Distributions", Statistical Science 1(1),
Sec. 3. Drawing and scores of the diffusion classifier do not use it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from condense import json_values
from condense.data.types import Beliefs
from condense.generator.classifier import held_out_loss
from condense.generator.labels.fold_networks import FoldNetworks
from condense.generator.labels.one_classifier import OneClassifier
from condense.run import JSON

EXPONENTS = tuple(i / 10 for i in range(21))
USUAL, SPREAD = 0.7, 0.35  # prior mean and standard deviation of each exponent
ALONE = (0.0, 1.0)


Judge: TypeAlias = FoldNetworks | OneClassifier


@dataclass
class SecondOpinion:
    """Classifiers beside the generator.

    Attributes:
        judge: the labeller's, or with few labels VolMinNet's.
        exponents: a, of the diffusion classifier, and b, of these.
    """

    judge: Judge
    exponents: tuple[float, float] = (USUAL, USUAL)

    @property
    def alone(self) -> bool:
        """Whether held-out labels gave the diffusion classifier no weight, so that it need not be asked."""
        return self.exponents[0] == 0

    def pooled(self, from_generator: Beliefs | None, mine: Beliefs, log_prior: Tensor) -> Beliefs:
        """p(y | x) by both: float32 [n, c], rows summing to 1.

        Args:
            from_generator: f(x) [n, c]; may be None if `alone`.
            mine: h(x) [n, c], of the judge's `beliefs`.
            log_prior: log class prior [c].
        """
        own = logarithm(mine)
        first = torch.zeros_like(own) if from_generator is None else logarithm(from_generator)
        logits = pool(first, own, log_prior.cpu(), self.exponents)
        return np.asarray(logits.softmax(1).numpy(), dtype=np.float32)

    def transition(self, of_generator: Tensor) -> Tensor:
        """T [c, c] to weigh labels with: the judge's own, or that of the generator, which is a labeller's."""
        return (self.judge.transition if isinstance(self.judge, OneClassifier) else of_generator).cpu()

    def to(self, device: torch.device | str) -> SecondOpinion:
        """The same on another device."""
        self.judge.to(device)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that `of` reads."""
        return self.judge.tensors()

    def numbers(self) -> dict[str, JSON]:
        """The JSON that `of` reads besides the tensors."""
        return {"exponents": list(self.exponents), "by": self.judge.NAME, "judge": self.judge.numbers()}

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, JSON], image_shape: tuple[int, int, int]
    ) -> SecondOpinion:
        """One from its `tensors` and `numbers`, for images of `image_shape` (C, H, W); raises as `FoldNetworks.of`."""
        kind = {each.NAME: each for each in (FoldNetworks, OneClassifier)}[json_values.text(numbers, "by")]
        a, b = json_values.numbers(numbers, "exponents")
        return cls(kind.of(tensors, json_values.section(numbers, "judge"), image_shape), (a, b))


def pool(first: Tensor, second: Tensor, log_prior: Tensor, exponents: tuple[float, float]) -> Tensor:
    """Logits of the logarithmic pool of two log posteriors [n, c], which share the log prior [c]: [n, c]."""
    a, b = exponents
    return a * first + b * second + (1 - a - b) * log_prior


def fit_exponents(first: Tensor, second: Tensor, likelihood: Tensor, log_prior: Tensor) -> tuple[float, float]:
    """The pair of `EXPONENTS` that maximises the likelihood of held-out labels.

    A normal prior around `USUAL` dominates with few held-out images and fades with hundreds.

    Args:
        first: log posterior of the first model [m, c].
        second: log posterior of the second model [m, c].
        likelihood: p(z | y) of the images' labels [m, c].
        log_prior: log class prior [c].
    """

    def cost(exponents: tuple[float, float]) -> float:
        misfit = len(first) * held_out_loss(pool(first, second, log_prior, exponents), likelihood)
        return misfit + sum((exponent - USUAL) ** 2 for exponent in exponents) / (2 * SPREAD**2)

    return min(itertools.product(EXPONENTS, EXPONENTS), key=cost)


def earned_exponents(first: Tensor, second: Tensor, likelihood: Tensor, log_prior: Tensor) -> tuple[float, float]:
    """As `fit_exponents` where the second model is calibrated: it counts alone unless pooling pays.

    Pooling pays if it makes the m held-out labels more than m times as probable, which is what two more parameters cost
    by the Bayesian information criterion. Source: Schwarz (1978), "Estimating the Dimension of a Model", Annals of
    Statistics 6(2).
    """

    def probable(exponents: tuple[float, float]) -> float:
        return -len(first) * held_out_loss(pool(first, second, log_prior, exponents), likelihood)

    found = fit_exponents(first, second, likelihood, log_prior)
    return found if probable(found) - probable(ALONE) > math.log(len(first)) else ALONE


def logarithm(posterior: Beliefs) -> Tensor:
    """Log posterior [n, c] of a posterior [n, c]; no probability is taken for less than 1e-8."""
    return torch.from_numpy(posterior).clamp_min(1e-8).log()
