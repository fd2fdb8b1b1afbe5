"""A fast, strong classifier: patches whitened by a fixed first layer, three blocks of two convolutions, batch norm.

The first layer's 2x2 filters are the eigenvectors of the patches' covariance divided by the square roots of their
eigenvalues, with both signs, and stay fixed; so the network learns from decorrelated pixels and needs few epochs.
Source: Jordan (2024), "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (airbench94), https://arxiv.org/abs/2404.00498,
Sec. 3. Departures: ReLU instead of GELU, a free width, and no halving of maps below four pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condense.classifiers.layers import Network

PATCH = 2
EPS = 5e-4  # added to the eigenvalues, of pixels with deviation 1
SCALE = 1 / 9  # factor of the logits
MOMENTUM = 0.4  # of batch norm's running statistics, which must converge in few steps
SMALLEST = 3  # pixels a side

_PATCHES_FROM = 5000  # images, at most, whose patches are counted


class Whitened(Network):
    """See above; the features are each channel's largest value over the map.

    Args:
        in_channels: channels of the images.
        image_size: their side, `SMALLEST` or more.
        num_classes: length of the logits.
        width: channels of the first block; the others have four times as many.
    """

    def __init__(self, in_channels: int, image_size: int, num_classes: int, width: int) -> None:
        whitening = nn.Conv2d(in_channels, 2 * in_channels * PATCH**2, PATCH)
        whitening.weight.requires_grad_(False)
        layers: list[nn.Module] = [whitening, nn.ReLU(inplace=True)]
        channels, side = whitening.out_channels, image_size - PATCH + 1
        for out in (width, 4 * width, 4 * width):
            layers.append(_block(channels, out, halve=side >= 4))
            channels, side = out, side // 2 if side >= 4 else side
        super().__init__(nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten()), channels, num_classes)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits float [B, c] of normalised images float [B, C, H, W]."""
        logits: Tensor = SCALE * self.head(self.features(x))
        return logits

    def whiten(self, x: Tensor) -> None:
        """Fit the first layer's filters to normalised images [n, C, H, W]."""
        whitening = self.trunk[0]  # type: ignore[index]
        assert isinstance(whitening, nn.Conv2d)
        patches = nn.functional.unfold(x[:_PATCHES_FROM].double(), PATCH)  # [n, C·4, places]
        flat = patches.transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
        filters = (vectors / (values + EPS).sqrt()).T.reshape(-1, *whitening.weight.shape[1:])
        with torch.no_grad():
            whitening.weight.copy_(torch.cat([filters, -filters]))
            assert whitening.bias is not None
            whitening.bias.zero_()


def parameter_groups(
    network: Whitened, learning_rate: float, weight_decay: float, bias_rate: float
) -> list[dict[str, object]]:
    """Parameter groups of SGD: weights, and biases at `bias_rate` times the learning rate with as much less decay."""
    trained = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    biases = [weight for name, weight in trained if name.endswith("bias")]
    weights = [weight for name, weight in trained if not name.endswith("bias")]
    return [
        {"params": weights, "lr": learning_rate, "weight_decay": weight_decay},
        {"params": biases, "lr": learning_rate * bias_rate, "weight_decay": weight_decay / bias_rate},
    ]


def _block(channels: int, out: int, *, halve: bool) -> nn.Sequential:
    """Convolution, halving, norm, ReLU, convolution, norm, ReLU."""
    return nn.Sequential(
        _convolution(channels, out),
        nn.MaxPool2d(2) if halve else nn.Identity(),
        _norm(out),
        nn.ReLU(inplace=True),
        _convolution(out, out),
        _norm(out),
        nn.ReLU(inplace=True),
    )


def _convolution(channels: int, out: int) -> nn.Conv2d:
    """3x3, without bias; the first `channels` filters pass their input on, as airbench starts."""
    layer = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[:channels])
    return layer


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with a shift and a fixed scale of 1."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm


def stretched(x: Tensor, by: int, *, mirrored: bool) -> list[tuple[float, Tensor]]:
    """Views of images [B, C, H, W] and their weights, which sum to 1: themselves, and shifted by `by` pixels.

    The unshifted images weigh one half, those shifted up and left, and down and right, the rest; with `mirrored`, each
    is also mirrored. `by` = 0 leaves out the shifted views. Source: airbench's "multicrop", Jordan (2024), Sec. 3.5.
    """
    side = x.shape[2]
    padded = nn.functional.pad(x, (by,) * 4, mode="reflect") if by else x
    places = ((0.5, by), (0.25, 0), (0.25, 2 * by)) if by else ((1.0, 0),)
    views = [(weight, padded[:, :, at : at + side, at : at + side]) for weight, at in places]
    if not mirrored:
        return views
    return [(weight / 2, seen) for weight, view in views for seen in (view, view.flip(3))]
