"""DD-Ranking's scores and the size of a set, which complement its accuracy.

Accuracies here are fractions in [0, 1]. The release of DD-Ranking (v0.2.0) passes percent to the exponential of LRS and
ARS, so its numbers leave [0, 1] and cannot be compared with these; a set with HLR = IOR = 0 has LRS 0.269 here, as the
paper intends.
Source: DD-Ranking, https://github.com/NUS-HPC-AI-Lab/DD-Ranking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from condense.data.types import ImageData
from condense.errors import UserError
from condense.sets.condensed_set import CondensedSet

_BYTES_A_LABEL = 8  # int64, as stored


def hard_label_recovery(real: float, condensed: float) -> float:
    """HLR = accuracy after training on all real data - accuracy on the set, both with hard labels; less is better.

    Args:
        real: accuracy in [0, 1].
        condensed: accuracy in [0, 1] of the same network and number of classes.

    Raises:
        UserError: an accuracy lies outside [0, 1].
    """
    _check_fractions(real, condensed)
    return real - condensed


def improvement_over_random(condensed: float, random: float) -> float:
    """IOR = accuracy of the set with its own kind of labels - of random real images under the same protocol.

    Args:
        condensed: accuracy in [0, 1].
        random: accuracy in [0, 1] with as many images.

    Raises:
        UserError: an accuracy lies outside [0, 1].
    """
    _check_fractions(condensed, random)
    return condensed - random


def label_robust_score(recovery: float, improvement: float, weight: float = 0.5) -> float:
    """LRS = (e^α - e^-1) / (e - e^-1) with α = w·IOR - (1 - w)·HLR; in [0, 1], more is better.

    Args:
        recovery: HLR, in [-1, 1].
        improvement: IOR, in [-1, 1].
        weight: w in [0, 1].

    Raises:
        UserError: the weight lies outside [0, 1].
    """
    _check_weight(weight)
    return _normalised(weight * improvement - (1 - weight) * recovery)


def augmentation_robust_score(augmented: float, plain: float, weight: float = 0.5) -> float:
    """ARS = (e^β - e^-1) / (e - e^-1) with β = γ·(gain with augmentation) + (1 - γ)·(gain without).

    Args:
        augmented: accuracy of the set - of random images, both trained with augmentation; in [-1, 1].
        plain: the same without augmentation.
        weight: γ in [0, 1].

    Raises:
        UserError: the weight lies outside [0, 1].
    """
    _check_weight(weight)
    return _normalised(weight * augmented + (1 - weight) * plain)


@dataclass(frozen=True)
class Arms:
    """Test accuracies in [0, 1], all of the same network architecture.

    Attributes:
        real: after training on all real images, hard labels.
        hard: after training on the set, hard labels.
        own: after training on the set with its own kind of labels.
        random: after training on as many random real images with labels of that kind.
        own_plain: as `own`, without augmentation.
        random_plain: as `random`, without augmentation.
    """

    real: float
    hard: float
    own: float
    random: float
    own_plain: float
    random_plain: float


@dataclass(frozen=True)
class Ranking:
    """HLR (less is better), IOR, LRS and ARS (more is better) of a set."""

    hlr: float
    ior: float
    lrs: float
    ars: float


def ranking(arms: Arms, *, lrs_weight: float = 0.5, ars_weight: float = 0.5) -> Ranking:
    """The four scores from the six accuracies.

    Raises:
        UserError: an accuracy or a weight lies outside [0, 1].
    """
    hlr = hard_label_recovery(arms.real, arms.hard)
    ior = improvement_over_random(arms.own, arms.random)
    plain = improvement_over_random(arms.own_plain, arms.random_plain)
    return Ranking(
        hlr, ior, label_robust_score(hlr, ior, lrs_weight), augmentation_robust_score(ior, plain, ars_weight)
    )


def set_bytes(condensed: CondensedSet) -> int:
    """Uncompressed bytes of everything needed to train on the set: images, labels, soft labels, weights.

    Neither `source_index`, which is a record, nor a ZCA matrix, which follows from the training data, is counted.
    """
    return sum(array.nbytes for name, array in condensed.arrays() if name != "source_index")


def training_bytes(condensed: CondensedSet, labels: Literal["hard", "soft", "online"]) -> int:
    """Uncompressed bytes of the set that training with such labels needs, an online teacher's network included."""
    unused = {"source_index", *(() if labels == "soft" else ("soft_labels",))}
    arrays = sum(array.nbytes for name, array in condensed.arrays() if name not in unused)
    teacher = condensed.provenance.notes.get("online_teacher") if labels == "online" else None
    size = teacher.get("bytes") if isinstance(teacher, Mapping) else None
    return arrays + (size if isinstance(size, int) else 0)


def compression_ratio(condensed: CondensedSet, train: ImageData) -> float:
    """Bytes of the training images and their labels, divided by those of the set, see `set_bytes`."""
    return (train.images.nbytes + _BYTES_A_LABEL * len(train)) / set_bytes(condensed)


def _normalised(exponent: float) -> float:
    return (math.exp(exponent) - math.exp(-1)) / (math.e - math.exp(-1))


def _check_fractions(*accuracies: float) -> None:
    for accuracy in accuracies:
        if not 0 <= accuracy <= 1:
            raise UserError(f"the accuracy {accuracy:g} is not a fraction in [0, 1]; divide percent by 100.")


def _check_weight(weight: float) -> None:
    if not 0 <= weight <= 1:
        raise UserError(f"the weight {weight:g} must lie in [0, 1].")
