"""Downstream networks: ConvNet-3 and ResNet-18/34 for small images, with instance or batch norm.

ConvNet-3 is the network condensed sets are made and judged with (Gidaris & Komodakis 2018,
https://arxiv.org/abs/1804.09458; Zhao, Mopuri & Bilen 2021, https://arxiv.org/abs/2006.05929). The ResNets
(He et al. 2016, https://arxiv.org/abs/1512.03385) have a 3x3 stem of stride 1 and no max pooling, as is usual
for 32x32 images. Instance norm is the default: batch statistics of a few synthetic images mislead batch norm.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.classifiers.layers import HalvingPool, ImageConv2d, Network, Norm, batch_norm, instance_norm
from condense.errors import UserError

__all__ = ["NAMES", "Network", "build", "check_name"]

WIDTH = 128
DEPTH = 3


def convnet(in_channels: int, image_size: int, num_classes: int, norm: Norm) -> Network:
    """ConvNet-3: three times [3x3 convolution of 128, norm, ReLU, 2x2 average pooling], flatten, linear.

    MNIST-like images (one channel, 28x28) are padded to 32x32 by the first convolution.
    """
    first_padding = 3 if (in_channels, image_size) == (1, 28) else 1
    size = image_size + 2 * (first_padding - 1)
    layers: list[nn.Module] = []
    for depth in range(DEPTH):
        convolution = (
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            if depth
            else ImageConv2d(in_channels, WIDTH, 3, padding=first_padding)
        )
        # In place, because a second map of this size costs more in page faults than the arithmetic does.
        layers += [convolution, norm(WIDTH), nn.ReLU(inplace=True), HalvingPool()]
        size //= 2
    return Network(nn.Sequential(*layers, nn.Flatten()), WIDTH * size * size, num_classes)


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
    """ResNet of basic blocks with 64, 128, 256, 512 channels; `num_blocks` of them a stage."""
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


@dataclass(frozen=True)
class _Entry:
    make: Callable[[int, int, int], Network]  # (in_channels, image_size, num_classes)
    smallest: int  # image size below which the last norm would see a single pixel, or a map would vanish


def _resnet_entry(num_blocks: tuple[int, ...], norm: Norm) -> _Entry:
    def make(in_channels: int, image_size: int, num_classes: int) -> Network:
        return resnet(in_channels, num_classes, num_blocks, norm)

    # Three halvings, rounded up, leave 1x1 up to size 8; the instance norm of one pixel is 0.
    return _Entry(make, 9 if norm is instance_norm else 1)


def _convnet_entry(norm: Norm) -> _Entry:
    def make(in_channels: int, image_size: int, num_classes: int) -> Network:
        return convnet(in_channels, image_size, num_classes, norm)

    return _Entry(make, 2**DEPTH)


_NETWORKS = {
    "convnet3": _convnet_entry(instance_norm),
    "convnet3-bn": _convnet_entry(batch_norm),
    "resnet18": _resnet_entry((2, 2, 2, 2), instance_norm),
    "resnet18-bn": _resnet_entry((2, 2, 2, 2), batch_norm),
    "resnet34": _resnet_entry((3, 4, 6, 3), instance_norm),
    "resnet34-bn": _resnet_entry((3, 4, 6, 3), batch_norm),
}
NAMES: tuple[str, ...] = tuple(_NETWORKS)


def check_name(name: str) -> None:
    """Raise `UserError` with the nearest names unless `name` is one of `NAMES`."""
    if name not in _NETWORKS:
        close = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.3) or list(NAMES)
        raise UserError(f'no network is called "{name}"; nearest: {", ".join(close)}.')


def build(name: str, *, in_channels: int, image_size: int, num_classes: int, seed: int) -> Network:
    """A fresh network on the CPU, torch's default initialisation drawn from `seed` alone.

    Args:
        name: one of `NAMES`; "-bn" means batch norm instead of instance norm.
        in_channels: channels of the images, 1 or 3.
        image_size: height and width of the (square) images.
        num_classes: length c of the logits.
        seed: equal seeds give equal weights; the global random state is neither read nor changed.

    Raises:
        UserError: the name is unknown, or the images are too small for the network.
    """
    check_name(name)
    entry = _NETWORKS[name]
    if image_size < entry.smallest:
        raise UserError(
            f"{name} needs images of at least {entry.smallest}x{entry.smallest}, "
            f"found {image_size}x{image_size}; choose convnet3 (from 8x8 on) or resnet18-bn."
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which reseeds every GPU too
        return entry.make(in_channels, image_size, num_classes)
