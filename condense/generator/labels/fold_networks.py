"""The networks of a labeller, one per fold of its training images, each of which saw none of the images of its fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense import json_values, rng
from condense.classifiers.cross import fold_of
from condense.classifiers.whitened import Whitened, stretched
from condense.data.types import Beliefs, Images, Labels, Mask, TrainingSet
from condense.precision import autocast, wants_bf16
from condense.preprocessing import NormalisedImages, Preprocessing
from condense.processes import rows_of_all
from condense.run import JSON, Run, part_of

NAME = "labeller"

_AT_ONCE = 500  # images per pass


@dataclass(frozen=True, eq=False)
class Fold:
    """Fold `number` of `of`: indices, ascending, of all images inside and outside, and of the labelled ones outside."""

    number: int
    of: int
    inside: Labels
    outside: Labels
    labelled: Labels


def divided(train: TrainingSet, folds: int, seed: int) -> list[Fold]:
    """The images in `folds` folds, the labelled and the unlabelled divided alike."""
    labelled, fold = ~train.supervision.unlabelled, np.empty(len(train), dtype=np.int64)
    for part in (labelled, ~labelled):  # divided separately, so that a fold's cost does not depend on the seed
        fold[part] = fold_of(int(part.sum()), folds, rng.derive(seed, NAME))
    return [
        Fold(k, folds, *(np.flatnonzero(part) for part in (fold == k, fold != k, labelled & (fold != k))))
        for k in range(folds)
    ]


@dataclass(eq=False)
class FoldNetworks:
    """The networks with what they need to judge images.

    Attributes:
        networks: one per fold, in eval mode.
        preprocessing: preprocessing of their images.
        exponent: b of p(y | x) ∝ f_y(x)^b, an inverse temperature.
        mirrored, crops: which views they take.
        seed: the seed that divided the training images into folds.
        evaluations: images passed through them for beliefs since they were made or loaded.
    """

    NAME: ClassVar[str] = "labeller"

    networks: list[Whitened]
    preprocessing: Preprocessing
    exponent: float
    mirrored: bool
    crops: bool
    seed: int
    evaluations: int = 0

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.networks[0].head.weight.device

    @property
    def num_views(self) -> int:
        """Passes through them per image."""
        return num_views(mirrored=self.mirrored, crops=self.crops)

    def beliefs(self, data: TrainingSet, run: Run, learned: Mask | None) -> Beliefs:
        """h(x), float32 [n, c]; `learned` is None unless they were trained on exactly these images and labels."""
        return self.posterior(data.images.images, run) if learned is None else self.out_of_fold(data, run)

    def posterior(self, images: Images, run: Run | None = None) -> Beliefs:
        """p(y | x) of new uint8 images [n, H, W, C], by all networks: float32 [n, c]; `run` shows a bar for each."""
        of_each = [self._logits(network, images, run) for network in self.networks]
        return self._softmax(torch.stack(of_each).mean(0))

    def out_of_fold(self, train: TrainingSet, run: Run | None = None) -> Beliefs:
        """p(y | x) of the training images, each by the network that did not see it: float32 [n, c]; `run` as above."""
        logits = torch.zeros(len(train), train.images.num_classes)
        for fold, network in zip(divided(train, len(self.networks), self.seed), self.networks, strict=True):
            logits[fold.inside] = self._logits(network, train.images.images[fold.inside], run)
        return self._softmax(logits)

    @torch.no_grad()
    def features(self, images: Images) -> npt.NDArray[np.float32]:
        """Penultimate features of the first network for uint8 images [n, H, W, C]: float32 [n, F]."""
        network = self.networks[0]
        parts = [
            network.features(normalised(images[start : start + _AT_ONCE], self.preprocessing, self.device)).cpu()
            for start in range(0, len(images), _AT_ONCE)
        ]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def to(self, device: torch.device | str) -> FoldNetworks:
        """The same on another device."""
        self.networks = [network.to(device) for network in self.networks]
        return self

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that `of` reads."""
        return {
            f"{fold}.{name}": tensor
            for fold, network in enumerate(self.networks)
            for name, tensor in network.state_dict().items()
        }

    def numbers(self) -> dict[str, JSON]:
        """The JSON that `of` reads besides the tensors."""
        return {
            "folds": len(self.networks),
            "mean": list(self.preprocessing.mean),
            "std": list(self.preprocessing.std),
            "exponent": self.exponent,
            "mirrored": self.mirrored,
            "crops": self.crops,
            "seed": self.seed,
        }

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, JSON], image_shape: tuple[int, int, int]
    ) -> FoldNetworks:
        """Networks from their `tensors` and `numbers`, for images of `image_shape` (C, H, W).

        Raises `KeyError`, `TypeError`, `ValueError` or `UserError` if something is missing or of another kind.
        """
        folds, (channels, side, _) = json_values.whole(numbers, "folds"), image_shape
        weights = [part_of(tensors, str(fold)) for fold in range(min(folds, len(tensors)))]
        if not weights or not all(weights) or sum(map(len, weights)) != len(tensors):
            raise ValueError(f"its labeller has not the weights of {folds} networks")
        preprocessing = Preprocessing(json_values.numbers(numbers, "mean"), json_values.numbers(numbers, "std"))
        if len(preprocessing.mean) != channels:
            raise ValueError(f"its labeller is not for images of {channels} channels")
        return cls(
            [_built(own, channels, side) for own in weights],
            preprocessing,
            json_values.number(numbers, "exponent"),
            bool(numbers["mirrored"]),
            bool(numbers["crops"]),
            json_values.whole(numbers, "seed"),
        )

    def _logits(self, network: Whitened, images: Images, run: Run | None) -> Tensor:
        def judge(part: slice) -> Tensor:
            mine = images[part]
            self.evaluations += len(mine) * self.num_views
            return look(network, mine, self.preprocessing, mirrored=self.mirrored, crops=self.crops, run=run)

        return rows_of_all(judge, len(images), _AT_ONCE)

    def _softmax(self, logits: Tensor) -> Beliefs:
        return np.asarray((self.exponent * logits).softmax(1).numpy(), dtype=np.float32)


