"""Several pictures in one stored image: a grid of f x f pictures of one class, each shrunk to a side of s / f.

`pack` tiles pictures, where learning starts. `unpack` cuts images apart again and enlarges the parts to the side s; it
is applied wherever a network sees the images, in learning and in scoring, so that a set shows f² as many pictures as it
stores. Sources: Kim et al. (2022), "Dataset Condensation via Efficient Synthetic-Data Parameterization" (IDC), Sec. 3,
https://arxiv.org/abs/2205.14959; Zhao et al. (2023), "Improved Distribution Matching for Dataset Condensation" (IDM),
Sec. 3.2, https://arxiv.org/abs/2307.09742.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from condense.errors import UserError

MOST = 8
"""Largest f: bounds the memory that a set from an untrusted source can claim when it is unpacked."""


def check_pack(pack: object, height: int, width: int) -> None:
    """Raise `UserError` unless images of `height` x `width` pixels can hold `pack` x `pack` equal pictures."""
    if not isinstance(pack, int) or isinstance(pack, bool) or not 1 <= pack <= MOST:
        raise UserError(f"pack is {pack!r}; an image holds from 1 to {MOST} pictures along a side.")
    if height % pack or width % pack:
        raise UserError(
            f"Images of {height}x{width} pixels cannot be cut into {pack}x{pack} equal parts; choose a pack that "
            "divides the side, or another image size."
        )


def pack(pictures: Tensor, factor: int) -> Tensor:
    """Tile pictures, each shrunk to the means of its blocks of f x f pixels.

    Args:
        pictures: float [n * f², C, H, W]; f² consecutive ones share an image, row by row.
        factor: f.

    Returns:
        [n, C, H, W].

    Raises:
        UserError: as `check_pack`.
    """
    _, channels, height, width = pictures.shape
    check_pack(factor, height, width)
    small = F.avg_pool2d(pictures, factor)  # [n * f², C, H / f, W / f]
    parts = small.reshape(-1, factor, factor, channels, height // factor, width // factor)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)


def unpack(images: Tensor, factor: int) -> Tensor:
    """Cut images into f x f parts and enlarge each bilinearly to the image's size; differentiable.

    Interpolation and standardisation by channel commute, so pixels and normalised images may be unpacked alike; but not
    whitened ones.

    Args:
        images: float [n, C, H, W].
        factor: f, which divides H and W.

    Returns:
        [n * f², C, H, W], the f² pictures of an image one after the other, row by row.
    """
    if factor == 1:
        return images
    _, channels, height, width = images.shape
    small = (height // factor, width // factor)
    parts = images.reshape(-1, channels, factor, small[0], factor, small[1]).permute(0, 2, 4, 1, 3, 5)
    return F.interpolate(parts.reshape(-1, channels, *small), (height, width), mode="bilinear", align_corners=False)
