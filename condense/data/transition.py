"""The label model behind each kind of noise: T[y, z] for one label, P[y, z] for candidate sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from condense.data.noise_spec import parse
from condense.data.types import Labels
from condense.errors import UserError

Matrix = npt.NDArray[np.float64]

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
    "digits": {"2": "7", "3": "8", "5": "6", "6": "5"},
}
"""Look-alikes by data set.

Digits: as of MNIST in Patrini et al. (2017), https://arxiv.org/abs/1609.03683, but for 7 to 1.
"""


def transition_matrix(spec: str, classes: Sequence[str], name: str) -> Matrix:
    """Probability T[y, z] that an image of true class y is given the label z.

    Args:
        spec: "none", "sym:r", "asym:r", "pair:r", or "unlabeled:r" (whose remaining labels are all right).
        classes: class names, c of them.
        name: name of the data set, which decides the map of "asym".

    Returns:
        float64 [c, c], rows sum to 1, rows are true classes.

    Raises:
        UserError: the kind gives candidate sets instead of one label, or every image a matrix of its own; or no map
            is known for "asym".
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
        case "instance":
            raise UserError("'instance' depends on the image: it has no single transition matrix.")
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


def _asymmetric_targets(classes: Sequence[str], name: str) -> Labels:
    """Class each class is mistaken for, int64 [c]; unmapped classes stay themselves."""
    plain = [label.strip().casefold().replace("_", " ") for label in classes]
    worded = [pairs for known, pairs in ASYMMETRIC_MAPS.items() if known != "digits"]  # numbers may name any classes
    look_alikes = ASYMMETRIC_MAPS.get(name) or next(
        (pairs for pairs in worded if pairs.keys() | set(pairs.values()) <= set(plain)),
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
