"""Stratified choice: the same share of every class, by exact counts, reproducible."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from condense import rng
from condense.data.types import Labels, Mask, Supervision
from condense.errors import UserError


def held_out(supervision: Supervision, fraction: float, seed: int) -> tuple[Labels, Labels]:
    """Split training images into a part to train on and a part to select models with.

    Stratified by the observed label; images without a single label (partial, unlabelled) form one more
    group. The split looks at given labels only, never at the truth. Every group keeps at least one image for
    training.

    Args:
        supervision: the given labels of n images.
        fraction: share to hold out, in [0, 1); round(fraction * n) images.
        seed: the same seed gives the same split.

    Returns:
        (training indices, held-out indices), both int64, ascending, disjoint, together 0..n-1.

    Raises:
        UserError: the fraction lies outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise UserError(f"the held-out fraction is {fraction}; it must be at least 0 and below 1, e.g. 0.05.")
    groups = supervision.observed + 1  # 0: no single label
    counts = np.bincount(groups)
    total = round(fraction * len(groups))
    shares = np.minimum(proportional_counts(counts, total), np.maximum(counts - 1, 0))
    held = pick_per_class(groups, shares, np.random.default_rng(rng.derive(seed, "held-out")))
    return np.flatnonzero(~held), np.flatnonzero(held)


def proportional_counts(counts: npt.NDArray[np.integer], total: int) -> Labels:
    """Divide `total` in proportion to `counts` [c], by largest remainders: int64 [c], sum = `total`."""
    exact = counts * (total / counts.sum())
    whole: Labels = np.floor(exact).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")  # largest remainder first, ties by class
    whole[order[: total - int(whole.sum())]] += 1
    return whole


def pick_per_class(
    labels: npt.NDArray[np.integer], keep: npt.NDArray[np.integer], generator: np.random.Generator
) -> Mask:
    """Choose exactly keep[y] images of every class y at random.

    Args:
        labels: whole numbers [n] in [0, c).
        keep: how many to choose, [c], at most the class's size.
        generator: source of the choice.

    Returns:
        bool [n], True for the chosen.
    """
    order = np.lexsort((generator.random(len(labels)), labels))  # by class, in random order within it
    sizes = np.bincount(labels, minlength=len(keep))
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(labels)) - starts[labels[order]]
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[order] = rank < keep[labels[order]]
    return chosen
