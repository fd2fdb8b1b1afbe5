"""Memorisation: are the images of a set copies of training images, averages of two of them, or new ones?"""

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
AVERAGED_REAL = 0.01  # share of real images that pass for averages
NEIGHBOURS = 100  # whose pairs are tried


@dataclass(frozen=True, eq=False)
class Memorisation:
    """How near images lie to training images, and how near those lie to each other.

    Attributes:
        distance: float64 [n], root mean square difference to the nearest training image; 1 is black against white.
        neighbour: int64 [n], which training image that is.
        copied: bool [n], nearer to it than a third of the distance to the next different one.
        real_distance: float64 [s], the same distance for training images, each leaving itself out.
        real_copied: share in [0, 1] of them that pass for copies by the same rule.
        p_value: chance of so many copies or more if each image passed for one as often as real images do.
        average_distance: float64 [n], like `distance`, to the nearest average of two training images.
        average_pair: int64 [n, 2], which those are, the one that counts more first.
        average_weight: float64 [n] in [0.5, 1], how much that one counts.
        averaged: bool [n], no copy, and nearer to an average of two than 99 % of real images are, both measured by
            the distance to the nearest image.
        averaged_p_value: chance of so many averages or more if 1 % of the images passed for one, as of real images.
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
        """Whether the set holds significantly more copies than chance explains."""
        return bool(self.copied.any()) and self.p_value < SIGNIFICANCE

    @property
    def flagged_averages(self) -> bool:
        """Whether it holds significantly more averages of two training images than chance explains."""
        return bool(self.averaged.any()) and self.averaged_p_value < SIGNIFICANCE


def _at_least(count: int, n: int, chance: float) -> float:
    """Probability of `count` or more of n, each with `chance`: the p-value of a one-sided binomial test."""
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

    An image counts as a copy if it is nearer to a training image than a third of its distance to the next one, training
    images of equal pixels being one. Real images measured alike give the rate of chance; a binomial test compares.
    Source of the rule: Yoon et al. (2023), https://openreview.net/forum?id=shciCbSk9h; Gu et al. (2023),
    https://arxiv.org/abs/2310.02664.

    An image counts as an average of two if its distance to the nearest w a + (1 - w) b, with a and b among its 100
    nearest training images and any w, is a smaller part of its distance to the nearest image than of 99 of 100 real
    images measured alike, which is a conformal test at the rate 1 % (Vovk et al. 2005, Algorithmic Learning in a Random
    World); below 99 different training images none can. Our choice of the statistic. Averages of more images than two
    lie near averages of two as well and are found the less, the more they are.

    Args:
        images: [n, H, W, C] with values from 0 to 255; learned pixels may lie outside.
        train: uint8 [m, H, W, C], may be memory-mapped.
        seed: of the real images drawn for comparison.
        sample: how many of them, at most.
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
    """Distance to the nearest average as a part of that to the nearest image: [n] in [0, 1]; copies are at 1."""
    nearest_image = distance[:, 0]
    return np.where(nearest_image > 0, average.distance / np.maximum(nearest_image, 1e-12), 1.0)


def _averaged(part: Distances, real: Distances) -> Mask:
    """Whether an image's conformal p-value among the real ones, (1 + those at or below it) / (s + 1), is small."""
    below = np.searchsorted(np.sort(real), part, side="right")
    return np.asarray((1 + below) / (len(real) + 1) <= AVERAGED_REAL)
