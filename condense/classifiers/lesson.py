"""The input of an arm and its output, the arguments of the shared training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense.classifiers.batches import Augment, Mix
from condense.classifiers.fit import Loss
from condense.classifiers.layers import Network
from condense.data.types import Supervision


@dataclass(frozen=True)
class Given:
    """The input of an arm.

    Attributes:
        supervision: the n labels.
        build: makes the fresh network number k = 0, 1, …, always the same one.
        weak: the augmentation of all arms.
        strong: a stronger augmentation on top of it, for arms that compare two views of an image.
        epochs: passes over the images.
        seed: seed of everything else an arm draws, such as a projection head.
        device: device of training, and of tensors a loss keeps.
        noise_rate: estimates the fraction of wrong labels from images and labels, which trains networks when called.
    """

    supervision: Supervision
    build: Callable[[int], Network]
    weak: Augment
    strong: Augment
    epochs: int
    seed: int
    device: torch.device
    noise_rate: Callable[[], float]


def _nothing(*_: int) -> None:
    """Do nothing: the default between steps and epochs."""


@dataclass(frozen=True)
class Lesson:
    """The arguments of `fit`, and the network to test.

    Attributes:
        learner: the module to train; its output for a batch is the input of `loss`.
        answers: the network to test after the last epoch.
        shown: int64 [m], image indices of an epoch; an image may occur several times.
        targets: [m, …], their targets for `loss`.
        loss: as in `Teaching`.
        augment: as in `Teaching`.
        mix: as in `Teaching`.
        whole: as in `Teaching`.
        before_epoch: called with the number of each epoch, counted from 1, before it.
        after_step: called after every step of the optimiser.
    """

    learner: nn.Module
    answers: Network
    shown: Tensor
    targets: Tensor
    loss: Loss
    augment: Augment
    mix: Mix | None = None
    whole: bool = False
    before_epoch: Callable[[int], None] = _nothing
    after_step: Callable[[], None] = _nothing


def side_by_side(*views: Augment) -> Augment:
    """Several views of every image, concatenated along the channels: [B, C, H, W] to [B, views · C, H, W]."""

    def all_of_them(x: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([view(x, generator) for view in views], dim=1)

    return all_of_them


class OfViews(nn.Module):
    """Passes each view of an image through its own network; these may be the same one."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """The networks' outputs, [B, views, …], for images in the form of `side_by_side`."""
        views = x.chunk(len(self.networks), dim=1)
        return torch.stack([network(view) for network, view in zip(self.networks, views, strict=True)], dim=1)


class Both(nn.Module):
    """Two networks on the same images."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, 2, c] of images [B, C, H, W]."""
        return torch.stack([self.first(x), self.second(x)], dim=1)
