"""Non-leaking augmentation of training images, whose labels are fed to the network.

Source: Karras et al. (2022), Appendix F.2 (after Karras et al. 2020). At sampling and classification the labels
are zero, so that the generator models the images as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AugmentOptions:
    """Each transformation is drawn for an image with `probability`; a drawn flip mirrors with probability 1/2.

    Attributes:
        probability: 0 turns augmentation off.
        flip: whether to mirror left to right.
        shift: largest shift as a share of the image's side.
        scale: largest zoom, as the exponent's range: factors in [2^-scale, 2^scale].
    """

    probability: float = 0.0
    flip: bool = False
    shift: float = 0.125
    scale: float = 0.1

    @property
    def mirrors(self) -> bool:
        """Whether any image is mirrored."""
        return self.flip and self.probability > 0


def augment(x: Tensor, options: AugmentOptions, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Transform images [B, C, H, W] in [-1, 1]; returns them and the labels [B, 4] (flip, shift x, shift y, scale)."""
    n, drawn_on = len(x), generator.device
    chosen = torch.rand(n, 3, generator=generator, device=drawn_on) < options.probability
    uniform = torch.rand(n, 3, generator=generator, device=drawn_on) * 2 - 1
    flip = (chosen[:, 0] & options.flip & (uniform[:, 0] > 0)).float()
    shift = uniform[:, 1:] * options.shift * 2 * chosen[:, 1:2]
    scale = torch.rand(n, generator=generator, device=drawn_on).mul(2).sub(1) * options.scale * chosen[:, 2]
    labels = torch.cat([flip[:, None], shift / max(options.shift, 1e-6), scale[:, None] / max(options.scale, 1e-6)], 1)
    theta = torch.zeros(n, 2, 3, device=drawn_on)
    theta[:, 0, 0] = (1 - 2 * flip) * 2**scale
    theta[:, 1, 1] = 2**scale
    theta[:, :, 2] = shift
    moved = labels.abs().sum(1) > 0
    if options.probability == 0:
        return x, labels.to(x.device)
    if drawn_on.type == "cpu":
        return _warp_some(x, theta, torch.nonzero(moved)[:, 0]), labels.to(x.device)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    warped = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return torch.where(moved[:, None, None, None], warped, x), labels  # counting them would make a GPU wait


def _warp_some(x: Tensor, theta: Tensor, moved: Tensor) -> Tensor:
    """The images with `moved` warped by theta [B, 2, 3], the others unchanged."""
    if not len(moved):
        return x
    moved = moved.to(x.device)
    grid = F.affine_grid(theta.to(x.device)[moved], list(x[moved].shape), align_corners=False)
    return x.index_copy(0, moved, F.grid_sample(x[moved], grid, padding_mode="border", align_corners=False))
