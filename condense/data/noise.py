"""A data set with the noise of `--noise`: long tails, mixtures, or one kind for all images.

Long tails follow Cui et al. (2019), https://arxiv.org/abs/1901.05555: class y of c keeps a share
factor^(-y / (c - 1)) of its images.
"""

from __future__ import annotations

import numpy as np

from condense import rng
from condense.data import corrupt
from condense.data.noise_spec import Noise
from condense.data.splits import pick_per_class, proportional_counts
from condense.data.types import Corruption, ImageData, Labels, Source, Supervision, Truth
from condense.errors import UserError


def imprecise(source: Source, noise: Noise, seed: int) -> tuple[Source, Corruption]:
    """`source` with classes subsampled and labels corrupted; the test images stay as they are.

    Args:
        source: a data set whose truth is known.
        noise: the noise to apply.
        seed: the same seed gives the same images and labels, bit for bit.

    Returns:
        The data with images, labels as given and truth still aligned; and the record, with its overall rate.

    Raises:
        UserError: the truth is not known, or the noise does not suit the data.
    """
    truth = source.truth
    if truth is None:
        raise UserError(f"{source.train.name} has no clean labels, so '{noise}' cannot be injected; leave it out.")
    if noise.imbalance > 1:
        kept = long_tail(truth, source.train.num_classes, noise.imbalance, seed)
        source, truth = source.take(kept), truth.take(kept)
    supervision = source.supervision if noise.keeps_labels else mixed(noise, truth, source.train, seed)
    rate = corrupt.imprecise_share(supervision, truth)
    return source.with_supervision(supervision), Corruption(str(noise), seed, rate)


def long_tail(truth: Truth, num_classes: int, factor: float, seed: int) -> Labels:
    """Indices, ascending, of the images kept: floor(n_y factor^(-y / (c - 1))) of class y, at least one."""
    sizes = np.bincount(truth.labels, minlength=num_classes)
    shares = factor ** -(np.arange(num_classes) / (num_classes - 1))
    keep = np.maximum(np.floor(sizes * shares + 1e-9), np.minimum(sizes, 1)).astype(np.int64)
    return np.flatnonzero(pick_per_class(truth.labels, keep, np.random.default_rng(rng.derive(seed, "long tail"))))


def mixed(noise: Noise, truth: Truth, train: ImageData, seed: int) -> Supervision:
    """The labels with each part's kind of noise on its share of the images; a single part takes all.

    Shares are kept exactly (largest remainders); which images they fall on is drawn from the seed.
    """
    if len(noise.parts) == 1:
        return corrupt.corrupted(noise.parts[0][0], truth, train, seed)
    counts = proportional_counts(np.array([share for _, share in noise.parts]), len(train))
    order = np.random.default_rng(rng.derive(seed, "mixture")).permutation(len(train))
    candidates = np.zeros((len(train), train.num_classes), dtype=np.bool_)
    trusted = np.zeros(len(train), dtype=np.bool_)
    for place, members in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        if not len(members):
            continue
        kind, part_seed = noise.parts[place][0], rng.derive(seed, "mixture part", place)
        part = corrupt.corrupted(kind, Truth(truth.labels[members]), train.take(members), part_seed)
        candidates[members], trusted[members] = part.candidates, part.trusted
    return Supervision(candidates, trusted)