def num_views(*, mirrored: bool, crops: bool) -> int:
    """Views per image at inference."""
    return (3 if crops else 1) * (2 if mirrored else 1)


@torch.no_grad()
def look(
    network: Whitened,
    images: Images,
    preprocessing: Preprocessing,
    *,
    mirrored: bool,
    crops: bool,
    run: Run | None = None,
) -> Tensor:
    """Mean logits of all views of uint8 images [n, H, W, C]: float32 [n, c], on the CPU."""
    device = network.head.weight.device
    bf16, starts = wants_bf16("auto", device), range(0, len(images), _AT_ONCE)
    parts: list[Tensor] = []
    with (run or Run(None)).track(len(starts), "labelling") as tracker:
        for done, start in enumerate(starts, 1):
            x = normalised(images[start : start + _AT_ONCE], preprocessing, device)
            with autocast(device, bf16):
                seen = [weight * network(view).float() for weight, view in stretched(x, int(crops), mirrored=mirrored)]
            parts.append(torch.stack(seen).sum(0).cpu())
            tracker.update(done)
    return torch.cat(parts)


def normalised(images: Images, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """float32 [n, C, H, W] in channels-last memory."""
    x = NormalisedImages(images, preprocessing, device)[:]
    return x.contiguous(memory_format=torch.channels_last)


def _built(weights: Mapping[str, Tensor], channels: int, side: int) -> Whitened:
    """A network from its weights, whose shapes tell its width; raises as `FoldNetworks.of`."""
    num_classes, features = weights["head.weight"].shape
    with torch.device("meta"):  # absurd sizes must not become a huge network
        sketch = Whitened(channels, side, num_classes, max(1, features // 4))
    if {name: tensor.shape for name, tensor in sketch.state_dict().items()} != {
        name: tensor.shape for name, tensor in weights.items()
    }:
        raise ValueError("the weights of its labeller belong to another network")
    network = Whitened(channels, side, num_classes, features // 4)
    network.load_state_dict(dict(weights))
    network.to(memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)
