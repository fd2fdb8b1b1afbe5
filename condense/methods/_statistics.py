"""The distance between a batch's statistics and the running statistics of a network's batch norm layers.

Source: Yin et al. (2020), DeepInversion, https://arxiv.org/abs/1912.08795, Eq. 4; the tenfold weight of the first
layer is that of SRe2L (Yin et al. 2023, https://arxiv.org/abs/2306.13092).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from condense.errors import UserError


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norm layers of a network, the first one first."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def check_batch_norm(network: nn.Module, name: str) -> None:
    """Raise `UserError` if the network called `name` has no batch norm."""
    if not batch_norms(network):
        raise UserError(
            f"{name} has no batch norm, so it keeps no statistics of its training images for synthetic ones to "
            "match; choose a network with batch norm, e.g. convnet3-bn or resnet18-bn."
        )


@contextmanager
def watched_statistics(network: nn.Module, first_weight: float) -> Iterator[Callable[[], Tensor]]:
    """Record the input of every batch norm layer l of `network`, which must be in eval mode.

    Yields a function that gives the distance of the last batch x, a differentiable scalar:

        Σ_l w_l (||μ_l(x) - μ_l|| + ||σ²_l(x) - σ²_l||),  w_1 = first_weight, else 1,

    with the mean μ_l(x) and the biased variance σ²_l(x) of each channel over images and places, and Euclidean norms
    over the channels, not squared, as in the public code of SRe2L.
    """
    layers = batch_norms(network)
    found: dict[int, Tensor] = {}

    def watch(index: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def measure(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            assert isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None
            assert layer.running_var is not None and not layer.training
            variance, mean = torch.var_mean(inputs[0], (0, 2, 3), unbiased=False)
            found[index] = (mean - layer.running_mean).norm() + (variance - layer.running_var).norm()

        return measure

    def distance() -> Tensor:
        weighted = [(first_weight if index == 0 else 1.0) * found[index] for index in range(len(layers))]
        return torch.stack(weighted).sum()

    handles = [layer.register_forward_pre_hook(watch(index)) for index, layer in enumerate(layers)]
    try:
        yield distance
    finally:
        for handle in handles:
            handle.remove()
