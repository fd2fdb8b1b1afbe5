"""Model selection on held-out training images: the EMA weights at the step where their labels were most probable."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from condense.json_values import JSON, number, whole


class BestWeights:
    """Remembers the weights with the lowest held-out loss.

    Attributes:
        loss: the lowest loss so far, in nats; infinite before the first offer.
        step: the step it was reached at.
        weights: the network's state then, empty before the first offer.
    """

    def __init__(self) -> None:
        self.loss, self.step = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def offer(self, loss: float, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keep a copy of `weights` if `loss` is the lowest yet."""
        if loss < self.loss:
            self.loss, self.step = loss, step
            self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}

    def to_json(self) -> dict[str, JSON]:
        """Step and loss, which `restore` takes together with the weights."""
        return {"step": self.step, "loss": self.loss if self.weights else None}

    def restore(self, weights: Mapping[str, Tensor], told: Mapping[str, JSON]) -> None:
        """Continue from saved `weights` and `to_json`."""
        self.offer(number(told, "loss"), whole(told, "step"), weights)
