"""What an objective needs before the generator's first step: a transition matrix, a classifier, coherences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from condense import rng
from condense.classifiers import cross
from condense.data.types import Supervision, TrainingSet
from condense.errors import UserError
from condense.generator.labels import labeller, noisy_classifier, one_classifier, volminnet
from condense.generator.labels.auxiliary import num_steps
from condense.generator.labels.coherence import estimate_coherence
from condense.generator.labels.fold_networks import NAME, num_views
from condense.generator.labels.labeller import Labeller
from condense.generator.labels.noisy_classifier import NoisyClassifier, train_noisy_classifier
from condense.generator.labels.volminnet import estimate_by_volume, fresh_classifier
from condense.generator.options import NetworkOptions, TrainOptions
from condense.run import Run


@dataclass(frozen=True)
class Prerequisites:
    """The prerequisites; None for those the objective does not need.

    Attributes:
        transition: T [c, c] found beforehand.
        classifier: TDSM's h.
        coherence: CAD's r [n, c].
        labeller: the labeller that found T, for a second opinion.
        clean_classifier: VolMinNet's, for a second opinion.
        seconds: training time of each, by file name.
        images_seen: images all of them were trained on, repetitions counted.
        evaluations: images passed through them, these included.
    """

    transition: Tensor | None = None
    classifier: NoisyClassifier | None = None
    coherence: Tensor | None = None
    labeller: Labeller | None = None
    clean_classifier: nn.Module | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    images_seen: int = 0
    evaluations: int = 0


def prepare(
    data: TrainingSet, network: NetworkOptions, options: TrainOptions, seed: int, run: Run, device: torch.device
) -> Prerequisites:
    """Train, resume or load the objective's prerequisites; the run folder keeps them.

    Torchrun's processes share folds and all get the same; a network that does not divide is the main one's work.

    A labeller learns the matrix from labels that may be wrong, from few of them VolMinNet, which takes single ones.
    Without any DMIS trains without their matrix.

    Raises:
        UserError: TDSM without a transition matrix; otherwise as the trainings, see `train_helper`, `labeller.fit` and
            `out_of_fold`.
        Interrupted: stopped by Ctrl-C after the state was saved.
    """
    if options.objective == "cad":
        return _coherent(data, options, seed, run, device)
    if options.objective == "vanilla":
        return Prerequisites()
    seconds: dict[str, float] = {}
    transition = asked = clean_classifier = None
    if asks_labeller(data, options):
        asked = labeller.fit(data, options.labeller, rng.derive(seed, NAME), run, device=device)
        transition, seconds[NAME] = torch.from_numpy(asked.suggestions.transition).to(device), asked.seconds
    elif finds_volume(data, options):
        clean_classifier = fresh_classifier(data, seed)
        transition, seconds[volminnet.NAME] = estimate_by_volume(data, clean_classifier, options, seed, run, device)
    classifier = None
    if options.objective == "tdsm":
        known = transition if transition is not None else _known_transition(options, data.supervision)
        classifier, seconds[noisy_classifier.NAME] = train_noisy_classifier(
            data, known, network, options, seed, run, device
        )
    return Prerequisites(
        transition,
        classifier,
        labeller=asked if opinion_views(data, options) else None,
        clean_classifier=clean_classifier if opinion_views(data, options) else None,
        seconds=seconds,
        images_seen=foreseen_images(data, options),
        evaluations=foreseen_evaluations(data, options),
    )


def foreseen_images(data: TrainingSet, options: TrainOptions) -> int:
    """Images that `prepare` trains on, repetitions counted."""
    if options.objective == "cad":
        labelled = int((~data.supervision.unlabelled).sum())
        return options.coherence.epochs * labelled * (options.coherence.folds - 1)
    if options.objective == "vanilla":
        return 0
    helpers = int(finds_volume(data, options)) + int(options.objective == "tdsm")
    by_labeller = 0
    if asks_labeller(data, options):
        by_labeller = sum(learned for learned, _ in labeller.foreseen_by_fold(data, options.labeller))
    return by_labeller + helpers * num_steps(options) * options.helper.batch_size


def foreseen_evaluations(data: TrainingSet, options: TrainOptions) -> int:
    """Images that `prepare` passes through networks: those it trains on, and a labeller's judgement of all."""
    judged = labeller.num_looks(data, options.labeller) if asks_labeller(data, options) else 0
    return foreseen_images(data, options) + judged


