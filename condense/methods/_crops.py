"""Random crops of real images, and images tiled from them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from condense.data.types import Images
from condense.preprocessing import planes

SMALLEST_AREA = 0.08


def random_crops(images: Images, count: int, side: int, generator: torch.Generator) -> Images:
    """Square crops of uniformly random area, 8 to 100 % of the image, at random places, resized.

    As torchvision's `RandomResizedCrop(side, ratio=(1, 1), antialias=True)`, with the randomness passed in.

    Args:
        images: uint8 [n, H, H, C], any number of channels.
        count: crops per image.
        side: height and width of the result.
        generator: a CPU generator.

    Returns:
        uint8 [n, count, side, side, C].
    """
    u = torch.rand(len(images), count, 3, generator=generator)
    size = images.shape[1]
    extent = (size * (SMALLEST_AREA + (1 - SMALLEST_AREA) * u[:, :, 0]).sqrt()).round().long().clamp_min(1)
    corner = (u[:, :, 1:] * (size - extent + 1)[:, :, None]).floor().long()  # top, left
    pixels = planes(images)
    crops = torch.stack(
        [
            _resized(image[:, top : top + length, left : left + length], side)
            for image, lengths, corners in zip(pixels, extent.tolist(), corner.tolist(), strict=True)
            for length, (top, left) in zip(lengths, corners, strict=True)
        ]
    )
    channels_last = crops.permute(0, 2, 3, 1).reshape(len(images), count, side, side, -1)
    return np.asarray(channels_last.numpy(), dtype=np.uint8)


def resized(images: Images, side: int) -> Images:
    """Images uint8 [n, H, H, C] resized to `side`: bilinear, antialiased, rounded."""
    if images.shape[1] == side:
        return images
    pixels = planes(images)
    small = _rounded(_interpolated(pixels.float(), side)).permute(0, 2, 3, 1).contiguous()
    return np.asarray(small.numpy(), dtype=np.uint8)


def tiled(patches: Images, factor: int) -> Images:
    """Images of factor x factor patches each; image k gets patches k, k + n, k + 2n, …, row by row.

    Args:
        patches: uint8 [n·factor², s, s, C], best first: every image gets one of the best n, and so on.
        factor: patches along a side.

    Returns:
        uint8 [n, factor·s, factor·s, C].
    """
    _, side, _, channels = patches.shape
    count = len(patches) // factor**2
    placed = patches.reshape(factor, factor, count, side, side, channels).transpose(2, 0, 3, 1, 4, 5)
    return placed.reshape(count, factor * side, factor * side, channels)


def _resized(crop: Tensor, side: int) -> Tensor:
    return _rounded(_interpolated(crop[None].float(), side)[0])


def _interpolated(pixels: Tensor, side: int) -> Tensor:
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)


def _rounded(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8)
