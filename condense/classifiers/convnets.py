"""Downstream networks without shortcuts: MLP, ConvNet, LeNet, AlexNet and VGG-11 for small images.

They are those of the public code of DC (Zhao, Mopuri & Bilen 2021, https://arxiv.org/abs/2006.05929,
https://github.com/VICO-UoE/DatasetCondensation), with which published cross-architecture results were obtained.
"""

from __future__ import annotations

from torch import nn

from condense.classifiers.layers import HalvingPool, ImageConv2d, Network, Norm

WIDTH = 128
FULL_SIZE = 32
"""Side of the images that AlexNet and VGG-11 are adapted to; 28 to 31 pixels are padded to it."""


def mlp(in_channels: int, image_size: int, num_classes: int) -> Network:
    """Two hidden layers of 128 units with ReLU."""
    trunk = nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
    )
    return Network(trunk, WIDTH, num_classes)


def convnet(in_channels: int, image_size: int, num_classes: int, depth: int, norm: Norm, width: int = WIDTH) -> Network:
    """`depth` times [3x3 convolution of `width`, norm, ReLU, 2x2 average pooling], flatten, linear.

    MNIST-like images (one channel, 28x28) are padded to 32x32 by the first convolution.
    Source: Gidaris & Komodakis (2018), https://arxiv.org/abs/1804.09458.
    """
    first_padding = 3 if (in_channels, image_size) == (1, 28) else 1
    size = image_size + 2 * (first_padding - 1)
    layers: list[nn.Module] = []
    for place in range(depth):
        convolution = (
            nn.Conv2d(width, width, 3, padding=1)
            if place
            else ImageConv2d(in_channels, width, 3, padding=first_padding)
        )
        # In place, because allocating a second map of this size costs more than the arithmetic.
        layers += [convolution, norm(width), nn.ReLU(inplace=True), HalvingPool()]
        size //= 2
    return Network(nn.Sequential(*layers, nn.Flatten()), width * size * size, num_classes)


def lenet(in_channels: int, image_size: int, num_classes: int) -> Network:
    """LeNet-5 with ReLU and max pooling; images below 32x32 are padded by two pixels, as MNIST is.

    Source: LeCun et al. (1998), "Gradient-based learning applied to document recognition".
    """
    padding = 2 if image_size < FULL_SIZE else 0
    size = ((image_size + 2 * padding - 4) // 2 - 4) // 2
    trunk = nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * size**2, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
    )
    return Network(trunk, 84, num_classes)


def alexnet(in_channels: int, image_size: int, num_classes: int) -> Network:
    """AlexNet adapted to 32x32: five convolutions, three poolings, one linear layer, no norm."""
    extra = _padding_to_full(image_size)
    layers: list[nn.Module] = [nn.Conv2d(in_channels, WIDTH, 5, padding=2 + extra), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(WIDTH, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    for inputs, outputs in ((192, 256), (256, 192), (192, 192)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    size = (image_size + 2 * extra) // 8
    return Network(nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten()), 192 * size**2, num_classes)


def vgg11(in_channels: int, image_size: int, num_classes: int, norm: Norm) -> Network:
    """VGG-11 with norms, mean pooling at the end and one linear layer.

    With batch norm its trunk is that of `torchvision.models.vgg11_bn`, which has three channels and one norm only.
    Source: Simonyan & Zisserman (2015), https://arxiv.org/abs/1409.1556, configuration A.
    """
    layers: list[nn.Module] = []
    width, padding = in_channels, 1 + _padding_to_full(image_size)
    for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for channels in stage:
            layers += [nn.Conv2d(width, channels, 3, padding=padding), norm(channels), nn.ReLU()]
            width, padding = channels, 1
        layers.append(nn.MaxPool2d(2))
    return Network(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), width, num_classes)


def _padding_to_full(image_size: int) -> int:
    return (FULL_SIZE - image_size + 1) // 2 if 28 <= image_size < FULL_SIZE else 0
