"""Batches of images on the device, and the indices of each step's batch as a function of (seed, step)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from condense import rng
from condense.data.types import ImageData
from condense.preprocessing import Pixels


class UnitImages:
    """Images of which batches are taken as float32 in [-1, 1] on the device."""

    def __init__(self, data: ImageData, device: torch.device | str = "cpu") -> None:
        self._pixels = Pixels(data.images, device)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, indices: Tensor | slice) -> Tensor:
        """float32 [B, C, H, W]."""
        return to_unit(self._pixels[indices])


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 0..255 -> float32 [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_pixels(images: Tensor) -> Tensor:
    """Float [-1, 1] (clamped) -> uint8 0..255, rounded."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


class EpochBatches:
    """Indices of batch `step`: epochs are permutations drawn from (seed, epoch), concatenated.

    Args:
        n: images to choose from.
        batch_size: indices per batch; may exceed n.
        seed: seed of the permutations.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._order = torch.randperm(self.n, generator=rng.generator(self.seed, "epoch", epoch))
            self._epoch = epoch
        return self._order

    def __getitem__(self, step: int) -> Tensor:
        """int64 [batch_size]."""
        position, end = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while position < end:
            epoch, offset = divmod(position, self.n)
            part = self._permutation(epoch)[offset : offset + end - position]
            parts.append(part)
            position += len(part)
        return torch.cat(parts)


class LabelledBatches:
    """`EpochBatches` topped up: where fewer than `share` of a batch are labelled, labelled images replace others.

    With few labels a batch drawn from all images would contain hardly any. If all images are labelled, or none,
    these are `EpochBatches`.

    Args:
        labelled: bool [n], which of the images to choose from have a label.
        batch_size: indices per batch.
        share: least share of labelled images in a batch, in [0, 1].
        seed: seed of the permutations.
    """

    def __init__(self, labelled: Tensor, batch_size: int, share: float, seed: int) -> None:
        self.labelled, self.least = labelled, math.ceil(share * batch_size)
        self.everything = EpochBatches(len(labelled), batch_size, seed)
        self.known = torch.nonzero(labelled)[:, 0]
        self.mixed = 0 < len(self.known) < len(labelled)
        self.topping = EpochBatches(max(1, len(self.known)), batch_size, rng.derive(seed, "labelled"))

    def __getitem__(self, step: int) -> Tensor:
        """int64 [batch_size]."""
        batch = self.everything[step]
        if not self.mixed:
            return batch
        without = torch.nonzero(~self.labelled[batch])[:, 0]
        missing = max(0, self.least - (len(batch) - len(without)))
        return batch.index_copy(0, without[:missing], self.only_labelled(step)[:missing])

    def only_labelled(self, step: int) -> Tensor:
        """Indices of a batch of labelled images only, int64 [batch_size]."""
        return self.known[self.topping[step]] if self.mixed else self.everything[step]
