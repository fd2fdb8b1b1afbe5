"""Make clean labels imprecise on purpose, exactly as the papers do, and say by how much.

| spec          | what happens                                                | supervision             |
|---------------|-------------------------------------------------------------|-------------------------|
| none          | labels stay as they are                                     | labelled                |
| sym:r         | with probability r to a uniformly random *other* class      | noisy                   |
| asym:r        | with probability r along the data set's map of look-alikes  | noisy                   |
| pair:r        | with probability r to the next class, i to i+1              | noisy                   |
| partial:q     | each wrong class joins the candidate set with probability q | partial                 |
| class-partial | the same, with a probability for every (true, wrong) pair   | partial                 |
| unlabeled:r   | a share r of every class keeps its label                    | labelled and unlabelled |

Source: "Learning Robust Diffusion Models from Imprecise Supervision", arXiv 2510.03016.
"40 %" means different things for different kinds (asym:0.4 on CIFAR-10 turns 20 % of all labels), so the
overall rate is measured and kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from condense import rng
from condense.data.splits import pick_per_class
from condense.data.types import Corruption, ImageData, Labels, Mask, Supervision, Truth, check_labels
from condense.errors import UserError

Matrix = npt.NDArray[np.float64]

WITH_RATE = ("sym", "asym", "pair", "partial", "unlabeled")
WITHOUT_RATE = ("none", "class-partial")
KINDS = (*WITHOUT_RATE, *WITH_RATE)

ASYMMETRIC_MAPS: Mapping[str, Mapping[str, str]] = {
    "cifar10": {
        "truck": "automobile",
        "bird": "airplane",
        "deer": "horse",
        "cat": "dog",
        "dog": "cat",
    },
    "fashion-mnist": {
        "pullover": "sneaker",
        "dress": "bag",
        "sandal": "shirt",
        "shirt": "sandal",
    },
    "imagenette": {
        "tench": "english springer",
        "cassette player": "garbage truck",
        "chain saw": "church",
        "golf ball": "parachute",
        "parachute": "golf ball",
    },
}


@dataclass(frozen=True)
class Spec:
    """A parsed corruption request: its kind, and its rate in [0, 1] where the kind has one (else 0)."""

    kind: str
    rate: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}:{self.rate:g}" if self.kind in WITH_RATE else self.kind


def parse(spec: str) -> Spec:
    """Read a request such as "sym:0.4", "class-partial" or "none".

    Raises:
        UserError: unknown kind (the nearest one is named), missing or superfluous rate, rate outside [0, 1].
    """
    kind, colon, rate_text = (part.strip() for part in spec.partition(":"))
    if kind not in KINDS:
        near = difflib.get_close_matches(kind.lower().replace("unlabelled", "unlabeled"), KINDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"label noise {spec!r}: there is no kind {kind!r}; {hint}Known kinds: {', '.join(KINDS)}.")
    if kind in WITHOUT_RATE:
        if colon:
            raise UserError(f"label noise {spec!r}: {kind!r} takes no rate; write just {kind!r}.")
        return Spec(kind)
    try:
        rate = float(rate_text)
    except ValueError:
        raise UserError(
            f"label noise {spec!r}: {kind!r} needs a rate between 0 and 1, written like {kind}:0.4."
        ) from None
    if not 0 <= rate <= 1:
        percent = f"; {rate:g} % is written {kind}:{rate / 100:g}" if 1 < rate <= 100 else ""
        raise UserError(f"label noise {spec!r}: the rate {rate:g} must lie between 0 and 1{percent}.")
    return Spec(kind, rate)


def transition_matrix(spec: str, classes: Sequence[str], name: str) -> Matrix:
    """Probability T[y, z] that an image of true class y is given the label z.

    Args:
        spec: "none", "sym:r", "asym:r", "pair:r", or "unlabeled:r" (whose remaining labels are all right).
        classes: class names, c of them.
        name: name of the data set, which decides the map of "asym".

    Returns:
        float64 [c, c], rows sum to 1, rows are true classes.

    Raises:
        UserError: the kind gives candidate sets instead of one label, or no map is known for "asym".
    """
    parsed = parse(spec)
    identity = np.eye(len(classes))
    match parsed.kind:
        case "none" | "unlabeled":
            return identity
        case "sym":
            flipped = (1 - identity) / (len(classes) - 1)
        case "pair":
            flipped = np.roll(identity, 1, axis=1)
        case "asym":
            flipped = identity[_asymmetric_targets(classes, name)]
        case kind:
            raise UserError(f"{kind!r} gives every image a candidate set, not one label: it has no transition matrix.")
    return (1 - parsed.rate) * identity + parsed.rate * flipped


def inclusion_matrix(spec: str, num_classes: int) -> Matrix:
    """Probability P[y, z] that class z is among the candidates of an image of true class y; P[y, y] = 1.

    "partial:q" has q everywhere else. "class-partial" goes by the distance k = (z - y) mod c: 0.7, 0.5, 0.3
    for k mod 3 = 1, 2, 0. The paper gives it for c = 10; other c use the same rule.

    Returns:
        float64 [c, c], rows are true classes.

    Raises:
        UserError: the kind gives no candidate sets.
    """
    parsed = parse(spec)
    match parsed.kind:
        case "partial":
            inclusion = np.full((num_classes, num_classes), parsed.rate)
        case "class-partial":
            index = np.arange(num_classes)
            distance = (index[None, :] - index[:, None]) % num_classes
            inclusion = np.array([0.3, 0.7, 0.5])[distance % 3]
        case kind:
            raise UserError(f"{kind!r} gives every image one label or none, not a candidate set.")
    np.fill_diagonal(inclusion, 1.0)
    return inclusion


def apply(spec: str, truth: Truth, train: ImageData, seed: int) -> tuple[Supervision, Corruption]:
    """Make the labels of `train` imprecise.

    Args:
        spec: see the table at the top of this file.
        truth: clean labels, int64 [n] in [0, c).
        train: the images they belong to; only number, classes and name are used.
        seed: the same seed gives the same labels, bit for bit.

    Returns:
        What is still known of the labels, and the record of what was done with its overall rate.

    Raises:
        UserError: the spec cannot be used, or `truth` does not fit `train`.
    """
    parsed, labels = parse(spec), truth.labels
    check_labels(labels, train.num_classes)
    if len(labels) != len(train):
        raise UserError(f"{train.name}: {len(labels)} labels for {len(train)} images; each image needs one.")
    generator = np.random.default_rng(rng.derive(seed, "corrupt"))
    match parsed.kind:
        case "none":
            supervision = Supervision.from_labels(labels, train.num_classes, trusted=True)
            changed = np.zeros(len(labels), dtype=np.bool_)
        case "partial" | "class-partial":
            supervision = _draw_candidates(labels, inclusion_matrix(spec, train.num_classes), generator)
            changed = ~supervision.single
        case "unlabeled":
            changed = ~_keep_labels(labels, parsed.rate, train.num_classes, generator)
            supervision = _forget(labels, changed, train.num_classes)
        case _:
            given = _draw_labels(labels, transition_matrix(spec, train.classes, train.name), generator)
            supervision = Supervision.from_labels(given, train.num_classes, trusted=False)
            changed = given != labels
    return supervision, Corruption(str(parsed), seed, float(changed.mean()))


def _asymmetric_targets(classes: Sequence[str], name: str) -> Labels:
    """Class each class is mistaken for, int64 [c]; unmapped classes stay themselves."""
    plain = [label.strip().casefold().replace("_", " ") for label in classes]
    look_alikes = ASYMMETRIC_MAPS.get(name) or next(
        (pairs for pairs in ASYMMETRIC_MAPS.values() if pairs.keys() | set(pairs.values()) <= set(plain)),
        None,
    )
    if look_alikes is None:
        raise UserError(
            f"asym: no map of look-alike classes is known for {name!r}, only for "
            f"{', '.join(ASYMMETRIC_MAPS)}; use pair:RATE, which turns each class into the next one."
        )
    missing = (look_alikes.keys() | set(look_alikes.values())) - set(plain)
    if missing:
        raise UserError(
            f"asym: the map of {name} needs the classes {sorted(missing)}, which the data do not have; "
            "restore the class names or use pair:RATE."
        )
    return np.array([plain.index(look_alikes.get(label, label)) for label in plain], dtype=np.int64)


def _draw_labels(labels: Labels, transition: Matrix, generator: np.random.Generator) -> Labels:
    """A label z ~ T[y] for every true label y, by inverting each row's cumulative sum: int64 [n]."""
    uniform = generator.random(len(labels))
    cumulative = transition.cumsum(axis=1)
    cumulative /= cumulative[:, -1:]  # exactly 1 at the end: rounding never yields a class of probability 0
    given = np.empty_like(labels)
    for label, row in enumerate(cumulative):
        members = labels == label
        given[members] = np.searchsorted(row, uniform[members], side="right")
    return given


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
