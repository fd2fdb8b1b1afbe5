"""How fast the mixture form learns to tell the classes apart: its gradient, conditioned.

The mixture form's residual r = sum_y pi_y D_y - x_0 is a mean over the classes, and its gradient reaches D_y as
pi_y r. On average over the labels z that an image x_t can have, an error e_y of every D_y comes back as G e with

    G = E_z[pi^z (pi^z)^T | x_t],    pi^z_y = p(y | x_t, z) = h_y p(z | y) / sum,    h = p(y | x_t).

With clean labels G = diag(h), and each class learns from its own images. With wrong, partial or missing labels the
eigenvalues of G that belong to differences between the classes are small: at 40 % symmetric noise and large sigma 0.31
of the clean ones, with a tenth of the images labelled 0.1. The loss then has its minimum where it should, but is flat
around it where one class differs from another, and a generator stopped early draws all classes alike. The directions

    u^z = diag(h) (G + DAMPING diag(h))^-1 pi^z

in pi's place make the average update diag(h) e, as clean labels would (Gauss-Newton, per image). They depend on x_t and
z alone, so the residual still vanishes on average at the optimum: it stays where it was.
"""

from __future__ import annotations

import torch
from torch import Tensor

DAMPING = 0.05
"""Least eigenvalue, relative to clean labels, that is made up for whole; noise grows by at most its inverse."""


def directions(h: Tensor, likelihood: Tensor, prior: Tensor) -> Tensor:
    """The u^z of every image of a batch, whose labels stand for those an image can have.

    Label z_i of image i occurs with the images of class y in proportion to its likelihood L_iy, so that at x_t it has
    probability p(z_i | x_t) / p(z_i) = sum_y h_y L_iy / sum_y prior_y L_iy relative to its share of the batch. The
    factor that a likelihood is known up to cancels.

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
        c = h.shape[1]
        explained = (h @ likelihood.T).clamp_min(1e-30)  # of image b by label i, [B, B]
        share = 1 / (explained * (likelihood @ prior.float()).clamp_min(1e-30) * len(h))
        pairs = (likelihood[:, :, None] * likelihood[:, None]).flatten(1)
        spread = (share @ pairs).reshape(len(h), c, c)  # diag(h)^-1 G diag(h)^-1
        root = h.sqrt()
        own = root * likelihood / explained.diagonal()[:, None]  # diag(h)^-1/2 pi
        normal = root[:, :, None] * spread * root[:, None] + DAMPING * torch.eye(c, device=h.device)
        factor, _ = torch.linalg.cholesky_ex(normal)  # without a look whether it worked, for which a GPU is waited for
        return root * torch.cholesky_solve(own[:, :, None], factor)[:, :, 0]
