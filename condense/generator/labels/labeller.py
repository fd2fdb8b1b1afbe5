"""A labeller: strong, fast classifiers trained on imprecise labels, and the beliefs derived from them.

A `Whitened` network f and a transition matrix T are trained jointly on the given labels (VolMinNet's objective),

    - log Σ_y f_y(x) p(z | y) + λ log det T,   p(z | y) = T[y, z], 1 on a candidate set, 1 for no label,

with alternating flips and shifts, one pair per fold of the images, which judges only the images of that fold: so no
memorised label confirms itself. In further rounds networks learn from all images outside the fold, labelled or not, by

    - Σ_y p(y | x, z) log f_y(x),   p(y | x, z) from the round before,

which is expectation maximisation with expectations from networks that saw other images. In each round the exponent b
of p(y | x) ∝ f_y(x)^b, and T, are those that maximise the likelihood of all labels, and p(y | x, z) ∝ p(y | x) p(z | y)
as for a generator.
Sources: Li et al. (2021), https://arxiv.org/abs/2102.02400, for the objective; Northcutt et al. (2021),
https://arxiv.org/abs/1911.00068, for the folds; Jordan (2024), https://arxiv.org/abs/2404.00498, for the network and
its training; Guo et al. (2017), https://arxiv.org/abs/1706.04599, Sec. 4.2, for the exponent b, an inverse temperature.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from condense import rng
from condense.classifiers.whitened import SMALLEST, Whitened
from condense.data.types import Labels, Supervision, TrainingSet
from condense.errors import UserError
from condense.generator.classifier import held_out_loss
from condense.generator.labels.fold_networks import NAME, Fold, FoldNetworks, divided, look, num_views
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.labeller_training import Training, budget
from condense.generator.labels.posterior import (
    estimate_transition,
    given_label,
    self_confidence,
    supervision_likelihood,
)
from condense.generator.labels.suggestions import Suggestions
from condense.machine import is_worker
from condense.preprocessing import standardisation
from condense.resumable import Loop, LoopPlan
from condense.run import JSON, Run, check_same_run

LOOKS = "labeller-looks"
EXPONENTS = (math.log(0.3), math.log(6))  # bounds of the exponent's logarithm
SPREAD = 0.5  # prior standard deviation of the exponent's logarithm
FEW = 10_000  # labelled images, below which half of them are too few to train on, and all are too few for the matrix

_TURNS = 30  # of expectation and maximisation


@dataclass(frozen=True, eq=False)
class Labeller:
    """Trained networks and their beliefs.

    Attributes:
        networks: those of the last round.
        suggestions: the beliefs about their training images.
        seconds: time of training and inference.
        network_evaluations: images passed through the networks for both.
        images_seen: training images among them.
    """

    networks: FoldNetworks
    suggestions: Suggestions
    seconds: float
    network_evaluations: int
    images_seen: int


def check(train: TrainingSet, options: LabellerOptions) -> None:
    """Raise `UserError` unless images are square and large enough and each fold leaves labels to learn from."""
    _, height, width = train.images.image_shape
    if height != width or height < SMALLEST:
        raise UserError(
            f"The labeller needs square images of at least {SMALLEST}x{SMALLEST}, found {height}x{width}; give "
            "--image-size."
        )
    folds, labelled = num_folds(train, options), int((~train.supervision.unlabelled).sum())
    if labelled < 2 * folds:
        raise UserError(
            f"The labeller learns from labels in {folds} folds, and {labelled} of {len(train)} images have any; label "
            "more."
        )


def num_folds(train: TrainingSet, options: LabellerOptions) -> int:
    """Number of folds: 2, or 5 if few images are labelled, unless set in `options`."""
    return options.folds or (5 if is_small(train) else 2)


def is_small(train: TrainingSet) -> bool:
    """Whether fewer than `FEW` images are labelled: then networks memorise labels, and the matrix is far too clean."""
    return int((~train.supervision.unlabelled).sum()) < FEW


def foreseen(train: TrainingSet, options: LabellerOptions) -> int:
    """Images that `fit` will pass through networks."""
    return sum(learned + looks for learned, looks in foreseen_by_fold(train, options))


def num_looks(train: TrainingSet, options: LabellerOptions) -> int:
    """Views at inference: of every image in every round."""
    return sum(looks for _, looks in foreseen_by_fold(train, options))


def foreseen_by_fold(train: TrainingSet, options: LabellerOptions) -> list[tuple[int, int]]:
    """Images trained on and views at inference of every fold of every round, in order."""
    folds = divided(train, num_folds(train, options), 0)
    views = num_views(mirrored=train.images.may_flip, crops=options.crops)
    return [
        (budget(len(fold.outside if number else fold.labelled), options).images, len(fold.inside) * views)
        for number in range(options.rounds)
        for fold in folds
    ]


def fit(
    train: TrainingSet, options: LabellerOptions, seed: int, run: Run, *, device: torch.device | str = "cpu"
) -> Labeller:
    """Train a labeller and judge every image. A run folder keeps both; the same call resumes there.

    Raises:
        UserError: as `check`, or the folder's files are of another run.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after the finished passes were saved.
    """
    check(train, options)
    fitting = _Fitting(train, options, seed, run, torch.device(device))
    suggestions, exponent = fitting.judge(0, None)
    for number in range(1, options.rounds):
        suggestions, exponent = fitting.judge(number, suggestions)
    networks = FoldNetworks(
        fitting.networks, fitting.preprocessing, exponent, train.images.may_flip, options.crops, seed
    )
    return Labeller(
        networks,
        suggestions,
        fitting.seconds,
        fitting.seen + num_looks(train, options),
        fitting.seen,
    )


class _Fitting:
    """The folds in turn, each with its own files in the run folder."""

    def __init__(self, train: TrainingSet, options: LabellerOptions, seed: int, run: Run, device: torch.device) -> None:
        self.train, self.options, self.seed, self.run, self.device = train, options, seed, run, device
        self.preprocessing = standardisation(train.images.images)
        self.identity: dict[str, JSON] = {
            "options": options.model_dump(mode="json"),
            "seed": seed,
            "data": train.images.fingerprint(),
            "labels": train.supervision.fingerprint(),
        }
        self.networks: list[Whitened] = []
        self.seconds, self.seen = 0.0, 0

    def judge(self, number: int, before: Suggestions | None) -> tuple[Suggestions, float]:
        """One network per fold, trained on the labels or, where given, on the beliefs of the round before."""
        self.networks = []
        train = replace(self.train, beliefs=None if before is None else before.posterior)
        logits = torch.zeros(len(train), train.images.num_classes)
        transitions = []
        for fold in divided(train, num_folds(train, self.options), self.seed):
            own = fold.labelled if before is None else fold.outside
            logits[fold.inside], transition = self._fold(number, train, own, fold)
            transitions.append(transition)
        start = torch.stack(transitions).mean(0) if before is None else torch.from_numpy(before.transition)
        return weigh(self.train, logits, start)

    def _fold(self, number: int, train: TrainingSet, own: Labels, fold: Fold) -> tuple[Tensor, Tensor]:
        """Logits of the images inside the fold, by a network that learns from `own`, and its matrix T [c, c]."""
        what, run, inside = "labeller in this run folder", self.run, fold.inside
        name = f"{number}-{fold.number}"
        training = Training(
            train, own, self.options, self.preprocessing, rng.derive(self.seed, NAME, number, fold.number), self.device
        )
        passes = training.budget.epochs
        place = f"of {passes} in fold {fold.number + 1} of {fold.of} in round {number + 1} of the {NAME}"
        loop = Loop(run, LoopPlan(NAME, passes, counter=f"pass{name}", place=lambda done: f"after pass {done} {place}"))
        loop.resume(f"{NAME}-{name}", training, self.identity, what)
        loop.finish(training.passes())
        network = training.network.eval().requires_grad_(False)
        found, started = run.load(f"{LOOKS}-{name}"), time.perf_counter()
        if found is None:
            images, mirrored = self.train.images.images[inside], self.train.images.may_flip
            logits = look(network, images, self.preprocessing, mirrored=mirrored, crops=self.options.crops, run=run)
            seconds = time.perf_counter() - started
            if not is_worker():
                run.save(f"{LOOKS}-{name}", {"logits": logits}, {**self.identity, "seconds": seconds})
        else:
            check_same_run(found[1], self.identity, what)
            logits, seconds = found[0]["logits"], float(found[1]["seconds"])
        self.networks.append(network)
        self.seconds += loop.seconds + seconds
        self.seen += training.budget.images
        return logits, training.matrix().detach().cpu()


def weigh(train: TrainingSet, logits: Tensor, transition: Tensor) -> tuple[Suggestions, float]:
    """The suggestions from out-of-fold logits [n, c], and their exponent.

    The exponent maximises the likelihood of the given labels, with the likeliest T for each exponent. A normal prior of
    its logarithm around 0 dominates with few images and fades with hundreds. The T of training is not used: a network
    that memorises its labels needs no noise to explain them, so its T is too clean.

    Args:
        train: the images and their labels.
        logits: float32 [n, c].
        transition: T [c, c] to start from.
    """
    labels = train.supervision

    def found(logarithm: float) -> tuple[Tensor, Tensor]:
        from_image = (math.exp(logarithm) * logits).softmax(1)
        return from_image, likeliest_transition(from_image, labels, transition)

    def cost(logarithm: float) -> float:
        likelihood = supervision_likelihood(labels, found(logarithm)[1])
        misfit = len(logits) * held_out_loss(math.exp(logarithm) * logits, likelihood)
        return misfit + logarithm**2 / (2 * SPREAD**2)

    best = float(minimize_scalar(cost, bounds=EXPONENTS, method="bounded", options={"xatol": 0.02}).x)
    from_image, likeliest = found(best)
    posterior = given_label(from_image, supervision_likelihood(labels, likeliest))
    arrays = (np.asarray(part.numpy(), dtype=np.float32) for part in (from_image, posterior, likeliest))
    return Suggestions(labels, *arrays), math.exp(best)


def likeliest_transition(from_image: Tensor, labels: Supervision, start: Tensor) -> Tensor:
    """The T [c, c] under which single labels that may be wrong are most probable, by expectation maximisation.

    Alternates T[y, z] ∝ Σ p(y | x, z) over the images labelled z with p(y | x, z) ∝ f_y(x) T[y, z]; `start` counts as
    one image per class. Candidate sets that may miss the truth are counted as in `estimate_transition`.

    Args:
        from_image: f(x) [n, c] of networks not trained on these labels; others would find too little noise.
        labels: labels of the n images.
        start: T to start from.
    """
    if (labels.doubtful & ~labels.single).any():
        return estimate_transition(from_image, labels, start, self_confidence(from_image, labels))
    noisy = np.flatnonzero(labels.noisy)
    f, z = from_image[noisy], torch.from_numpy(labels.observed[noisy])
    transition = start
    for _ in range(_TURNS if len(noisy) else 0):
        believed = given_label(f, transition.T[z])
        counts = start.clone().index_add_(1, z, believed.T)
        transition = counts / counts.sum(1, keepdim=True)
    return transition
