"""A labeller: strong, fast classifiers trained on imprecise labels, and the beliefs derived from them.

One `Whitened` network per fold of the images, trained on alternating flips and shifts, judges only the images of that
fold: so no memorised label confirms itself. Where labels may be wrong, networks first learn the labels as they are, in
half the passes, so that g(x) = p(z | x). The images with the highest g_y show how often a y is labelled z: that is the
transition matrix T, counted on anchor points. Then networks f learn, from the beginning,

    - log Σ_y f_y(x) p(z | y),   p(z | y) = T[y, z], 1 on a candidate set, 1 for no label.

T is not learned together with f, nor are labels made most probable by it: f soft under a clean T explains them as well
as f sharp under a noisy T, so that two classes whose labels are exchanged stay mixed (docs/decisions.md). In further
rounds networks learn from all images outside the fold, labelled or not, by

    - Σ_y p(y | x, z) log f_y(x),   p(y | x, z) from the round before,

which is expectation maximisation with expectations from networks that saw other images. After each round T is counted
anew, on the images with the highest f_y; the exponent b of p(y | x) ∝ f_y(x)^b maximises the likelihood of all labels,
and p(y | x, z) ∝ p(y | x) p(z | y) as for a generator.
Sources: Patrini et al. (2017), https://arxiv.org/abs/1609.03683, Theorem 3 and Sec. 4.2, for anchor points and the
objective; Northcutt et al. (2021), https://arxiv.org/abs/1911.00068, for the folds and for counting labels rather than
averaging g; Jordan (2024), https://arxiv.org/abs/2404.00498, for the network and its training; Guo et al. (2017),
https://arxiv.org/abs/1706.04599, Sec. 4.2, for the exponent b, an inverse temperature.
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
from condense.data.types import Beliefs, Supervision, TrainingSet
from condense.errors import UserError
from condense.generator.classifier import held_out_loss
from condense.generator.labels.fold_networks import NAME, Fold, FoldNetworks, divided, look, num_views
from condense.generator.labels.labeller_options import LabellerOptions
from condense.generator.labels.labeller_training import Training, budget
from condense.generator.labels.posterior import estimate_transition, given_label, supervision_likelihood
from condense.generator.labels.suggestions import Suggestions
from condense.generator.labels.volminnet import TransitionMatrix
from condense.preprocessing import standardisation
from condense.processes import Agree, seconds_together, shared
from condense.resumable import Loop, LoopPlan
from condense.run import JSON, Run, check_same_run

LOOKS = "labeller-looks"
VERSION = 3  # of what the networks learn; those of another version are not taken up
ANCHORS, MOST_ANCHORS = 0.3, 0.8  # anchor points in proportion to a class's labels, and at most
ENOUGH_ANCHORS = 100  # to which a small class is filled up
EXPONENTS = (math.log(0.3), math.log(6))  # bounds of the exponent's logarithm
SPREAD = 0.5  # prior standard deviation of the exponent's logarithm
FEW = 10_000  # labelled images, below which half of them are too few to train on, and all are too few for the matrix


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
    rounds = [(options, number > 0) for number in range(options.rounds)]
    if train.supervision.doubtful.any():
        rounds.insert(0, (for_anchors(train, options), False))
    return [
        (
            budget(len(fold.outside if by_beliefs else fold.labelled), asked).images,
            len(fold.inside) * num_views(mirrored=train.images.may_flip, crops=asked.crops),
        )
        for asked, by_beliefs in rounds
        for fold in folds
    ]


def for_anchors(train: TrainingSet, options: LabellerOptions) -> LabellerOptions:
    """The options of the networks that find anchor points: half the passes, and no shifted views."""
    labelled = len(divided(train, num_folds(train, options), 0)[0].labelled)
    return options.model_copy(update={"epochs": math.ceil(budget(labelled, options).epochs / 2), "crops": False})


def fit(
    train: TrainingSet, options: LabellerOptions, seed: int, run: Run, *, device: torch.device | str = "cpu"
) -> Labeller:
    """Train a labeller and judge every image. A run folder keeps both; the same call resumes there.

    Torchrun's processes share the folds of each round, and all get the labeller.

    Raises:
        UserError: as `check`, or the folder's files are of another run.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after the finished passes were saved.
    """
    check(train, options)
    fitting = _Fitting(train, options, seed, run, torch.device(device))
    transition = TransitionMatrix(train.images.num_classes)().detach()
    if train.supervision.doubtful.any():
        asked = for_anchors(train, options)
        labels_as_given = fitting.logits(_Round("anchors", "looking for anchor points", asked)).softmax(1)
        transition = count_anchors(labels_as_given, train.supervision, transition)
    suggestions, exponent = weigh(train, fitting.logits(_Round("0", "in round 1", options, transition)), transition)
    for number in range(1, options.rounds):
        logits = fitting.logits(_Round(str(number), f"in round {number + 1}", options, beliefs=suggestions.posterior))
        suggestions, exponent = weigh(train, logits, torch.from_numpy(suggestions.transition))
    networks = FoldNetworks(
        fitting.networks, fitting.preprocessing, exponent, train.images.may_flip, options.crops, seed
    ).to(device)
    return Labeller(
        networks,
        suggestions,
        fitting.seconds,
        fitting.seen + num_looks(train, options),
        fitting.seen,
    )


@dataclass(frozen=True, eq=False)
class _Round:
    """What the networks of a round learn, and its names in files and in progress bars.

    Attributes:
        options: their budget.
        transition: T [c, c] of the labels they learn; None takes these at their word.
        beliefs: p(y | x, z) [n, c], learned in place of labels.
    """

    name: str
    place: str
    options: LabellerOptions
    transition: Tensor | None = None
    beliefs: Beliefs | None = None


@dataclass(frozen=True, eq=False)
class _Judged:
    """What a fold's network, now on the CPU, made of the m images inside it: logits [m, c]; its time and images."""

    network: Whitened
    logits: Tensor
    seconds: float
    seen: int


