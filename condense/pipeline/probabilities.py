"""The user's out-of-sample probabilities, combined with the given labels: `--pred-probs FILE`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense.data.reading import in_list
from condense.data.types import Beliefs, Mask, Source, Supervision
from condense.errors import UserError
from condense.generator.labels.posterior import (
    estimate_transition,
    given_label,
    self_confidence,
    supervision_likelihood,
)
from condense.generator.labels.suggestions import Suggestions
from condense.pipeline import own_numbers

LEFT_OUT = (
    "probabilities from a file: no network is trained and no image is examined. The result is as good as they are; "
    "they must come from a model that was not trained on the label of the image it predicts."
)

_PRIOR = 0.9  # prior probability that a label is right
_UNFOLDINGS = 20
_POWERS = tuple(2.0 ** (step / 2) for step in range(-6, 9))  # 1/8 to 16
_COMPARED = 10_000
_LEAST = 1e-9
_TOLERANCE = 1e-2  # of the sum of a row, since numbers in files are rounded
_NAMES = ("pred_probs", "probabilities", "image_posterior", "posterior")


def weighed(probabilities: Beliefs, supervision: Supervision, not_judged: Mask | None = None) -> Suggestions:
    """Combine out-of-sample probabilities with the given labels.

    The transition matrix T is estimated from images with confident probabilities. A classifier may be more or less sure
    than it is right, and one trained on the given labels may predict p(z | x) of the *given* label instead of p(y | x).
    So the probabilities are raised to a power (temperature scaling, Guo et al. 2017,
    https://arxiv.org/abs/1706.04599), and T is inverted or not, see `unfolded`, whichever makes the given labels most
    probable under T.

    Args:
        probabilities: [n, c], rows summing to 1, made without looking at the image's label.
        supervision: the n labels.
        not_judged: bool [n], images whose probabilities say nothing about their labels, which are therefore believed.
    """
    found = torch.from_numpy(probabilities).float()
    judged = np.flatnonzero(np.ones(len(found), dtype=np.bool_) if not_judged is None else ~not_judged)
    of_judged, labels = found[judged], supervision.take(judged)
    others = (1 - _PRIOR) / (supervision.num_classes - 1)
    prior = torch.full((supervision.num_classes,) * 2, others).fill_diagonal_(_PRIOR)
    transition = estimate_transition(of_judged, labels, prior, self_confidence(of_judged, labels))
    found = _read(found, transition, *_reading(of_judged, transition, labels))
    posterior = supervision.as_beliefs()
    posterior[judged] = given_label(found[judged], supervision_likelihood(labels, transition)).numpy()
    return Suggestions(
        supervision,
        np.asarray(found.numpy(), dtype=np.float32),
        posterior,
        np.asarray(transition.numpy(), dtype=np.float32),
    )


def unfolded(probabilities: Tensor, transition: Tensor) -> Tensor:
    """p(y | x) from p(z | x) = sum_y p(y | x) T[y, z]: [n, c] to [n, c].

    Twenty steps of the multiplicative iteration q <- q T (p / T^T q), which decreases KL(p || T^T q) and keeps q a
    distribution. Source: Richardson (1972), https://doi.org/10.1364/JOSA.62.000055; Lucy (1974).
    """
    found = probabilities
    for _ in range(_UNFOLDINGS):
        found = found * ((probabilities / (found @ transition).clamp_min(1e-12)) @ transition.T)
    return found / found.sum(1, keepdim=True).clamp_min(1e-12)


def _read(probabilities: Tensor, transition: Tensor, power: float, of_labels: bool) -> Tensor:
    """p(y | x) [n, c] from probabilities, raised to a power, of the class or (`of_labels`) of the given label."""
    found = (power * probabilities.clamp_min(_LEAST).log()).softmax(1)
    return unfolded(found, transition) if of_labels else found


def _reading(probabilities: Tensor, transition: Tensor, supervision: Supervision) -> tuple[float, bool]:
    """The arguments of `_read` under which single labels that may be wrong are most probable; (1, False) without any.

    At most `_COMPARED` of them, evenly spaced, are compared.
    """
    noisy = np.flatnonzero(supervision.noisy)
    noisy = noisy[:: max(1, -(-len(noisy) // _COMPARED))]
    if not len(noisy):
        return 1.0, False
    compared, labels = probabilities[noisy], torch.from_numpy(supervision.observed[noisy])[:, None]

    def foretold(reading: tuple[float, bool]) -> float:
        found = _read(compared, transition, *reading) @ transition
        return float(found.gather(1, labels).clamp_min(_LEAST).log().mean())

    return max(((power, of_labels) for power in _POWERS for of_labels in (False, True)), key=foretold)


def checked(array: npt.NDArray[Any], source: Source, what: str) -> Beliefs:
    """Probabilities [n, c] of the training images of `source`, float32, rows summing to 1.

    Raises:
        UserError: wrong shape, a value that is not a probability, or a row that does not sum to 1.
    """
    n, c = len(source.train), source.train.num_classes
    if array.dtype.kind not in "fiu" or array.shape != (n, c):
        raise UserError(
            f"{what} is {array.dtype} {list(array.shape)}; it must hold a probability for each of the {n} training "
            f"images of {source.train.name} and each of its {c} classes, numbers [{n}, {c}]."
        )
    found = array.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(found).all(1) | (found < 0).any(1) | (abs(found.sum(1) - 1) > _TOLERANCE))
    if wrong.size:
        row = int(wrong[0])
        raise UserError(
            f"{what}: row {row} does not hold probabilities ({_some(found[row])}), {wrong.size} such rows; each row "
            "must be 0 or more and sum to 1 (logits: apply a softmax first)."
        )
    return np.asarray(found / found.sum(1, keepdims=True), dtype=np.float32)


def _some(row: npt.NDArray[np.float64]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in row[:4])
    return f"{shown}{', …' if len(row) > 4 else ''}, sum {row.sum():.4g}"


def read_probabilities(place: str, source: Source) -> Beliefs:
    """Probabilities from FILE or FILE::NAME: .npy, .npz, or a .csv with a column for each class, by its name.

    Columns of arrays are in the order of the classes, unless an .npz holds `class_names`. Rows: see `own_numbers.read`.

    Raises:
        UserError: the file cannot be read, or does not hold such probabilities.
    """
    found, names = own_numbers.read(place, source, "probabilities", _NAMES, source.train.classes)
    path = place.partition("::")[0]
    return checked(found if names is None else _in_order(found, names, source, path), source, path)


def _in_order(array: npt.NDArray[Any], own: list[str], source: Source, path: str) -> npt.NDArray[Any]:
    """The columns in the order of the classes, if the file names its own."""
    classes = source.train.classes
    if sorted(own) != sorted(classes) or array.ndim != 2 or array.shape[1] != len(own):
        raise UserError(
            f"{path} holds probabilities of the classes {in_list(own)}, but {source.train.name} has "
            f"{in_list(classes)}; both need the same classes."
        )
    return array[:, [own.index(name) for name in classes]]
