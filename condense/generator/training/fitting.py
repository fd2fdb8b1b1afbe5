"""The last part of training: temperature and second opinion, both fitted on held-out images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from condense.data.types import Beliefs, TrainingSet
from condense.generator.classifier import fit_temperature, held_out_loss, logits_from_errors
from condense.generator.labels.fold_networks import FoldNetworks
from condense.generator.labels.posterior import supervision_likelihood
from condense.generator.labels.second_opinion import (
    ALONE,
    USUAL,
    Judge,
    SecondOpinion,
    earned_exponents,
    fit_exponents,
    logarithm,
)
from condense.generator.model import Generator
from condense.processes import rows_of_all

FITTED_TEMPERATURE_SHARE = 0.3  # prior of the fitted temperature, relative to that of training
_AT_ONCE = 100  # held-out images of a process at least


def fit_held_out(generator: Generator, data: TrainingSet, held: npt.NDArray[np.int64]) -> Tensor | None:
    """Fit `generator`'s temperature on the images `held`, and note their loss; returns their logits [m, c].

    Without held-out images it returns None and keeps the temperature. Torchrun's processes share the images, and all of
    them must call.
    """
    if not len(held):
        return None
    errors = rows_of_all(lambda part: generator.errors(data.images.images[held[part]]), len(held), _AT_ONCE)
    likelihood = supervision_likelihood(data.supervision.take(held), generator.transition)
    log_prior = generator.log_prior.cpu()
    generator.temperature = fit_temperature(errors, likelihood, log_prior, generator.temperature)
    logits = logits_from_errors(errors, generator.temperature, log_prior)
    generator.record = replace(generator.record, held_out_loss=held_out_loss(logits, likelihood))
    return logits


def ask_beside(
    generator: Generator,
    judge: Judge,
    data: TrainingSet,
    held: npt.NDArray[np.int64],
    beliefs: Beliefs | None,
    logits: Tensor | None,
) -> None:
    """Give `generator` the second opinion of a `judge` trained on the same `data`.

    It is weighed on the images `held`: `beliefs` [m, c] are the judge's about them, made without their labels, `logits`
    [m, c] the generator's, see `fit_held_out`; without any it has the usual weight. A labeller is calibrated already,
    so beside it the generator has to earn its weight.
    """
    calibrated = isinstance(judge, FoldNetworks)
    generator.opinion = SecondOpinion(judge, ALONE if calibrated else (USUAL, USUAL))
    if logits is not None and beliefs is not None:
        transition = generator.opinion.transition(generator.transition)
        fit = earned_exponents if calibrated else fit_exponents
        generator.opinion.exponents = fit(
            logits.log_softmax(1),
            logarithm(beliefs),
            supervision_likelihood(data.supervision.take(held), transition),
            generator.log_prior.cpu(),
        )
