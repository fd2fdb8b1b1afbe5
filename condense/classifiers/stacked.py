"""Several small networks trained at once, as one network of grouped convolutions.

A condensed set is so small that a step of one network is mostly overhead. k networks of one architecture are laid
side by side along the channels: convolutions get k groups, norms k times the channels, the last layers become
one batched product. Each network keeps its own weights, image order and augmentation; since the
optimisers act elementwise, it trains as it would alone, up to rounding.

Grouped convolutions rather than `torch.func.vmap`, which uses them in the end too, but copies the maps
around each and does not work with autocast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from condense.classifiers.batches import Batches
from condense.classifiers.fit import PLAIN, Epoch, FitOptions, Teaching, has_batch_norm, make_optimizer, run_epochs
from condense.classifiers.layers import HalvingPool, ImageConv2d, Network
from condense.errors import UserError

MOST_PIXELS = {"cpu": 2_048, "cuda": 131_072}
"""Images per batch times their area up to which stacking is faster.

Measured on one core with 5 ConvNet-3, bfloat16, milliseconds per step of all, one by one against stacked: 10 images of
8x8 33 to 19, 30 of them 49 to 37, 50 of them 66 to 68; 10 images of 28x28 164 to 190. The GPU's limit is a guess:
operations on fewer than a few hundred images cost about the same there, and stacking makes fewer of them.
"""
SIDE_BY_SIDE = (nn.Conv2d, nn.GroupNorm, nn.BatchNorm2d, nn.ReLU, HalvingPool)
"""The layers a trunk may have before its last one, which flattens."""


class Stack(nn.Module):
    """k networks of the same layers as one.

    Its parameters and buffers have the networks' names; each concatenates the networks' own along dimension 0.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        """Copy the weights of `networks`. Raises `UserError` where `can_stack` is false or architectures differ."""
        super().__init__()
        first = networks[0]
        names = [{name: tensor.shape for name, tensor in network.state_dict().items()} for network in networks]
        if not can_stack(first) or any(other != names[0] for other in names):
            raise UserError("only convolutional networks of the same layers can be trained together; train one by one.")
        assert isinstance(first.trunk, nn.Sequential)
        count = len(networks)
        self.num_networks = count
        self.trunk = nn.Sequential(*(_widened(layer, count) for layer in list(first.trunk)[:-1]))
        self.head = nn.Linear(first.head.in_features, count * first.head.out_features)
        states = [network.state_dict() for network in networks]
        self.load_state_dict({name: _side_by_side([state[name] for state in states]) for name in states[0]})

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Logits [B, c] of each network on its own images [B, C, H, W]."""
        count = self.num_networks
        maps = self.trunk(torch.cat(tuple(inputs), dim=1))  # [B, k·F, H', W']
        features = maps.reshape(len(maps), count, -1).transpose(0, 1)  # [k, B, F]
        weight = self.head.weight.view(count, -1, self.head.in_features).transpose(1, 2)  # [k, F, c]
        bias = self.head.bias.view(count, 1, -1)
        return list(torch.baddbmm(bias, features, weight))

    @torch.no_grad()
    def write_back(self, networks: Sequence[Network]) -> None:
        """Copy the trained weights back to the networks, in the given order."""
        stacked = {
            name: torch.chunk(tensor, self.num_networks) if tensor.ndim else [tensor] * self.num_networks
            for name, tensor in self.state_dict().items()
        }
        for index, network in enumerate(networks):
            network.load_state_dict({name: parts[index] for name, parts in stacked.items()})


def can_stack(network: nn.Module) -> bool:
    """Whether the network is a plain chain of convolutions, norms, ReLU and halving, then flattened."""
    if not isinstance(network, Network) or not isinstance(network.trunk, nn.Sequential):
        return False
    *layers, last = network.trunk
    return isinstance(last, nn.Flatten) and all(isinstance(layer, SIDE_BY_SIDE) for layer in layers)


def stacking_pays(network: nn.Module, batch_shape: Sequence[int], device: torch.device) -> bool:
    """Whether networks like this one train faster when stacked, from batches of shape [B, C, H, W] on `device`."""
    count, _, height, width = batch_shape
    return can_stack(network) and count * height * width <= MOST_PIXELS.get(device.type, 0)


def fit_stacked(
    networks: Sequence[Network],
    images: Tensor,
    targets: Tensor,
    options: FitOptions,
    *,
    seeds: Sequence[int],
    teaching: Teaching = PLAIN,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Epoch, ...]]:
    """Train `networks` in place and together, yielding the reports of all after every epoch.

    Equal up to rounding to `fit(network, …, seed=seed)` for each of them. The weights are written back after the
    last epoch.

    Args:
        networks: of one architecture that `can_stack`; moved to `device`.
        images: float32 [n, C, H, W], normalised, the same for all.
        targets: as in `fit`.
        options: see `FitOptions`.
        seeds: of order and augmentation, one per network.
        teaching: as in `fit`; each network's batch is augmented and mixed with its own generator.
        device: where to train.

    Raises:
        UserError: the networks cannot be stacked, or there are not as many seeds.
        RunFailed: a loss is no longer finite.
    """
    if len(seeds) != len(networks):
        raise UserError(f"{len(networks)} networks need as many seeds, found {len(seeds)}.")
    for network in networks:
        network.to(device)
    stack = Stack(networks).to(device)
    batches = Batches(
        images.to(device), targets.to(device), options.batch_size, tuple(seeds), teaching.augment, teaching.mix
    )
    optimizer = make_optimizer(stack, options)
    yield from run_epochs(stack, batches, options, teaching.loss, optimizer, whole=has_batch_norm(stack))
    stack.write_back(networks)


def _widened(layer: nn.Module, count: int) -> nn.Module:
    """The same layer for `count` networks side by side; their weights are copied later."""
    if isinstance(layer, nn.Conv2d):
        kind = ImageConv2d if isinstance(layer, ImageConv2d) else nn.Conv2d
        return kind(
            count * layer.in_channels,
            count * layer.out_channels,
            layer.kernel_size[0],  # square, as all of ours are
            layer.stride[0],
            int(layer.padding[0]),
            groups=count * layer.groups,
            bias=layer.bias is not None,
        )
    if isinstance(layer, nn.GroupNorm):
        return nn.GroupNorm(count * layer.num_groups, count * layer.num_channels)
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm2d(count * layer.num_features)
    return layer


def _side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(tensors)) if tensors[0].ndim else tensors[0]
