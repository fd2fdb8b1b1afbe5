"""The quantities that gradient and distribution matching compare: gradients of the weights, and mean features.

Sources: Zhao, Mopuri & Bilen (2021), https://arxiv.org/abs/2006.05929; Zhao & Bilen (2023),
https://arxiv.org/abs/2110.04181.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.classifiers.fit import has_batch_norm
from condense.classifiers.networks import Network

EPS = 1e-6
FROZEN_FROM = 16
"""Real images per class from which batch norm takes its statistics."""
PART = 64
"""Images per pass on a CPU; the feature maps of more do not fit the cache, which takes a third longer."""


def matched_weights(network: nn.Module) -> list[Tensor]:
    """The parameters whose gradients are compared: all but biases and norms' scales and shifts, which are 1-D."""
    return [weight for weight in network.parameters() if weight.ndim > 1]


def weight_gradients(network: Network, x: Tensor, y: int) -> list[Tensor]:
    """Gradients of the mean cross-entropy over images of one class, themselves differentiable in the images.

    Args:
        network: normalised images to logits.
        x: float [B, C, H, W], all of class `y`.
        y: the class.

    Returns:
        One gradient per matched weight, of its shape and the dtype of `x`.
    """
    loss = F.cross_entropy(network(x), torch.full((len(x),), y, device=x.device))
    return list(torch.autograd.grad(loss, matched_weights(network), create_graph=True))


def target_gradients(network: Network, x: Tensor, y: int, *, bf16: bool) -> list[Tensor]:
    """The values of `weight_gradients` for many images, without gradient; optionally under bfloat16 autocast.

    The rounding of bfloat16 is small beside the variance of the batch (docs/decisions.md).
    """
    weights = matched_weights(network)
    totals = [torch.zeros_like(weight) for weight in weights]
    for part in _parts(network, x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = network(part)
        labels = torch.full((len(part),), y, device=x.device)
        loss = F.cross_entropy(logits.to(x.dtype), labels, reduction="sum") / len(x)
        torch._foreach_add_(totals, torch.autograd.grad(loss, weights))
    return totals


def gradient_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Σ over layers and output rows i of 1 - aᵢ·bᵢ / (‖aᵢ‖ ‖bᵢ‖ + ε), ε = 1e-6; a scalar.

    A row holds the gradients of one output channel or unit. Source: Zhao, Mopuri & Bilen (2021), Eq. 9 and 10.

    Args:
        a: gradients, each [rows, …].
        b: gradients of the same shapes.
    """
    total = a[0].new_zeros(())
    for left, right in zip(a, b, strict=True):
        left, right = left.flatten(1), right.flatten(1)  # [rows, inputs]
        product = (left * right).sum(1)
        total = total + (1 - product / (left.norm(dim=1) * right.norm(dim=1) + EPS)).sum()
    return total


def mean_features(network: Network, batches: Sequence[Tensor], *, bf16: bool = False) -> Tensor:
    """Mean penultimate features of each batch [B, C, H, W]: [number of batches, F].

    The batches pass together, so batch norm uses the statistics of all of them.
    """
    return _means(features_of(network, torch.cat(list(batches)), bf16=bf16), batches)


def mean_attention(network: Network, batches: Sequence[Tensor], *, bf16: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Mean features of each batch, as `mean_features`, and mean attention maps of the layers before.

    The attention map of an image in a layer is the sum of its activations' magnitudes over the channels, as a vector of
    unit length over the pixels. Layers are the `nn.ReLU` modules with pixels, but for the last of them.
    Source: Sajedi et al. (2023), "DataDAM", Eq. 2, https://arxiv.org/abs/2310.00093, with exponent 1 as in the authors'
    public code.

    Args:
        network: normalised images to logits.
        batches: normalised images, each [B, C, H, W]; they pass together.
        bf16: whether under bfloat16 autocast; the maps are made in float32.

    Returns:
        [number of batches, F], and for each layer [number of batches, pixels]; none for networks without such modules.
    """
    seen: list[Tensor] = []

    def attend(layer: nn.Module, given: object, activations: Tensor) -> None:
        if activations.ndim == 4:
            seen.append(F.normalize(activations.float().abs().sum(1).flatten(1)))

    whole = torch.cat(list(batches))
    hooks = [layer.register_forward_hook(attend) for layer in network.trunk.modules() if isinstance(layer, nn.ReLU)]
    try:
        features = features_of(network, whole, bf16=bf16)
    finally:
        for hook in hooks:
            hook.remove()
    layers = len(seen) // len(_parts(network, whole))
    maps = [torch.cat(seen[layer::layers]) for layer in range(layers - 1)]
    return _means(features, batches), [_means(each, batches) for each in maps]


def features_of(network: Network, x: Tensor, *, bf16: bool = False) -> Tensor:
    """Penultimate features of images [B, C, H, W]: [B, F] of the dtype of `x`."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        return torch.cat([network.features(part).to(x.dtype) for part in _parts(network, x)])


def freeze_batch_norm(network: nn.Module, x: Tensor) -> None:
    """Fix batch norm's statistics at those of `x`, until `network.train()`.

    A few synthetic images give poor statistics, so those of real images are used. The public code of DC adds a
    tenth of them to the initial ones; here they replace them.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average: of one batch, its statistics
    with torch.no_grad():
        network(x)
    for norm in norms:
        norm.eval()


def _means(values: Tensor, batches: Sequence[Tensor]) -> Tensor:
    """Mean of the rows of `values` [sum of B, F] that belong to each batch: [number of batches, F]."""
    return torch.stack([own.mean(0) for own in torch.split(values, [len(batch) for batch in batches])])


def _parts(network: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    whole = x.device.type != "cpu" or has_batch_norm(network)
    return (x,) if whole else torch.split(x, PART)
