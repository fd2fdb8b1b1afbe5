"""Choosing representatives: `count` of the m images of a class."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from condense import rng

Choice = Literal["none", "surest", "kmeans", "herding"]
Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def choose(features: Features, sureness: npt.NDArray[np.floating], count: int, how: Choice, seed: int) -> Indices:
    """Indices of the chosen images of one class, best first if ordered.

    Args:
        features: [m, F], m >= count.
        sureness: the classifier's probability of the class, [m].
        count: number to choose.
        how: none (the first ones), surest, kmeans (nearest image to each cluster's centre) or herding.
        seed: seed of k-means.

    Returns:
        int64 [count], all different.
    """
    assert len(features) >= count
    if how == "none":
        return np.arange(count)
    if how == "surest":
        return np.argsort(-sureness, kind="stable")[:count].astype(np.int64)
    return kmeans(features, count, seed) if how == "kmeans" else herding(features, count)


def kmeans(features: Features, count: int, seed: int) -> Indices:
    """The image nearest to each of `count` k-means centres, largest cluster first: int64 [count]."""
    from sklearn.cluster import KMeans

    model = KMeans(count, n_init=3, random_state=rng.derive(seed, "kmeans") % 2**32).fit(features)
    sizes = np.bincount(model.labels_, minlength=count)
    distance = model.transform(features)  # [m, count]
    chosen: list[int] = []
    for cluster in np.argsort(-sizes, kind="stable"):
        free = np.setdiff1d(np.arange(len(features)), chosen)
        chosen.append(int(free[distance[free, cluster].argmin()]))
    return np.array(chosen, dtype=np.int64)


def herding(features: Features, count: int) -> Indices:
    """Greedy mean matching: the k-th choice i minimises ||(k + 1) mean - sum of chosen - f_i||: int64 [count].

    Source: Welling (2009), https://doi.org/10.1145/1553374.1553517.
    """
    exact = features.astype(np.float64)
    mean, total, squares = exact.mean(0), np.zeros(features.shape[1]), (exact**2).sum(1)
    chosen: list[int] = []
    for k in range(count):
        gap = squares - 2 * exact @ ((k + 1) * mean - total)  # without the norm of the target, which is constant
        gap[chosen] = np.inf
        chosen.append(int(gap.argmin()))
        total += exact[chosen[-1]]
    return np.array(chosen, dtype=np.int64)


def k_center(features: Features, count: int) -> Indices:
    """Farthest-first choice, starting with the image nearest to the mean: int64 [count].

    The greedy 2-approximation of the k-center problem. Source: Gonzalez (1985),
    https://doi.org/10.1016/0304-3975(85)90224-5; Sener & Savarese (2018), https://arxiv.org/abs/1708.00489.
    """
    exact = features.astype(np.float64)
    chosen = [int(((exact - exact.mean(0)) ** 2).sum(1).argmin())]
    distance = np.full(len(exact), np.inf)  # to the nearest chosen image
    while len(chosen) < count:
        distance = np.minimum(distance, ((exact - exact[chosen[-1]]) ** 2).sum(1))
        distance[chosen] = -np.inf  # copies of a chosen image stay eligible, itself does not
        chosen.append(int(distance.argmax()))
    return np.array(chosen, dtype=np.int64)
