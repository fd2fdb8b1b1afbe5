"""Every generation metric of a set of images against real ones, overall and per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from condense import rng
from condense.data.splits import pick_per_class, proportional_counts
from condense.data.types import Labels
from condense.errors import UserError
from condense.evaluate.generation import (
    Features,
    density_coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
)

KS = (3, 5)

Metrics = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Sample:
    """Images embedded in a feature space.

    Attributes:
        features: [n, F].
        logits: [n, c'], of the space's own classifier.
        labels: int64 [n], actual or intended class of each image; -1 where unknown.
    """

    features: Features
    logits: Features
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Labels) -> Sample:
        """The same restricted to `chosen` [m]."""
        return Sample(self.features[chosen], self.logits[chosen], self.labels[chosen])


def quality(
    real: Sample,
    generated: Sample,
    classes: Sequence[str],
    *,
    ks: Sequence[int] = KS,
    device: torch.device | str = "cpu",
) -> Metrics:
    """FD, KD, IS, and Density and Coverage for each k; the prefix "CW-" marks means over classes (all but IS).

    A class-wise value compares the real images of a class with the images intended for it, so it is also sensitive to
    images under a wrong label, unlike the overall one (Na et al. 2024, https://arxiv.org/abs/2402.17517).

    Args:
        real: reference images.
        generated: images to measure.
        classes: c class names.
        ks: numbers of neighbours for Density and Coverage.
        device: where to compute distances.

    Returns:
        Values by name, e.g. {"FD": …, "Density k=3": …, "CW-FD": …}. CW-FD and CW-KD, which need two images of every
        class, are None if a class has only one; so are FD and KD for a single image.

    Raises:
        UserError: a class has no generated images, or not more real images than the largest k.
    """
    for y, name in enumerate(classes):
        found, made = int((real.labels == y).sum()), int((generated.labels == y).sum())
        if found <= max(ks) or made == 0:
            raise UserError(
                f"Class {name!r} has {found} real and {made} generated images; k = {max(ks)} nearest neighbours need "
                f"{max(ks) + 1} real ones and at least one generated. Use more images, or a smaller --k."
            )
    pairs = [(real.take(np.flatnonzero(real.labels == y)), generated.take(np.flatnonzero(generated.labels == y)))
             for y in range(len(classes))]  # fmt: skip
    each = [_distances(own, made, ks, device) for own, made in pairs]
    overall = _distances(real, generated, ks, device)
    return {
        **overall,
        "IS": inception_score(generated.logits),
        **{f"CW-{name}": _mean([values[name] for values in each]) for name in overall},
    }


def _distances(real: Sample, generated: Sample, ks: Sequence[int], device: torch.device | str) -> Metrics:
    x, y = real.features, generated.features
    defined = len(generated) > 1
    values: Metrics = {
        "FD": frechet_distance(x, y) if defined else None,
        "KD": kernel_distance(x, y, device=device) if defined else None,
    }
    for k, (density, coverage) in density_coverage(x, y, ks, device=device).items():
        values |= {f"Density k={k}": density, f"Coverage k={k}": coverage}
    return values


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def split_real(labels: Labels, num_classes: int, ipc: int, limit: int, seed: int) -> tuple[Labels, Labels]:
    """Divide real images into a reference and a stand-in for a set, with as many images as the set.

    The stand-in's score against the reference is about the best that a set of this size can reach: the floor.

    Args:
        labels: int64 [n], -1 where the class is unknown; such images are left out.
        num_classes: c.
        ipc: images per class of the set; at most half of a class goes to the stand-in.
        limit: maximum number of reference images.
        seed: seed of the choice.

    Returns:
        Indices of reference and stand-in, both int64, ascending, disjoint.
    """
    known = np.flatnonzero(labels >= 0)
    own = labels[known]
    counts = np.bincount(own, minlength=num_classes)
    generator = np.random.default_rng(rng.derive(seed, "reference"))
    held = pick_per_class(own, np.minimum(ipc, counts // 2), generator)
    rest = known[~held]
    total = min(limit, len(rest))
    keep = proportional_counts(np.bincount(labels[rest], minlength=num_classes), total)
    return rest[pick_per_class(labels[rest], keep, generator)], known[held]
