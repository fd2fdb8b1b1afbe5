"""Corrupt clean labels exactly as the papers do, and measure the overall rate.

| spec          | what happens                                                          | supervision             |
|---------------|-----------------------------------------------------------------------|-------------------------|
| none          | labels stay as they are                                               | labelled                |
| sym:r         | with probability r to a uniformly random *other* class                | noisy                   |
| asym:r        | with probability r along the data set's map of look-alikes            | noisy                   |
| pair:r        | with probability r to the next class, i to i+1                        | noisy                   |
| instance:r    | with probability about r to a class that the image decides            | noisy                   |
| partial:q     | each wrong class joins the candidate set with probability q           | partial                 |
| class-partial | the same, with a probability for every (true, wrong) pair             | partial                 |
| annotators:r  | answers of three people, each wrong (as by sym) with probability r    | noisy partial           |
| unlabeled:r   | a share r of every class keeps its label                              | labelled and unlabelled |

Source: "Learning Robust Diffusion Models from Imprecise Supervision", arXiv 2510.03016; `instance`: see instance.py;
`annotators`: the way the candidate sets of CIFAR-10N (Wei et al. 2022) and PLCIFAR-10 (Wang et al. 2025) came about.
"40 %" means different things for different kinds (asym:0.4 on CIFAR-10 turns 20 % of all labels), so the
overall rate is measured and kept. Mixtures of these kinds and long tails: see noise.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense import rng
from condense.data.instance import label_probabilities
from condense.data.noise_spec import KINDS, LOST, Spec, parse
from condense.data.splits import pick_per_class
from condense.data.transition import ASYMMETRIC_MAPS, Matrix, inclusion_matrix, transition_matrix
from condense.data.types import Corruption, ImageData, Labels, Mask, Supervision, Truth, check_labels
from condense.data.votes import from_votes
from condense.errors import UserError

__all__ = [
    "ASYMMETRIC_MAPS",
    "KINDS",
    "Spec",
    "apply",
    "corrupted",
    "imprecise_share",
    "inclusion_matrix",
    "parse",
    "transition_matrix",
]

NUM_ANNOTATORS = 3


def apply(spec: str, truth: Truth, train: ImageData, seed: int) -> tuple[Supervision, Corruption]:
    """Make the labels of `train` imprecise in one way.

    Args:
        spec: see the table at the top of this file.
        truth: clean labels, int64 [n] in [0, c).
        train: the images they belong to.
        seed: the same seed gives the same labels, bit for bit.

    Returns:
        The remaining information on the labels, and the record of the corruption with its overall rate.

    Raises:
        UserError: the spec cannot be used, or `truth` does not fit `train`.
    """
    parsed = parse(spec)
    supervision = corrupted(parsed, truth, train, seed)
    return supervision, Corruption(str(parsed), seed, imprecise_share(supervision, truth))


def corrupted(spec: Spec, truth: Truth, train: ImageData, seed: int) -> Supervision:
    """The labels after corruption by `spec`."""
    labels, c = truth.labels, train.num_classes
    check_labels(labels, c)
    if len(labels) != len(train):
        raise UserError(f"{train.name}: {len(labels)} labels for {len(train)} images; each image needs one.")
    generator = np.random.default_rng(rng.derive(seed, "corrupt"))
    match spec.kind:
        case "none":
            return Supervision.from_labels(labels, c, trusted=True)
        case "partial" | "class-partial":
            return _draw_candidates(labels, inclusion_matrix(str(spec), c), generator)
        case "unlabeled":
            return _forget(labels, ~_keep_labels(labels, spec.rate, c, generator), c)
        case kind if kind == LOST:
            return _forget(labels, np.ones(len(labels), dtype=np.bool_), c)
        case "annotators":
            alike = transition_matrix(f"sym:{spec.rate}", train.classes, train.name)
            return from_votes(np.stack([_draw_labels(labels, alike, generator) for _ in range(NUM_ANNOTATORS)], 1), c)
        case "instance":
            given = _draw(label_probabilities(labels, train.images, spec.rate, c, seed), generator.random(len(labels)))
            return Supervision.from_labels(given, c, trusted=False)
        case _:
            given = _draw_labels(labels, transition_matrix(str(spec), train.classes, train.name), generator)
            return Supervision.from_labels(given, c, trusted=False)


def imprecise_share(supervision: Supervision, truth: Truth) -> float:
    """Share in [0, 1] of images that do not have their true label, and no other, as given."""
    return float((supervision.observed != truth.labels).mean())


def _draw_labels(labels: Labels, transition: Matrix, generator: np.random.Generator) -> Labels:
    """A label z ~ T[y] for every true label y: int64 [n]."""
    uniform = generator.random(len(labels))
    given = np.empty_like(labels)
    for label, row in enumerate(transition):
        members = labels == label
        given[members] = _draw(row[None], uniform[members])
    return given


def _draw(probabilities: npt.NDArray[np.float64], uniform: npt.NDArray[np.float64]) -> Labels:
    """One class for each row of `probabilities` [n or 1, c], by inverting its cumulative sum: int64 [n]."""
    cumulative = probabilities.cumsum(axis=1)
    cumulative /= cumulative[:, -1:]  # exactly 1 at the end: rounding never yields a class of probability 0
    drawn: Labels = (cumulative <= uniform[:, None]).sum(axis=1, dtype=np.int64)
    return drawn


def _draw_candidates(labels: Labels, inclusion: Matrix, generator: np.random.Generator) -> Supervision:
    """Candidate sets in which class z joins with probability P[y, z], independently."""
    candidates: Mask = generator.random((len(labels), len(inclusion)), dtype=np.float32) < inclusion[labels]
    return Supervision(candidates, np.ones(len(labels), dtype=np.bool_))


def _keep_labels(labels: Labels, share: float, num_classes: int, generator: np.random.Generator) -> Mask:
    """Mask [n]: round(share * n_y) images of every class y, at least one where the class has any."""
    sizes = np.bincount(labels, minlength=num_classes)
    keep = np.maximum(np.rint(share * sizes), np.minimum(sizes, 1)).astype(np.int64)
    return pick_per_class(labels, keep, generator)


def _forget(labels: Labels, lost: Mask, num_classes: int) -> Supervision:
    """Trusted labels, except that every class is possible where the label was lost."""
    candidates = Supervision.from_labels(labels, num_classes, trusted=True).candidates
    return Supervision(candidates | lost[:, None], np.ones(len(labels), dtype=np.bool_))
