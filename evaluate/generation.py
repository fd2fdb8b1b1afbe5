"""Generation metrics as functions of features: Fréchet and kernel distance, Inception score, Density, Coverage.

All compute in float64, on features of any origin (see `features`); `quality` combines them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from condense.errors import UserError
from condense.evaluate.neighbours import blocks, nearest, rows, squared_distances

Features = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def frechet_distance(real: Features, generated: Features) -> float:
    """||μ₁ - μ₂||² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½), the squared Fréchet distance of two Gaussians.

    With centred features A and B divided by √(n - 1), Σ₁ = AᵀA and Σ₂ = BᵀB, so the trace of (Σ₁Σ₂)^½ is the sum of
    the singular values of A Bᵀ. This is exact even with fewer images than features.
    Source: Dowson & Landau (1982); Heusel et al. (2017), Eq. 6, https://arxiv.org/abs/1706.08500.

    Args:
        real: [n, F].
        generated: [m, F].

    Raises:
        UserError: either has fewer than two images.
    """
    _check_two(real, generated)
    (mean_1, a), (mean_2, b) = _root_covariance(real), _root_covariance(generated)
    common = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    distance = float(((mean_1 - mean_2) ** 2).sum()) + float((a**2).sum() + (b**2).sum()) - 2 * common
    return max(distance, 0.0)  # rounding can make it negative for equal samples


def _root_covariance(features: Features) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean [F] and a matrix R [min(n, F), F] with RᵀR the covariance (denominator n - 1)."""
    x = features.astype(np.float64)
    mean = x.mean(0)
    centred = (x - mean) / np.sqrt(len(x) - 1)
    root = np.linalg.qr(centred, mode="r") if len(x) > x.shape[1] else centred
    return mean, np.asarray(root, dtype=np.float64)


def kernel_distance(real: Features, generated: Features, *, device: torch.device | str = "cpu") -> float:
    """Unbiased MMD² with the kernel k(x, y) = (x·y / F + 1)³; can be slightly negative.

    Computed over all pairs rather than random subsets, so it is deterministic and the sizes may differ.
    Source: Bińkowski et al. (2018), Eq. 4, https://arxiv.org/abs/1801.01401.

    Args:
        real: [n, F].
        generated: [m, F].
        device: where to compute.

    Raises:
        UserError: either has fewer than two images.
    """
    _check_two(real, generated)
    n, m = len(real), len(generated)
    within = [(_kernel_sum(x, x, device) - _kernel_diagonal(x)) / (len(x) * (len(x) - 1)) for x in (real, generated)]
    return sum(within) - 2 * _kernel_sum(real, generated, device) / (n * m)


def _kernel_sum(x: Features, y: Features, device: torch.device | str) -> float:
    total = 0.0
    for _, x_block in blocks(x):
        x_rows = rows(x_block, device)
        for _, y_block in blocks(y):
            total += float(((x_rows @ rows(y_block, device).T / x.shape[1] + 1) ** 3).sum())
    return total


def _kernel_diagonal(x: Features) -> float:
    return float((((x.astype(np.float64) ** 2).mean(1) + 1) ** 3).sum())


def inception_score(logits: Features) -> float:
    """exp(mean KL(p(y|x) ‖ p(y))) of a classifier's logits [n, c], in [1, c]; computed over all images together.

    The usual mean over ten splits biases the score of small samples downwards.
    Source: Salimans et al. (2016), https://arxiv.org/abs/1606.03498.
    """
    log_p = torch.tensor(logits, dtype=torch.float64).log_softmax(1)
    p = log_p.exp()
    return float((p * (log_p - p.mean(0).clamp_min(1e-300).log())).sum(1).mean().exp())


def density_coverage(
    real: Features, generated: Features, ks: Sequence[int], *, device: torch.device | str = "cpu"
) -> dict[int, tuple[float, float]]:
    """Density and Coverage for each k, as fractions (papers often print percent).

    Let r_k(x) be the distance of a real image x to its k-th nearest real neighbour. Density is the mean over generated
    images of (number of real x nearer than r_k(x)) / k; Coverage is the fraction of real x with a generated image
    nearer than r_k(x). Source: Naeem et al. (2020), https://arxiv.org/abs/2002.09797.

    Args:
        real: [n, F].
        generated: [m, F].
        ks: numbers of neighbours k, e.g. (3, 5).
        device: where to compute.

    Returns:
        A mapping of k to (Density, Coverage); Density is at least 0 and may exceed 1, Coverage lies in [0, 1].

    Raises:
        UserError: a k is less than 1, there are not more real images than the largest k, or no generated ones.
    """
    if len(real) <= max(ks) or min(ks) < 1 or len(generated) == 0:
        raise UserError(
            f"k = {max(ks)} nearest neighbours need at least {max(ks) + 1} real images and one generated, found "
            f"{len(real)} and {len(generated)}; lower k or use more images."
        )
    radii = torch.tensor(nearest(real, real, max(ks), itself=np.arange(len(real)), device=device)[0], device=device)
    inside = dict.fromkeys(ks, 0)
    covered = dict.fromkeys(ks, 0)
    for start, block in blocks(real):
        x, radius = rows(block, device), radii[start : start + len(block)]
        closest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        for _, other in blocks(generated):
            distance = squared_distances(x, rows(other, device)).sqrt_()
            closest = torch.minimum(closest, distance.amin(1))
            for k in ks:
                inside[k] += int((distance < radius[:, k - 1 : k]).sum())
        for k in ks:
            covered[k] += int((closest < radius[:, k - 1]).sum())
    return {k: (inside[k] / (k * len(generated)), covered[k] / len(real)) for k in ks}


def _check_two(real: Features, generated: Features) -> None:
    if min(len(real), len(generated)) < 2:
        raise UserError(
            f"distances of distributions need at least two images each, found {len(real)} real and "
            f"{len(generated)} generated; use a set with more images per class."
        )
