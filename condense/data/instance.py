"""Instance-dependent label noise: the pixels of an image decide its wrong label.

Image i of class y is mislabelled with probability q_i ~ TruncNorm(rate, 0.1^2, [0, 1]), as class z with probability
q_i softmax(x_i W_y)_z, z != y, where the weights W_y ~ N(0, 1)^{d x c} belong to the class.
Source: Xia et al. (2020), "Part-dependent Label Noise", https://arxiv.org/abs/2006.07836, Algorithm 2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from condense import rng
from condense.data.types import Images, Labels

SPREAD = 0.1


def flip_rates(rate: float, num_images: int, seed: int) -> npt.NDArray[np.float64]:
    """Probability q_i that each image is mislabelled, float64 [n] in [0, 1], of mean about `rate`."""
    from scipy.stats import truncnorm  # a second to import

    low, high = (0 - rate) / SPREAD, (1 - rate) / SPREAD
    source = np.random.default_rng(rng.derive(seed, "instance rates"))
    rates: npt.NDArray[np.float64] = truncnorm.rvs(
        low, high, loc=rate, scale=SPREAD, size=num_images, random_state=source
    )
    return rates


def class_weights(num_pixels: int, num_classes: int, y: int, seed: int) -> npt.NDArray[np.float32]:
    """W_y, standard normal float32 [d, c]."""
    source = np.random.default_rng(rng.derive(seed, "instance weights", y))
    return source.standard_normal((num_pixels, num_classes), dtype=np.float32)


def label_probabilities(
    labels: Labels, images: Images, rate: float, num_classes: int, seed: int
) -> npt.NDArray[np.float64]:
    """Probability of every label of every image.

    Args:
        labels: true classes, int64 [n].
        images: uint8 [n, H, W, C]; x_i are their pixels in [-1, 1], channel by channel.
        rate: mean of the flip rates, in [0, 1].
        num_classes: c.
        seed: seed of rates and weights.

    Returns:
        float64 [n, c], rows sum to 1.
    """
    rates = flip_rates(rate, len(labels), seed)
    probabilities = np.zeros((len(labels), num_classes))
    for y in np.unique(labels):
        members = np.flatnonzero(labels == y)
        pixels = images[members].transpose(0, 3, 1, 2).reshape(len(members), -1).astype(np.float32) / 127.5 - 1
        scores = (pixels @ class_weights(pixels.shape[1], num_classes, int(y), seed)).astype(np.float64)
        scores[:, y] = -np.inf
        probabilities[members] = rates[members, None] * softmax(scores, axis=1)
        probabilities[members, y] = 1 - rates[members]
    return probabilities
