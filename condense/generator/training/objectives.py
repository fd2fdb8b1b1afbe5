"""The objectives of the loop in `trainer.py`: the images and beliefs each uses, and its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from condense.errors import UserError
from condense.generator.denoiser import Denoiser
from condense.generator.labels.noisy_classifier import NoisyClassifier
from condense.generator.options import TrainOptions
from condense.generator.training.batch_loss import (
    Batch,
    ClassifierSettings,
    Losses,
    dmis_losses,
    drawn_label_losses,
    transition_aware_losses,
)
from condense.generator.training.prerequisites import Prerequisites


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """The input of a step's losses.

    Attributes:
        model: the trained network, maybe wrapped.
        teacher: the EMA network.
        batch: see `Batch`.
        settings: the classifier inside training.
        random: for drawing labels and noise.
        cold: whether the beliefs are not yet reliable.
    """

    model: nn.Module
    teacher: Denoiser
    batch: Batch
    settings: ClassifierSettings
    random: torch.Generator
    cold: bool


class Objective(Protocol):
    """A training objective of a generator.

    Attributes:
        uses_beliefs: whether the trainer keeps a posterior of every image and a label model made from them.
        uses_unlabelled: whether images without a label are trained on.
        coherent: whether the network takes the coherence of a label, see `UNet`.
    """

    uses_beliefs: ClassVar[bool]
    uses_unlabelled: ClassVar[bool]
    coherent: ClassVar[bool]

    def losses(self, at: TrainingStep) -> Losses:
        """The losses of a step's batch."""
        ...


@dataclass(frozen=True)
class Vanilla:
    """EDM on the label as given; Karras et al. (2022), https://arxiv.org/abs/2206.00364."""

    uses_beliefs: ClassVar[bool] = False
    uses_unlabelled: ClassVar[bool] = False
    coherent: ClassVar[bool] = False

    def losses(self, at: TrainingStep) -> Losses:
        """See `Objective`."""
        return drawn_label_losses(at.model, at.batch, at.random)


@dataclass(frozen=True)
class GivenBeliefs(Vanilla):
    """EDM on labels drawn from given beliefs, unlabelled images included."""

    uses_unlabelled: ClassVar[bool] = True


@dataclass(frozen=True)
class Dmis:
    """Generative and classification term under beliefs learned during training; DMIS, https://arxiv.org/abs/2510.03016."""

    options: TrainOptions

    uses_beliefs: ClassVar[bool] = True
    uses_unlabelled: ClassVar[bool] = True
    coherent: ClassVar[bool] = False

    def losses(self, at: TrainingStep) -> Losses:
        """See `Objective`."""
        options = self.options
        if options.form == "sampled" and options.classification_weight == 0:
            return drawn_label_losses(at.model, at.batch, at.random)
        return dmis_losses(
            at.model,
            at.teacher,
            at.batch,
            at.settings,
            at.random,
            form="expected" if at.cold else options.form,
            top_k=options.top_k,
            classification_weight=options.classification_weight,
        )


@dataclass(frozen=True)
class Tdsm:
    """The mixture loss weighed by a classifier trained beforehand; Na et al. (2024), https://arxiv.org/abs/2402.17517."""

    classifier: NoisyClassifier
    top_k: int | None

    uses_beliefs: ClassVar[bool] = False
    uses_unlabelled: ClassVar[bool] = True
    coherent: ClassVar[bool] = False

    def losses(self, at: TrainingStep) -> Losses:
        """See `Objective`."""
        with torch.no_grad():
            posterior = self.classifier(at.batch.x_t, at.batch.sigma, at.batch.augment).softmax(1)
        return transition_aware_losses(at.model, posterior, at.batch, self.top_k)


@dataclass(frozen=True)
class Cad:
    """EDM on the label as given and its coherence; Dufour et al. (2024), https://arxiv.org/abs/2405.20324."""

    coherence: Tensor

    uses_beliefs: ClassVar[bool] = False
    uses_unlabelled: ClassVar[bool] = False
    coherent: ClassVar[bool] = True

    def losses(self, at: TrainingStep) -> Losses:
        """See `Objective`."""
        return drawn_label_losses(at.model, at.batch, at.random, self.coherence[at.batch.indices])


def objective_of(options: TrainOptions, prepared: Prerequisites, *, believed: bool = False) -> Objective:
    """The objective that `options` names, with its prerequisites.

    With given beliefs (`believed`), an objective that learns beliefs becomes `GivenBeliefs`; those that trust the
    given labels stay as they are.

    Raises:
        UserError: its prerequisites are missing.
    """
    if believed and options.objective in ("dmis", "tdsm"):
        return GivenBeliefs()
    if options.objective == "dmis":
        return Dmis(options)
    if options.objective == "vanilla":
        return Vanilla()
    if options.objective == "tdsm" and prepared.classifier is not None:
        return Tdsm(prepared.classifier, options.top_k)
    if options.objective == "cad" and prepared.coherence is not None:
        return Cad(prepared.coherence)
    raise UserError(f"The objective {options.objective!r} needs `prepare` first; use `train_generator`.")
