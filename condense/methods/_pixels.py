"""Normalised images: real ones drawn by class, initial learned ones, and the conversion back to pixels.

Learned images are in normalised space and never clamped; a set stores them as float32 pixels with 0 black
and 1 white, which its stored preprocessing normalises again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from condense import rng
from condense.classifiers import networks
from condense.classifiers.networks import Network
from condense.data.types import Beliefs, ImageData, Labels, TrainingSet
from condense.errors import UserError
from condense.methods._members import class_members, refuse_partial
from condense.packing import pack
from condense.preprocessing import NormalisedImages, Preprocessing, planes
from condense.sets.condensed_set import Floats

UNIT_RANGE = (0.0, 1.0)
ZCA_EPS = 0.1


class RealImages:
    """The training images on the device, normalised on access, with the observed class of each.

    Args:
        train: every image has one label, see `check_single_labels`, unless `members` gives the classes.
        preprocessing: normalisation of pixels.
        least: smallest number of images per class, e.g. ipc if learning starts from them.
        device: device of the images.
        members: indices of each class's images; by observed label when None.
        beliefs: p(y | x, z) [n, c], in proportion to which batches of a class are drawn; from its members when None.
            Some image may be of each class.
        patches: real images needed for each of the `least`.

    Raises:
        UserError: a class has fewer than least·patches images.
    """

    def __init__(
        self,
        train: TrainingSet,
        preprocessing: Preprocessing,
        least: int,
        device: torch.device | str = "cpu",
        members: Sequence[Labels] | None = None,
        beliefs: Beliefs | None = None,
        patches: int = 1,
    ) -> None:
        self.preprocessing = preprocessing
        self._images = NormalisedImages(train.images.images, preprocessing, device)
        self.num_classes = train.images.num_classes
        self.labels = torch.from_numpy(train.supervision.observed).to(device)
        self._members = [torch.from_numpy(own) for own in members or class_members(train, least, patches=patches)]
        self._beliefs = None if beliefs is None else torch.from_numpy(beliefs).T.contiguous()  # [c, n]

    def __len__(self) -> int:
        return len(self._images)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self._images.shape[1:])

    @property
    def device(self) -> torch.device:
        """The device of the images."""
        return self._images.device

    def __getitem__(self, indices: Tensor | slice) -> Tensor:
        """Normalised float32 [B, C, H, W]."""
        return self._images[indices]

    def network(self, name: str, seed: int, width: int | None = None) -> Network:
        """An untrained network for these images and classes, on their device; `width` as in `networks.build`."""
        channels, size, _ = self.image_shape
        return networks.build(
            name,
            in_channels=channels,
            image_size=size,
            num_classes=self.num_classes,
            seed=seed,
            device=self.device,
            width=width,
        )

    def choose(self, y: int, count: int, generator: torch.Generator) -> Tensor:
        """Indices of `count` images of class `y` without replacement, or of all if there are fewer: on the CPU."""
        own = self._members[y]
        return own[torch.randperm(len(own), generator=generator)[:count]]

    def batch_of(self, y: int, count: int, generator: torch.Generator) -> Tensor:
        """Indices of a batch of class `y` as `choose`; in proportion to the beliefs if given, an image more than once.

        Without replacement images of other classes, which are rarely impossible, would fill up the batch of a class of
        few.
        """
        if self._beliefs is None:
            return self.choose(y, count, generator)
        return torch.multinomial(self._beliefs[y], count, replacement=True, generator=generator)

    def draw_each(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` images of every class, in class-major order."""
        chosen = [self.choose(y, count, generator) for y in range(self.num_classes)]
        places = torch.split(torch.cat(chosen).to(self.device), [len(own) for own in chosen])
        return torch.cat([self[own] for own in places])  # class by class: whitening all at once rounds differently


def check_single_labels(train: TrainingSet) -> None:
    """Raise `UserError` unless every image has exactly one label, right or wrong, and is square."""
    refuse_partial(train)
    unlabelled = int(train.supervision.unlabelled.sum())
    if unlabelled:
        raise UserError(
            f"{unlabelled} of {len(train)} images have no label, but this method compares learned images of a class "
            "with real ones of that class; label them first (--clean-first dmis), leave them out, or use dmis."
        )
    check_square(train)


def check_square(train: TrainingSet) -> None:
    """Raise `UserError` unless the images are square."""
    _, height, width = train.images.image_shape
    if height != width:
        raise UserError(f"The networks need square images, found {height}x{width}; give --image-size.")


def initial_images(reals: RealImages, ipc: int, start: Literal["noise", "real"], seed: int, factor: int = 1) -> Tensor:
    """Initial learned images: float32 [c * ipc, C, H, W], class-major, on the device of `reals`.

    Args:
        reals: the training images, at least ipc·factor² per class for "real".
        ipc: images per class.
        start: standard normal "noise", or "real" images of the observed class, factor² different ones in each.
        seed: seed of the draw.
        factor: pictures along a side of an image.

    Raises:
        UserError: the side cannot be divided so.
    """
    generator = rng.generator(seed, "initial images")
    if start == "real":
        return pack(reals.draw_each(ipc * factor**2, generator), factor)
    return torch.randn(reals.num_classes * ipc, *reals.image_shape, generator=generator).to(reals.device)


def to_unit_pixels(x: Tensor, preprocessing: Preprocessing) -> Floats:
    """Pixels float32 [n, H, W, C], 0 black and 1 white, from normalised images [n, C, H, W]; nothing is clipped."""
    pixels = preprocessing.denormalise(x.detach()).permute(0, 2, 3, 1)
    return np.ascontiguousarray(pixels.cpu().numpy(), dtype=np.float32)


def whitening(images: ImageData) -> Preprocessing:
    """ZCA fitted on the pixels in [0, 1], without standardising them first.

    (x - μ) U (S + ε)^(-1/2) Uᵀ with ε = 0.1 and U S Uᵀ the covariance of the flattened images.
    Source: Cazenavette et al. (2022), https://arxiv.org/abs/2203.11932, whose code uses kornia's ZCAWhitening.
    """
    from kornia.enhance import ZCAWhitening  # takes seconds to import

    pixels = planes(images.images).float() / 255
    zca = ZCAWhitening(eps=ZCA_EPS, compute_inv=True).fit(pixels)
    return Preprocessing(
        (0.0,) * images.channels,
        (1.0,) * images.channels,
        zca_mean=zca.mean_vector.flatten().numpy(),
        zca_matrix=zca.transform_matrix.contiguous().numpy(),
        zca_inverse=zca.transform_inv.contiguous().numpy(),
    )