def opinion_views(data: TrainingSet, options: TrainOptions) -> int:
    """Views per image of the second opinion; 0 if the generator gets none."""
    if not options.second_opinion or options.objective != "dmis":
        return 0
    if asks_labeller(data, options):
        return num_views(mirrored=data.images.may_flip, crops=options.labeller.crops)
    if finds_volume(data, options):
        return one_classifier.num_views(mirrored=options.augment(may_flip=data.images.may_flip).mirrors)
    return 0


def asks_labeller(data: TrainingSet, options: TrainOptions) -> bool:
    """Whether a labeller is trained; it needs labels that may be wrong, and many."""
    asked = options.transition == "labeller" and options.objective in ("dmis", "tdsm")
    return asked and bool(data.supervision.doubtful.any()) and not labeller.is_small(data)


def finds_volume(data: TrainingSet, options: TrainOptions) -> bool:
    """Whether VolMinNet is trained, if asked for, or in place of a labeller; TDSM needs its matrix."""
    asked = options.transition == "volmin" or (options.transition == "labeller" and labeller.is_small(data))
    return asked and (
        options.objective == "tdsm" or (options.objective == "dmis" and bool(data.supervision.noisy.any()))
    )


def given_transition(rows: Sequence[Sequence[float]], supervision: Supervision) -> Tensor:
    """A transition matrix from options: float32 [c, c].

    Raises:
        UserError: it does not have c rows of c numbers that are at least 0 and sum to 1; it is singular, so that no
            labels can tell some mixtures of classes apart; or under it no class can have the labels of some image.
    """
    num_classes = supervision.num_classes
    ragged = len({len(row) for row in rows}) > 1
    matrix = torch.zeros(len(rows), 0) if ragged else torch.tensor(rows)
    right = matrix.shape == (num_classes, num_classes)
    if not right or bool((matrix < 0).any()) or not torch.allclose(matrix.sum(1), torch.ones(num_classes)):
        raise UserError(
            f"train.transition must be {num_classes}x{num_classes} with rows that sum to 1, found {list(matrix.shape)}."
        )
    if int(torch.linalg.matrix_rank(matrix.double())) < num_classes:
        raise UserError(
            "train.transition is singular: some of its rows follow from the others, so the labels cannot tell these "
            "classes apart; give a matrix of full rank, or merge the classes."
        )
    candidates = supervision.candidates[supervision.doubtful].astype(np.float32)
    impossible = (candidates @ (matrix.T == 0).float().numpy() > 0).all(1)
    if impossible.any():
        first = int(np.flatnonzero(supervision.doubtful)[impossible][0])
        labels = np.flatnonzero(supervision.candidates[first]).tolist()
        raise UserError(
            f"train.transition gives no class the labels of {int(impossible.sum())} images (the first is number "
            f"{first}, labelled {labels}); give these entries a probability above 0."
        )
    return matrix


def _known_transition(options: TrainOptions, supervision: Supervision) -> Tensor:
    if options.transition == "labeller":
        raise UserError(
            "A labeller learns the transition matrix from labels that may be wrong, and there are none here; give the "
            "matrix as train.transition, or use the method dmis, which needs none."
        )
    if isinstance(options.transition, str):
        raise UserError(
            "TDSM keeps no beliefs from which train.transition could be estimated; give the matrix, or choose labeller."
        )
    return given_transition(options.transition, supervision)


def _coherent(data: TrainingSet, options: TrainOptions, seed: int, run: Run, device: torch.device) -> Prerequisites:
    coherence, seconds = estimate_coherence(data, options.coherence, seed, run, device)
    seen = foreseen_images(data, options)
    return Prerequisites(
        coherence=coherence.to(device), seconds={cross.FILE: seconds}, images_seen=seen, evaluations=seen
    )
