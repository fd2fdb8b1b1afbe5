"""Downstream networks with shortcuts for small images: ResNet and Wide ResNet."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from condense.classifiers.layers import Network, Norm


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            norm(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to [B, channels, H / stride, W / stride]."""
        return F.relu(self.body(x) + self.shortcut(x))


def resnet(in_channels: int, num_classes: int, num_blocks: tuple[int, ...], norm: Norm) -> Network:
    """ResNet of basic blocks with 64, 128, 256, 512 channels; `num_blocks` of them per stage.

    The stem is a 3x3 convolution of stride 1 without max pooling, as is usual for 32x32 images.
    Source: He et al. (2016), https://arxiv.org/abs/1512.03385.
    """
    width = 64
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
        norm(width),
        nn.ReLU(),
    ]
    for stage, count in enumerate(num_blocks):
        channels = 64 * 2**stage
        for block in range(count):
            layers.append(ResidualBlock(width, channels, 2 if stage and not block else 1, norm))
            width = channels
    return Network(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), width, num_classes)


class WideBlock(nn.Module):
    """Norm and ReLU before each of two 3x3 convolutions; a 1x1 shortcut, after the first ReLU, for another shape."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.before = nn.Sequential(norm(in_channels), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        self.shortcut = (
            nn.Conv2d(in_channels, channels, 1, stride, bias=False) if stride != 1 or in_channels != channels else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] to [B, channels, H / stride, W / stride]."""
        active = self.before(x)
        shortcut = x if self.shortcut is None else self.shortcut(active)
        result: Tensor = shortcut + self.body(active)
        return result


def wide_resnet(in_channels: int, num_classes: int, depth: int, widening: int, norm: Norm) -> Network:
    """WRN-depth-widening: three stages of (depth - 4) / 6 blocks, 16, 32 and 64 channels times `widening`.

    Without dropout. Source: Zagoruyko & Komodakis (2016), https://arxiv.org/abs/1605.07146, Table 1.
    """
    count, remainder = divmod(depth - 4, 6)
    assert remainder == 0, "the depth of a Wide ResNet is 6 n + 4"
    width = 16
    layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1, bias=False)]
    for stage in range(3):
        channels = 16 * 2**stage * widening
        for block in range(count):
            layers.append(WideBlock(width, channels, 2 if stage and not block else 1, norm))
            width = channels
    layers += [norm(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Network(nn.Sequential(*layers), width, num_classes)
