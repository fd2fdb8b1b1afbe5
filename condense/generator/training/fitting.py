"""The last part of training: temperature and second opinion, both fitted on held-out images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from condense.data.types import TrainingSet
from condense.generator.classifier import fit_temperature, held_out_loss, logits_from_errors
from condense.generator.labels.posterior import supervision_likelihood
from condense.generator.labels.second_opinion import form_opinion
from condense.generator.model import Generator

FITTED_TEMPERATURE_SHARE = 0.3  # prior of the fitted temperature, relative to that of training


def fit_held_out(generator: Generator, data: TrainingSet, held: npt.NDArray[np.int64]) -> Tensor | None:
    """Fit `generator`'s temperature on the images `held`, and note their loss; returns their logits [m, c].

    Without held-out images it returns None and keeps the temperature.
    """
    if not len(held):
        return None
    errors = generator.errors(data.images.images[held])
    likelihood = supervision_likelihood(data.supervision.take(held), generator.transition)
    log_prior = generator.log_prior.cpu()
    generator.temperature = fit_temperature(errors, likelihood, log_prior, generator.temperature)
    logits = logits_from_errors(errors, generator.temperature, log_prior)
    generator.record = replace(generator.record, held_out_loss=held_out_loss(logits, likelihood))
    return logits


def ask_beside(
    generator: Generator,
    classifier: nn.Module,
    data: TrainingSet,
    held: npt.NDArray[np.int64],
    logits: Tensor | None,
    *,
    mirrored: bool,
) -> None:
    """Give `generator` a second opinion, made of VolMinNet's `classifier` and weighed on the images `held`.

    `logits` [m, c] are the generator's of those images, see `fit_held_out`; `mirrored`: whether it averages over mirror
    images.
    """
    posterior = None if logits is None else np.asarray(logits.softmax(1).numpy(), dtype=np.float32)
    generator.opinion = form_opinion(
        classifier,
        generator.transition,
        data,
        held,
        posterior,
        generator.log_prior,
        mirrored=mirrored,
        bf16=generator.bf16,
    )
