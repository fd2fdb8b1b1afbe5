"""Training batches: the same images, with a separate order and augmentation per network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from condense import rng
from condense.preprocessing import NormalisedImages

Augment = Callable[[Tensor, torch.Generator], Tensor]
Mix = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Batches:
    """Images on the device, and how batches are made.

    Attributes:
        images: normalised float32 [n, C, H, W], or pixels to be normalised as they are taken.
        targets: [n] or [n, c], on the same device.
        batch_size: images per step; the last batch of an epoch may be smaller.
        seeds: seeds of order and augmentation, one per network.
        augment: applied to every batch, with a CPU generator.
        mix: applied to every batch and its targets thereafter.
    """

    images: Tensor | NormalisedImages
    targets: Tensor
    batch_size: int
    seeds: tuple[int, ...]
    augment: Augment | None = None
    mix: Mix | None = None

    def of_epoch(self, epoch: int, *, at_least: int = 1) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """For every step the inputs and the targets, one tensor per network. Depends only on (seeds, epoch).

        A last batch of fewer than `at_least` images joins the one before it: batch norm needs more than one image.
        """
        generators = [rng.generator(seed, "fit", epoch) for seed in self.seeds]
        device = self.images.device
        orders = [torch.randperm(len(self.images), generator=generator).to(device) for generator in generators]
        for chosen in zip(*(self._split(order, at_least) for order in orders), strict=True):
            pairs = [self._batch(indices, generator) for indices, generator in zip(chosen, generators, strict=True)]
            yield [x for x, _ in pairs], [y for _, y in pairs]

    def _split(self, order: Tensor, at_least: int) -> list[Tensor]:
        parts = list(torch.split(order, self.batch_size))
        if len(parts) > 1 and len(parts[-1]) < at_least:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def _batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, targets = self.images[indices], self.targets[indices]
        if self.augment is not None:
            x = self.augment(x, generator)
        return (x, targets) if self.mix is None else self.mix(x, targets, generator)
