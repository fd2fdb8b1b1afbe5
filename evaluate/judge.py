"""The classifier that judges a set: trained on real images, independent of the method that made the set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense import rng
from condense.classifiers import networks
from condense.classifiers.fit import Epoch, FitOptions, fit
from condense.classifiers.networks import Network
from condense.data.memory import check_fits
from condense.data.types import ImageData, Images, Labels, Mask, Supervision, Truth
from condense.errors import UserError
from condense.precision import fast_bf16
from condense.preprocessing import NormalisedImages, Preprocessing, planes, standardisation

Floats = npt.NDArray[np.float32]

BATCH = 128
STEPS = 400


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained classifier with all that its answers depend on.

    Attributes:
        network: the network in evaluation mode, on its device.
        name: name of its architecture.
        preprocessing: normalisation of its input pixels.
        labels: the labels it was trained with, "true labels" or "given labels".
        images: number of training images.
        steps: number of training batches.
    """

    network: Network
    name: str
    preprocessing: Preprocessing
    labels: str
    images: int
    steps: int

    def describe(self) -> str:
        """E.g. "convnet3 trained for 600 steps on 60,000 images with their true labels"."""
        return f"{self.name} trained for {self.steps:,} steps on {self.images:,} images with their {self.labels}"

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 [B, F] and logits float32 [B, c] of pixels float32 [B, C, H, W] in [0, 1]."""
        features = self.network.features(self.preprocessing.normalise(pixels))
        return features, self.network.head(features)

    def probabilities(self, images: Images) -> Floats:
        """p(y | x) float32 [n, c] of uint8 images [n, H, W, C]."""
        device = next(self.network.parameters()).device
        parts = [
            self.embed(to_pixels(images[start : start + 256]).to(device))[1].softmax(1).cpu().numpy()
            for start in range(0, len(images), 256)
        ]
        return np.asarray(np.concatenate(parts), dtype=np.float32)

    def accuracy(self, images: ImageData, truth: Truth) -> float:
        """Fraction of `images`, in [0, 1], whose most likely class is the true one."""
        return float((self.probabilities(images.images).argmax(1) == truth.labels).mean())


def to_pixels(images: Images) -> Tensor:
    """uint8 [n, H, W, C] as float32 [n, C, H, W] in [0, 1]; a copy, so memory-mapped images work too."""
    return planes(images).float() / 255


def targets_of(supervision: Supervision) -> Floats:
    """Targets float32 [n, c]: each row uniform over the image's candidates, or zero if it is unlabelled."""
    candidates = supervision.candidates.astype(np.float32)
    candidates[supervision.unlabelled] = 0
    return np.asarray(candidates / np.maximum(candidates.sum(1, keepdims=True), 1))


def train_judge(
    images: ImageData,
    supervision: Supervision,
    truth: Truth | None,
    *,
    network: str = "convnet3",
    steps: int = STEPS,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[Epoch, int], None] = lambda epoch, total: None,
) -> Judge:
    """Train a classifier on real images, with their true labels if known, else with the given ones.

    AdamW at 1e-3 with half-cosine decay, batches of 128, no augmentation; `steps` is rounded to whole epochs.

    Args:
        images: images of the training split.
        supervision: the given labels; without the truth, unlabelled images are left out.
        truth: clean labels, or None.
        network: one of `networks.NAMES`.
        steps: approximate number of batches, at least 1.
        seed: seed of weights and batches.
        device: where to train.
        on_epoch: called after each epoch with it and the total number of epochs.

    Raises:
        UserError: no image has a label, `steps` is less than 1, the network does not accept the images' size, or they
            do not fit into memory.
    """
    targets, used = _labelled(supervision, truth, images.num_classes)
    if not used.any():
        raise UserError(f"{images.name} has neither true nor given labels, so a classifier cannot be trained on it.")
    if steps < 1:
        raise UserError(f"a classifier cannot be trained for {steps} steps; give at least 1.")
    check_fits(3 * int(used.sum()) * int(np.prod(images.image_shape)), f"training a classifier on {images.name}")
    model = networks.build(
        network,
        in_channels=images.channels,
        image_size=images.image_shape[1],
        num_classes=images.num_classes,
        seed=rng.derive(seed, "judge"),
    )
    chosen = images.images[used]
    process = standardisation(chosen)
    per_epoch = -(-len(chosen) // BATCH)
    options = FitOptions(
        epochs=max(1, round(steps / per_epoch)),
        batch_size=BATCH,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.01,
        schedule="cosine",
        bf16=fast_bf16(torch.device(device)),
    )
    x, y = NormalisedImages(chosen, process), torch.from_numpy(targets[used])
    for epoch in fit(model, x, y, options, seed=rng.derive(seed, "judge order"), device=device):
        on_epoch(epoch, options.epochs)
    labels = "given labels" if truth is None else "true labels"
    return Judge(model.eval(), network, process, labels, len(chosen), options.epochs * per_epoch)


def _labelled(supervision: Supervision, truth: Truth | None, num_classes: int) -> tuple[Floats, Mask]:
    """Targets float32 [n, c], and a mask bool [n] of the images that have one."""
    if truth is not None:
        return np.eye(num_classes, dtype=np.float32)[truth.labels], np.ones(len(truth), dtype=np.bool_)
    targets = targets_of(supervision)
    return targets, np.asarray(targets.any(axis=1))


def known_labels(supervision: Supervision, truth: Truth | None) -> tuple[Labels, str]:
    """The class of each image, int64 [n], -1 where unknown; and which labels these are, "true" or "given"."""
    return (supervision.observed, "given") if truth is None else (truth.labels, "true")
