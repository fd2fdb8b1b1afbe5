"""Beliefs about the training images during a generator's training: bank, transition matrix, class prior."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from condense.data.types import Supervision
from condense.generator.labels.posterior import (
    PosteriorBank,
    class_prior,
    estimate_transition,
    given_label,
    label_likelihood,
)
from condense.generator.options import TrainOptions
from condense.generator.training.prerequisites import given_transition

PRIOR_HALF_LIFE = 0.1  # half-life of the class prior's moving average, as a share of the steps


class LabelModel:
    """Given labels, and beliefs learned during training.

    During the cold start labels are taken as given, and beliefs are kept only of images with untrusted labels: where
    several candidates, or all classes, are possible, an untrained network's beliefs would decide between them.

    Args:
        supervision: labels of n images.
        options: schedule, momentum, and maybe the transition matrix.
        prepared: a transition matrix [c, c] found beforehand; None for that of `options`, or to estimate one.
        device: where the tensors lie.

    Attributes:
        candidates: bool [n, c].
        trusted: bool [n].
        as_given: the labels as beliefs, float32 [n, c], see `Supervision.as_beliefs`.
        bank: f_phi(x) of every image.
        transition: T [c, c], rows = true class.
        log_prior: log class prior [c].

    Raises:
        UserError: the matrix of `options` does not fit the classes or the labels, see `given_transition`.
    """

    def __init__(
        self, supervision: Supervision, options: TrainOptions, prepared: Tensor | None, device: torch.device
    ) -> None:
        self.supervision, self.options, self.device = supervision, options, device
        self.candidates = torch.from_numpy(supervision.candidates).to(device)
        self.trusted = torch.from_numpy(supervision.trusted).to(device)
        self.as_given = torch.from_numpy(supervision.as_beliefs()).to(device)
        self.all_trusted = bool(supervision.trusted.all())
        self.has_sets = bool((~supervision.trusted & ~supervision.single).any())
        self.bank = PosteriorBank(self.candidates, self.trusted, options.bank_momentum)
        self.estimates = prepared is None and isinstance(options.transition, str)
        self.transition = self._first_transition(prepared)
        self.first_transition = self.transition.cpu()
        num_classes = supervision.num_classes
        self.log_prior = torch.full((num_classes,), -math.log(num_classes), device=device)

    def _first_transition(self, prepared: Tensor | None) -> Tensor:
        """The prepared or given matrix, or before any estimate the identity mixed with 20 % uniform."""
        if prepared is not None:
            return prepared.to(self.device)
        if isinstance(self.options.transition, str):
            num_classes = self.supervision.num_classes
            return (0.8 * torch.eye(num_classes) + 0.2 / num_classes).to(self.device)
        return given_transition(self.options.transition, self.supervision).to(self.device)

    def likelihood(self, indices: Tensor) -> Tensor:
        """p(z | y) under the current matrix, [B, c]."""
        candidates, trusted = self.candidates[indices], self.trusted[indices]
        return label_likelihood(candidates, trusted, self.transition, has_sets=self.has_sets)

    def believed(self, indices: Tensor, likelihood: Tensor) -> Tensor:
        """p(y | x, z) of the bank and the label, [B, c]."""
        return given_label(self.bank[indices], likelihood)

    def to_refresh(self, indices: Tensor, *, cold: bool) -> Tensor:
        """The images of a batch whose beliefs are to be refreshed: the most overdue, a share `refresh_share`."""
        if cold and self.all_trusted:
            return indices[:0]
        return self.bank.most_overdue(
            indices, math.ceil(self.options.refresh_share * len(indices)), self._waiting(cold=cold)
        )

    def keep(self, indices: Tensor, posterior: Tensor, *, cold: bool) -> None:
        """Average the network's current posterior [B, c] of these images into the bank."""
        self.bank.update(indices, posterior, ~self._waiting(cold=cold)[indices])

    def _waiting(self, *, cold: bool) -> Tensor:
        """Images without beliefs yet, bool [n]: during the cold start those with trusted labels."""
        return self.trusted if cold else torch.zeros_like(self.trusted)

    def update(self, steps: int) -> None:
        """Matrix and prior from the banked beliefs, on the CPU as the labels are; called every `steps` steps."""
        visited = self.bank.visited.cpu()
        if not bool(visited.any()):
            return
        known = self.supervision.take(np.flatnonzero(visited.numpy()))
        posterior = self.bank.posterior.cpu()[visited].float()
        transition = self.first_transition
        if self.estimates:
            transition = estimate_transition(posterior, known, self.first_transition)
            self.transition = transition.to(self.device)
        keep = 0.5 ** (steps / (PRIOR_HALF_LIFE * self.options.steps))
        prior = class_prior(known, posterior, transition, self.log_prior.cpu().exp(), keep)
        self.log_prior = prior.log().to(self.device)

    def state(self) -> dict[str, Tensor]:
        """The state for `restore`."""
        return {
            "bank": self.bank.posterior,
            "visited": self.bank.visited,
            "transition": self.transition,
            "log_prior": self.log_prior,
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from `state()`, which may be among other tensors."""
        self.bank.posterior = tensors["bank"].to(self.device)
        self.bank.visited = tensors["visited"].to(self.device)
        self.transition = tensors["transition"].to(self.device)
        self.log_prior = tensors["log_prior"].to(self.device)
