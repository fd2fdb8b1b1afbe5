"""Memorisation: are the images of a set copies of training images, or new ones?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from condense import rng
from condense.data.types import Images, Labels, Mask
from condense.errors import UserError
from condense.evaluate.neighbours import Distances, first_copies, nearest

RATIO = 1 / 3
SAMPLE = 1000
SIGNIFICANCE = 0.01


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
    """

    distance: Distances
    neighbour: Labels
    copied: Mask
    real_distance: Distances
    real_copied: float
    p_value: float

    @property
    def flagged(self) -> bool:
        """Whether the set holds significantly more copies than chance explains."""
        return bool(self.copied.any()) and self.p_value < SIGNIFICANCE


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
    distance, index = nearest(images, base, 2, device=device)
    generator = np.random.default_rng(rng.derive(seed, "memorisation"))
    drawn = np.sort(generator.choice(len(base), min(sample, len(base)), replace=False))
    real, _ = nearest(base[drawn], base, 2, itself=drawn, device=device)
    copied, real_copied = _copied(distance), _copied(real)
    chance = (real_copied.sum() + 1) / (len(real) + 2)  # never 0: a sample cannot show that
    test = stats.binomtest(int(copied.sum()), len(copied), chance, alternative="greater")
    return Memorisation(
        distance[:, 0] / unit,
        distinct[index[:, 0]],
        copied,
        real[:, 0] / unit,
        float(real_copied.mean()),
        float(test.pvalue),
    )


def _copied(distance: Distances) -> Mask:
    return np.asarray(distance[:, 0] < RATIO * distance[:, 1])
