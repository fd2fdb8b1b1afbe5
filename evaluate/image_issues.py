"""Problem images in a data set: near-duplicates and outliers, by distances between features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from condense.data.types import Labels, Mask
from condense.evaluate.neighbours import nearest

Features = npt.NDArray[np.float32]

NEIGHBOURS = 5
DUPLICATE = 0.13
"""Images nearer than this multiple of the median distance to the nearest neighbour are near-duplicates. Source: the
default of cleanlab's Datalab (2.9)."""
FENCE = 3.0
"""Images whose log distance to their neighbours exceeds the upper quartile by this many interquartile ranges are
outliers. Source: "far out" in Tukey (1977), Exploratory Data Analysis, Section 2D."""


_LEAST_SPREAD = 0.05  # of log distances; else tiny deviations among nearly equal distances would count as outliers


@dataclass(frozen=True, eq=False)
class ImageIssues:
    """Near-duplicates and outliers among n images.

    Attributes:
        twins: groups of near-duplicates, each with the ascending indices of two or more images.
        distance: mean distance to the `NEIGHBOURS` nearest other images, float64 [n].
        outlier: bool [n].
    """

    twins: tuple[tuple[int, ...], ...]
    distance: npt.NDArray[np.float64]
    outlier: Mask


def image_issues(features: Features, *, device: torch.device | str = "cpu") -> ImageIssues:
    """Find near-duplicates and outliers among images with features float32 [n, d], n >= 2."""
    count = len(features)
    k = min(NEIGHBOURS, count - 1)
    distances, neighbours = nearest(features, features, k, itself=np.arange(count), device=device)
    near = distances <= DUPLICATE * np.median(distances[:, 0])
    mean = distances.mean(1)
    return ImageIssues(_groups(neighbours, near), mean, _outlying(mean))


def conflicting(twins: tuple[tuple[int, ...], ...], labels: Labels) -> list[tuple[int, ...]]:
    """The groups of `twins` whose images have different labels int64 [n]; -1 is ignored."""
    return [group for group in twins if len({int(labels[image]) for image in group if labels[image] >= 0}) > 1]


def _groups(neighbours: Labels, near: Mask) -> tuple[tuple[int, ...], ...]:
    count = len(neighbours)
    rows, places = np.nonzero(near)
    links = coo_array((np.ones(len(rows)), (rows, neighbours[rows, places])), shape=(count, count))
    _, member = connected_components(links, directed=False)
    order = np.argsort(member, kind="stable")
    starts = np.flatnonzero(np.diff(member[order])) + 1
    groups = [tuple(map(int, group)) for group in np.split(order, starts) if len(group) > 1]
    return tuple(sorted(groups))


def _outlying(mean: npt.NDArray[np.float64]) -> Mask:
    logarithm = np.log(np.maximum(mean, np.finfo(np.float32).tiny))
    lower, upper = np.quantile(logarithm, (0.25, 0.75))
    return np.asarray(logarithm > upper + FENCE * max(upper - lower, _LEAST_SPREAD))
