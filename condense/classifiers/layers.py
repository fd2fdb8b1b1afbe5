"""Parts of downstream networks: trunk and head, norms, and two layers optimised for the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def instance_norm(channels: int) -> nn.Module:
    """Normalise every channel of every image by itself, with a learned scale and shift per channel.

    Written as a group norm with one channel per group, as in the public code of DC: the same function as
    `nn.InstanceNorm2d(affine=True)`, but faster on a CPU.
    """
    return nn.GroupNorm(channels, channels)


def batch_norm(channels: int) -> nn.Module:
    """Normalise every channel over the batch."""
    return nn.BatchNorm2d(channels)


class Network(nn.Module):
    """A feature extractor and a linear layer on top.

    Attributes:
        trunk: images [B, C, H, W] to features [B, F].
        head: features to logits [B, c].
    """

    def __init__(self, trunk: nn.Module, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(num_features, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features float [B, F] of normalised images float [B, C, H, W]."""
        features: Tensor = self.trunk(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits float [B, c] of normalised images float [B, C, H, W]."""
        logits: Tensor = self.head(self.features(x))
        return logits


class ImageConv2d(nn.Conv2d):
    """The first convolution, on images: `nn.Conv2d` of stride 1, equal to it up to rounding.

    On a CPU it is computed as one matrix product per image, of the weights and the neighbourhoods [C·k², H·W], of which
    there are few. Forward and backward on [50, 1, 28, 28] with 128 outputs and one core take 3 instead of 22 ms in
    bfloat16, 8 instead of 13 ms in float32: a quarter of a training step of ConvNet-3 in bfloat16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to [B, out_channels, H', W']."""
        if x.device.type != "cpu":
            return super().forward(x)
        (size, _), padding = self.kernel_size, self.padding
        assert isinstance(padding, tuple)
        height, width = (side + 2 * pad - size + 1 for side, pad in zip(x.shape[2:], padding, strict=True))
        neighbours = F.unfold(x, size, padding=padding)  # [B, C·k², H'·W']
        neighbours = neighbours.view(len(x) * self.groups, neighbours.shape[1] // self.groups, height * width)
        weight = self.weight.view(self.groups, self.out_channels // self.groups, -1)
        if self.bias is not None:  # the weight of a neighbour that is always 1
            weight = torch.cat([weight, self.bias.view(self.groups, -1, 1)], 2)
            neighbours = torch.cat([neighbours, neighbours.new_ones(len(neighbours), 1, height * width)], 1)
        each = weight.expand(len(x), *weight.shape).reshape(len(neighbours), *weight.shape[1:])
        return torch.bmm(each, neighbours).view(len(x), self.out_channels, height, width)


class HalvingPool(nn.Module):
    """2x2 average pooling of stride 2; an odd last row or column is dropped.

    On a CPU it is computed as one matrix product, x [.., h, 2·W] @ P [2·W, w], because torch's own kernel is
    scalar there: forward and backward take 12 instead of 86 ms (bfloat16) and 39 instead of 57 ms (float32)
    on [100, 128, 32, 32] and one core, a fifth of a training step of ConvNet-3.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H // 2, W // 2]."""
        if x.device.type != "cpu":
            return F.avg_pool2d(x, 2)
        height, width = x.shape[2] // 2, x.shape[3] // 2
        pairs_of_rows = x[:, :, : 2 * height, : 2 * width].reshape(*x.shape[:2], height, 4 * width)
        return pairs_of_rows @ _averages(width, x.dtype)


@functools.lru_cache
def _averages(width: int, dtype: torch.dtype) -> Tensor:
    """P [4·width, width]: the mean of two neighbours in a row and the two below them."""
    with torch.inference_mode(False):
        column = torch.arange(4 * width) % (2 * width) // 2
        return 0.25 * F.one_hot(column, width).to(dtype)
