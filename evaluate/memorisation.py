"""Memorisation: whether the images of a set are copies of training images, averages of two of them, or new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import bdtrc

from condense import rng
from condense.data.types import Images, Labels, Mask
from condense.errors import UserError
from condense.evaluate.averages import Averages, nearest_average
from condense.evaluate.neighbours import Distances, first_copies, nearest

RATIO = 1 / 3
SAMPLE = 1000
SIGNIFICANCE = 0.01
AVERAGED_REAL = 0.01  # fraction of real images that count as averages
NEIGHBOURS = 100  # all pairs of these are tried


@dataclass(frozen=True, eq=False)
class Memorisation:
    """Distances of n images to training images, compared with distances among s training images.

    Attributes:
        distance: float64 [n], root mean square difference to the nearest training image; 1 is black against white.
        neighbour: int64 [n], index of that training image.
        copied: bool [n], nearer to it than a third of the distance to the next different one.
        real_distance: float64 [s], the same distance for training images, each excluding itself.
        real_copied: fraction of these, in [0, 1], that count as copies by the same rule.
        p_value: probability of at least as many copies if each image counted as one as often as real images do.
        average_distance: float64 [n], like `distance`, to the nearest average of two training images.
        average_pair: int64 [n, 2], indices of these two, the one with the larger weight first.
        average_weight: float64 [n] in [0.5, 1], weight of the first.
        averaged: bool [n], not a copy, and nearer to an average of two than 99 % of real images are, relative to the
            distance to the nearest image.
        averaged_p_value: probability of at least as many averages if 1 % of the images counted as one, as real ones do.
    """

    distance: Distances
    neighbour: Labels
    copied: Mask
    real_distance: Distances
    real_copied: float
    p_value: float
    average_distance: Distances
    average_pair: Labels
    average_weight: npt.NDArray[np.float64]
    averaged: Mask
    averaged_p_value: float

    @property
    def flagged(self) -> bool:
        """Whether the set has significantly more copies than chance explains."""
        return bool(self.copied.any()) and self.p_value < SIGNIFICANCE

    @property
    def flagged_averages(self) -> bool:
        """Whether it has significantly more averages of two training images than chance explains."""
        return bool(self.averaged.any()) and self.averaged_p_value < SIGNIFICANCE


def _at_least(count: int, n: int, chance: float) -> float:
    """P(X >= `count`) for X ~ Binomial(`n`, `chance`): the p-value of a one-sided binomial test."""
    return float(bdtrc(count - 1, n, chance)) if count else 1.0


def memorisation(
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    train: Images,
    *,
    seed: int = 0,
    sample: int = SAMPLE,
    device: torch.device | str = "cpu",
) -> Memorisation:
    """Compare images with their nearest training images in pixel space.

    An image counts as a copy if it is nearer to a training image than a third of its distance to the next one, where
    training images with equal pixels count once. Real images measured in the same way give the rate of chance, with
    which a binomial test compares.
    Source of the rule: Yoon et al. (2023), https://openreview.net/forum?id=shciCbSk9h; Gu et al. (2023),
    https://arxiv.org/abs/2310.02664.

    An image counts as an average of two if the ratio of its distance to the nearest w a + (1 - w) b, with a and b among
    its 100 nearest training images and any w, to its distance to the nearest image is smaller than for 99 % of real
    images. This is a conformal test at the rate 1 % (Vovk et al. 2005, Algorithmic Learning in a Random World); it
    finds none with fewer than 99 different training images. The statistic is our own choice. Averages of more than two
    images are near averages of two as well; the more images they combine, the fewer are found.

    Args:
        images: [n, H, W, C] with values from 0 to 255; learned pixels may lie outside.
        train: uint8 [m, H, W, C], may be memory-mapped.
        seed: seed of the choice of real images for comparison.
        sample: maximum number of these.
        device: where to compute.

    Raises:
        UserError: there are fewer than three different training images.
    """
    distinct = np.unique(first_copies(train))
    if len(distinct) < 3:
        raise UserError(f"{len(distinct)} different training images are too few to look for copies; 3 are needed.")
    base = train if len(distinct) == len(train) else train[distinct]
    unit = 255 * np.sqrt(np.prod(train.shape[1:]))
    k = min(NEIGHBOURS, len(base) - 1)
    distance, index = nearest(images, base, k, device=device)
    generator = np.random.default_rng(rng.derive(seed, "memorisation"))
    drawn = np.sort(generator.choice(len(base), min(sample, len(base)), replace=False))
    real, real_index = nearest(base[drawn], base, k, itself=drawn, device=device)
    copied, real_copied = _copied(distance), _copied(real)
    chance = (real_copied.sum() + 1) / (len(real) + 2)  # never 0: a sample cannot show that
    average = nearest_average(images, base, index, device=device)
    real_average = nearest_average(base[drawn], base, real_index, device=device)
    averaged = ~copied & _averaged(_part(average, distance), _part(real_average, real))
    return Memorisation(
        distance[:, 0] / unit,
        distinct[index[:, 0]],
        copied,
        real[:, 0] / unit,
        float(real_copied.mean()),
        _at_least(int(copied.sum()), len(copied), chance),
        average.distance / unit,
        distinct[average.pair],
        average.weight,
        averaged,
        _at_least(int(averaged.sum()), len(averaged), AVERAGED_REAL),
    )


def _copied(distance: Distances) -> Mask:
    return np.asarray(distance[:, 0] < RATIO * distance[:, 1])


def _part(average: Averages, distance: Distances) -> Distances:
    """Ratio of the distances to the nearest average and to the nearest image: [n] in [0, 1]; 1 for exact copies."""
    nearest_image = distance[:, 0]
    return np.where(nearest_image > 0, average.distance / np.maximum(nearest_image, 1e-12), 1.0)


def _averaged(part: Distances, real: Distances) -> Mask:
    """Whether an image's conformal p-value, (1 + number of real ones at or below it) / (s + 1), is at most 1 %."""
    below = np.searchsorted(np.sort(real), part, side="right")
    return np.asarray((1 + below) / (len(real) + 1) <= AVERAGED_REAL)
