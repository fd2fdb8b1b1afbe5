"""Exact nearest neighbours of pixels or features, by brute force in blocks that need little memory, on any device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense.data.types import Labels

Array = npt.NDArray[np.uint8] | npt.NDArray[np.float32] | npt.NDArray[np.float64]
Distances = npt.NDArray[np.float64]

BLOCK = 2048  # a block of BLOCK x BLOCK distances takes 32 MB in float64


def nearest(
    queries: Array, base: Array, k: int, *, itself: Labels | None = None, device: torch.device | str = "cpu"
) -> tuple[Distances, Labels]:
    """The `k` rows of `base` nearest to each query in Euclidean distance, nearest first.

    Candidates are found by ||q||² + ||b||² - 2 q·b, in float32 for uint8 rows, else in float64; the returned distances
    are computed from differences in float64, so a copy has distance exactly 0.

    Args:
        queries: [m, ...], flattened to rows, on the same scale as `base`.
        base: [n, ...], n >= k (n > k with `itself`); may be memory-mapped.
        k: number of neighbours.
        itself: int64 [m], the row of `base` that equals each query and is skipped.
        device: where to compute.

    Returns:
        float64 [m, k] distances and int64 [m, k] rows of `base`.
    """
    assert k + (itself is not None) <= len(base)
    parts = [
        _nearest_of_block(block, base, k, None if itself is None else itself[start : start + len(block)], device)
        for start, block in blocks(queries)
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _nearest_of_block(
    queries: Array, base: Array, k: int, itself: Labels | None, device: torch.device | str
) -> tuple[Distances, Labels]:
    dtype = torch.float32 if base.dtype == np.uint8 else torch.float64
    q = rows(queries, device, dtype)
    best = torch.empty(len(q), 0, dtype=dtype, device=q.device)
    index = torch.empty(len(q), 0, dtype=torch.int64, device=q.device)
    for start, block in blocks(base):
        distance = squared_distances(q, rows(block, device, dtype))
        if itself is not None:
            here = np.flatnonzero((itself >= start) & (itself < start + len(block)))
            distance[here, itself[here] - start] = torch.inf
        near, place = distance.topk(min(k, len(block)), largest=False)
        best, index = torch.cat([best, near], 1), torch.cat([index, place + start], 1)
        best, order = best.topk(min(k, best.shape[1]), largest=False)
        index = index.gather(1, order)
    return _exact(queries, base, index.cpu().numpy())


def _exact(queries: Array, base: Array, index: Labels) -> tuple[Distances, Labels]:
    """Distances computed from differences, and the neighbours sorted by them."""
    flat = queries.reshape(len(queries), -1).astype(np.float64)
    columns = [np.linalg.norm(base[found].reshape(flat.shape) - flat, axis=1) for found in index.T]
    distance = np.stack(columns, axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)


def blocks(array: Array, size: int = BLOCK) -> Iterator[tuple[int, Array]]:
    """The array in pieces of at most `size` rows, each with the index of its first row."""
    for start in range(0, len(array), size):
        yield start, array[start : start + size]


def rows(block: Array, device: torch.device | str, dtype: torch.dtype = torch.float64) -> Tensor:
    """[b, ...] flattened to a tensor [b, d]; a copy, so memory-mapped blocks work too."""
    return torch.tensor(block, device=device).flatten(1).to(dtype)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """||a_i - b_j||² of rows [p, d] and [q, d]: [p, q], clamped to at least 0."""
    squares = (a**2).sum(1, keepdim=True) + (b**2).sum(1)
    return torch.addmm(squares, a, b.T, alpha=-2).clamp_min_(0)


def first_copies(images: Iterable[Array]) -> Labels:
    """For each of n images, the index of the first one with the same pixels: int64 [n]."""
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images)
    return np.array([seen.setdefault(digest, i) for i, digest in enumerate(digests)], dtype=np.int64)