class _Fitting:
    """Rounds of training, fold by fold, each with its own files in the run folder."""

    def __init__(self, train: TrainingSet, options: LabellerOptions, seed: int, run: Run, device: torch.device) -> None:
        self.train, self.seed, self.run, self.device = train, seed, run, device
        self.folds = divided(train, num_folds(train, options), seed)
        self.preprocessing = standardisation(train.images.images)
        self.identity: dict[str, JSON] = {
            "version": VERSION,
            "options": options.model_dump(mode="json"),
            "seed": seed,
            **train.identity(),
        }
        self.networks: list[Whitened] = []
        self.seconds, self.seen = 0.0, 0

    def logits(self, this: _Round) -> Tensor:
        """Logits [n, c] of every image, by the network of its fold; `networks` are those of the last round."""
        found = shared(self.folds, lambda fold, agree: self._fold(this, fold, agree), self.run)
        logits = torch.zeros(len(self.train), self.train.images.num_classes)
        for fold, judged in zip(self.folds, found, strict=True):
            logits[fold.inside] = judged.logits
        self.networks = [judged.network for judged in found]
        self.seconds += seconds_together([judged.seconds for judged in found])
        self.seen += sum(judged.seen for judged in found)
        return logits

    def _fold(self, this: _Round, fold: Fold, agree: Agree) -> _Judged:
        """The images inside the fold, judged by a network that learns from those outside; `agree` as in `shared`."""
        what, run, inside = "labeller in this run folder", self.run, fold.inside
        name = f"{this.name}-{fold.number}"
        training = Training(
            replace(self.train, beliefs=this.beliefs),
            fold.labelled if this.beliefs is None else fold.outside,
            this.transition,
            this.options,
            self.preprocessing,
            rng.derive(self.seed, f"{NAME} {this.name}", fold.number),
            self.device,
        )
        passes = training.budget.epochs
        place = f"of {passes} in fold {fold.number + 1} of {fold.of} {this.place} of the {NAME}"
        counter = f"{NAME}-{name}_pass"
        plan = LoopPlan(NAME, passes, counter=counter, place=lambda done: f"after pass {done} {place}", by_one=True)
        loop = Loop(run, plan)
        loop.resume(f"{NAME}-{name}", training, self.identity, what)
        loop.finish(training.passes(counter), agree)
        network = training.finished()
        found, started = run.load(f"{LOOKS}-{name}"), time.perf_counter()
        if found is None:
            images, mirrored = self.train.images.images[inside], self.train.images.may_flip
            crops = this.options.crops
            logits = look(network, images, self.preprocessing, mirrored=mirrored, crops=crops, run=run)
            seconds = time.perf_counter() - started
            run.save(f"{LOOKS}-{name}", {"logits": logits}, {**self.identity, "seconds": seconds})
        else:
            check_same_run(found[1], self.identity, what)
            logits, seconds = found[0]["logits"], float(found[1]["seconds"])
        return _Judged(network.to("cpu"), logits, loop.seconds + seconds, training.budget.images)


def count_anchors(found: Tensor, labels: Supervision, start: Tensor) -> Tensor:
    """T [c, c], rows = true class, counted on the images that the networks take for their class most surely.

    Row y counts the labels of the images with the highest f_y, `ANCHORS` times as many as are labelled y, or more in a
    small class. `start` counts as one image per class, and stays where no label stands out, as in
    `estimate_transition`.

    Args:
        found: p(y | x) [n, c], or p(z | x) where labels are right more often than wrong in any one way, by networks
            that did not learn from these images; others would find too little noise.
        labels: labels of the n images.
        start: T for a class without anchors.
    """
    doubtful, confidence = labels.doubtful, torch.full((labels.num_classes,), torch.inf)
    given_to = labels.candidates[doubtful].sum(0)
    counts = np.maximum(ANCHORS * given_to, np.minimum(MOST_ANCHORS * given_to, ENOUGH_ANCHORS))
    for y, count in enumerate(np.ceil(counts).astype(int)):
        if count:
            confidence[y] = found[torch.from_numpy(doubtful), y].topk(count).values[-1]
    return estimate_transition(found, labels, start, confidence, strength=1.0)


def weigh(train: TrainingSet, logits: Tensor, start: Tensor) -> tuple[Suggestions, float]:
    """The suggestions from out-of-fold logits [n, c], and their exponent.

    T is counted on anchor points; the exponent maximises the likelihood of the given labels. A normal prior of its
    logarithm around 0 dominates with few images and fades with hundreds.

    Args:
        train: the images and their labels.
        logits: float32 [n, c].
        start: T [c, c] for a class without anchors.
    """
    labels = train.supervision
    transition = count_anchors(logits.softmax(1), labels, start)
    likelihood = supervision_likelihood(labels, transition)

    def cost(logarithm: float) -> float:
        misfit = len(logits) * held_out_loss(math.exp(logarithm) * logits, likelihood)
        return misfit + logarithm**2 / (2 * SPREAD**2)

    best = float(minimize_scalar(cost, bounds=EXPONENTS, method="bounded", options={"xatol": 0.02}).x)
    from_image = (math.exp(best) * logits).softmax(1)
    posterior = given_label(from_image, likelihood)
    arrays = (np.asarray(part.numpy(), dtype=np.float32) for part in (from_image, posterior, transition))
    return Suggestions(labels, *arrays), math.exp(best)
