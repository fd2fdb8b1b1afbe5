"""How fast the mixture form learns to tell the classes apart: its gradient, conditioned.

The mixture form's residual r = sum_y pi_y D_y - x_0 is a mean over the classes, and its gradient reaches D_y as
pi_y r. On average over the labels z that an image x_t can have, an error e_y of every D_y comes back as G e with

    G = E_z[pi^z (pi^z)^T | x_t],    pi^z_y = p(y | x_t, z) = h_y p(z | y) / sum,    h = p(y | x_t).

With clean labels G = diag(h), and each class learns from its own images. With wrong, partial or missing labels the
eigenvalues of G that belong to differences between the classes are small: 0.31 of the clean ones at 40 % symmetric
noise and large sigma, 0.1 with a tenth of the images labelled. The loss then has its minimum where it should, but is
flat along differences between classes, and a generator stopped early draws all classes alike. The directions

    u^z = diag(h) (G + DAMPING diag(h))^-1 pi^z

in pi's place make the average update diag(h) e, as clean labels would (Gauss-Newton, per image). They depend on x_t and
z alone, so the residual still vanishes on average at the optimum: it stays where it was.
"""

from __future__ import annotations

import torch
from torch import Tensor

DAMPING = 0.05
"""Eigenvalues well above this one, relative to clean labels, are inverted; noise grows by at most its inverse."""

_NUMBERS = 2**25
"""Numbers in the largest temporary array; images of a batch are taken in parts of that size."""


def directions(h: Tensor, likelihood: Tensor, prior: Tensor) -> Tensor:
    """The u^z of every image of a batch, whose labels stand for those an image can have.

    Label z_i of image i occurs with the images of class y in proportion to its likelihood L_iy, so that at x_t it has
    probability p(z_i | x_t) / p(z_i) = sum_y h_y L_iy / sum_y prior_y L_iy relative to its share of the batch. The
    unknown factor of a likelihood cancels.

    Args:
        h: p(y | x_t), positive [B, c].
        likelihood: p(z | y) [B, c], each row up to a factor.
        prior: p(y) [c].

    Returns:
        float32 [B, c]; with one certain label per image and all classes in the batch, near one-hot.
    """
    with torch.autocast(h.device.type, enabled=False):
        h, likelihood = h.float().clamp_min(1e-8), likelihood.float()
        h = h / h.sum(1, keepdim=True)
        count, c = h.shape
        explained = (h @ likelihood.T).clamp_min(1e-30)  # of image b by label i, [B, B]
        share = 1 / (explained * (likelihood @ prior.float()).clamp_min(1e-30) * count)
        own = torch.eye(count, device=h.device) / explained.diagonal()
        solve = _by_classes if c <= count else _by_labels
        at_once = max(1, _NUMBERS // (count * c))
        starts = range(0, count, at_once)
        parts = [tuple(of[start : start + at_once] for of in (h, share, own)) for start in starts]
        return torch.cat([solve(rows, weights, right, likelihood) for rows, weights, right in parts])


def _by_classes(h: Tensor, share: Tensor, own: Tensor, likelihood: Tensor) -> Tensor:
    """R (A A^T + DAMPING)^-1 R L^T own with R = diag(h)^1/2 and A = R L^T share^1/2 for each row of `h`: [b, c].

    Args:
        h: p(y | x_t) [b, c].
        share: weights of the labels for each row [b, B].
        own: weights of the labels on the right-hand side [b, B].
        likelihood: L, p(z | y) [B, c].
    """
    root = h.sqrt()
    spread = (share[:, :, None] * likelihood).mT @ likelihood  # diag(h)^-1 G diag(h)^-1
    normal = root[:, :, None] * spread * root[:, None]
    return root * _solved(normal, root * (own @ likelihood))


def _by_labels(h: Tensor, share: Tensor, own: Tensor, likelihood: Tensor) -> Tensor:
    """The same where there are fewer labels than classes, by (A A^T + d)^-1 A = A (A^T A + d)^-1."""
    weight = share.sqrt()
    normal = weight[:, :, None] * ((h[:, None] * likelihood) @ likelihood.T) * weight[:, None]
    return h * ((weight * _solved(normal, own / weight)) @ likelihood)


def _solved(normal: Tensor, right: Tensor) -> Tensor:
    """(normal + DAMPING)^-1 right of each row; [b, n, n] and [b, n] to [b, n]."""
    damped = normal + DAMPING * torch.eye(right.shape[1], device=right.device)
    factor, _ = torch.linalg.cholesky_ex(damped)  # unchecked: reading its status would make a GPU wait
    return torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
