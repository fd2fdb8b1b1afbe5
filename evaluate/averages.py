"""The average of two training images nearest to a given image, searched among the pairs of its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from condense.data.types import Labels
from condense.evaluate.neighbours import Array, Distances, rows

_ELEMENTS = 8_000_000  # float32 numbers per block: 32 MB


@dataclass(frozen=True, eq=False)
class Averages:
    """For each of n images the nearest w a + (1 - w) b of two different rows a, b of the base.

    Attributes:
        distance: float64 [n], Euclidean.
        pair: int64 [n, 2], indices of a and b, where a has the larger weight.
        weight: float64 [n], w in [0.5, 1].
    """

    distance: Distances
    pair: Labels
    weight: npt.NDArray[np.float64]


def nearest_average(queries: Array, base: Array, neighbours: Labels, *, device: torch.device | str = "cpu") -> Averages:
    """The average nearest to each query among all pairs of its neighbours, with the best weight of each pair.

    With u = a - q and v = b - q the squared distance ||w u + (1 - w) v||^2 is least at
    w = <v, v - u> / ||u - v||^2, clipped to [0, 1]; all pairs of k neighbours need only their k x k inner products.
    Pairs are compared in float32, the returned distance is computed from differences in float64.

    Args:
        queries: [m, ...], flattened to rows, on the same scale as `base`.
        base: [n, ...]; may be memory-mapped.
        neighbours: int64 [m, k], k >= 2, distinct rows of `base` to be paired for each query.
        device: where to compute.
    """
    k, d = neighbours.shape[1], int(np.prod(base.shape[1:]))
    size = max(1, _ELEMENTS // (2 * k * d + 4 * k * k))
    parts = [
        _of_block(queries[start : start + size], base, neighbours[start : start + size], device)
        for start in range(0, len(queries), size)
    ]
    return Averages(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _of_block(
    queries: Array, base: Array, neighbours: Labels, device: torch.device | str
) -> tuple[Distances, Labels, npt.NDArray[np.float64]]:
    m, k = neighbours.shape
    near = rows(base[neighbours.reshape(-1)], device, torch.float32).reshape(m, k, -1)
    difference = near - rows(queries, device, torch.float32)[:, None]  # [m, k, d]
    inner = difference @ difference.mT  # [m, k, k]
    first, second = torch.triu_indices(k, k, 1, device=inner.device)
    own = inner.diagonal(dim1=1, dim2=2)
    a, b, cross = own[:, first], own[:, second], inner[:, first, second]  # [m, k(k-1)/2]
    weight = ((b - cross) / (a + b - 2 * cross).clamp_min(1e-12)).clamp(0, 1)
    squared = weight**2 * a + 2 * weight * (1 - weight) * cross + (1 - weight) ** 2 * b
    best = squared.argmin(1)
    weight = weight.gather(1, best[:, None])[:, 0]
    places = torch.stack([first[best], second[best]], 1)
    places = torch.where((weight < 0.5)[:, None], places.flip(1), places)
    pair = np.take_along_axis(neighbours, places.cpu().numpy(), 1)
    share = torch.maximum(weight, 1 - weight).cpu().double().numpy()
    return _distances(queries, base, pair, share), pair, share


def _distances(queries: Array, base: Array, pair: Labels, share: npt.NDArray[np.float64]) -> Distances:
    q, a, b = (
        part.reshape(len(queries), -1).astype(np.float64) for part in (queries, base[pair[:, 0]], base[pair[:, 1]])
    )
    w = share[:, None]
    return np.asarray(np.linalg.norm(w * a + (1 - w) * b - q, axis=1))
