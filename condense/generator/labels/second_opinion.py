"""A second opinion on labels: the labeller's, pooled with the diffusion classifier's.

The labeller (`labeller.py`) learns p(y | x) from the same imprecise labels, recognises photographs after less training
than a generator, and makes other errors. The two are combined in a logarithmic opinion pool,
p(y | x) ~ r_y (f_y / r_y)^a (h_y / r_y)^b with the class prior r; a and b maximise the likelihood of the labels of the
generator's held-out images, so that the better model counts more. Source: Genest & Zidek (1986), "Combining Probability
Distributions", Statistical Science 1(1), Sec. 3. Every training image is judged by the network that did not see it, so
no label confirms itself. Drawing and scores of the diffusion classifier do not use it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condense import json_values
from condense.data.types import Beliefs, TrainingSet
from condense.generator.classifier import held_out_loss
from condense.generator.labels.fold_networks import FoldNetworks
from condense.run import JSON, Run, part_of

EXPONENTS = tuple(i / 10 for i in range(21))
USUAL, SPREAD = 0.7, 0.35  # prior mean and standard deviation of each exponent


@dataclass
class SecondOpinion:
    """A labeller's networks beside the generator.

    Attributes:
        networks: the networks.
        exponents: a, of the diffusion classifier, and b, of these.
    """

    networks: FoldNetworks
    exponents: tuple[float, float] = (USUAL, USUAL)

    def beliefs(self, data: TrainingSet, run: Run, *, trained_on: bool) -> Beliefs:
        """h(x), float32 [n, c]; `trained_on`: whether the networks were trained on exactly these images and labels."""
        return self.networks.out_of_fold(data, run) if trained_on else self.networks.posterior(data.images.images, run)

    def pooled(self, from_generator: Beliefs, mine: Beliefs, log_prior: Tensor) -> Beliefs:
        """p(y | x) by both: float32 [n, c], rows summing to 1.

        Args:
            from_generator: f(x) [n, c].
            mine: h(x) [n, c], see `beliefs`.
            log_prior: log class prior [c].
        """
        logits = pool(logarithm(from_generator), logarithm(mine), log_prior.cpu(), self.exponents)
        return np.asarray(logits.softmax(1).numpy(), dtype=np.float32)

    def to(self, device: torch.device | str) -> SecondOpinion:
        """The same on another device."""
        self.networks.to(device)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that `of` reads."""
        return {f"networks.{name}": tensor for name, tensor in self.networks.tensors().items()}

    def numbers(self) -> dict[str, JSON]:
        """The JSON that `of` reads besides the tensors."""
        return {"exponents": list(self.exponents), "networks": self.networks.numbers()}

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, JSON], image_shape: tuple[int, int, int]
    ) -> SecondOpinion:
        """One from its `tensors` and `numbers`, for images of `image_shape` (C, H, W); raises as `FoldNetworks.of`."""
        networks = FoldNetworks.of(part_of(tensors, "networks"), json_values.section(numbers, "networks"), image_shape)
        a, b = json_values.numbers(numbers, "exponents")
        return cls(networks, (a, b))


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


def logarithm(posterior: Beliefs) -> Tensor:
    """Log posterior [n, c] of a posterior [n, c]; no probability is taken for less than 1e-8."""
    return torch.from_numpy(posterior).clamp_min(1e-8).log()
