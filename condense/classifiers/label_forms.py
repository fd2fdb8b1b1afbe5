"""Checks of the labels an arm can learn from, and their forms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from condense import rng
from condense.data.types import Supervision
from condense.errors import UserError


def check_some_label(arm: str, supervision: Supervision) -> None:
    """Raise `UserError` if no image has a label or candidates."""
    if supervision.unlabelled.all():
        raise UserError(f"{arm} needs images with a label or candidates, but no image has any; label some.")


def check_single(arm: str, supervision: Supervision) -> None:
    """Raise `UserError` unless every image has exactly one label."""
    others = int((~supervision.single).sum())
    if others:
        raise UserError(
            f"{arm} learns from one label per image, but {others} of {len(supervision)} images have several or none; "
            "choose ce or mixup, or for candidate sets cc or proden."
        )


def check_sets(arm: str, supervision: Supervision) -> None:
    """Raise `UserError` unless some image has several candidates, but not all classes."""
    if not (~supervision.single & ~supervision.unlabelled).any():
        raise UserError(f"{arm} learns from candidate sets, but no image has one; choose ce, or another arm.")


def check_partly_labelled(arm: str, supervision: Supervision) -> None:
    """Raise `UserError` unless some images have a label or candidates and others are unlabelled."""
    check_some_label(arm, supervision)
    if not supervision.unlabelled.any():
        raise UserError(f"{arm} learns from images without a label, but every image has one; choose ce, or another.")


def observed(supervision: Supervision) -> Tensor:
    """The one label of each image, int64 [n]."""
    return torch.from_numpy(supervision.observed)


def candidates(supervision: Supervision) -> Tensor:
    """The candidates of each image, bool [n, c]."""
    return torch.from_numpy(supervision.candidates)


def uniform(supervision: Supervision) -> Tensor:
    """Uniform distribution over the candidates of each image, float32 [n, c]; one-hot for single labels."""
    possible = candidates(supervision).float()
    return possible / possible.sum(1, keepdim=True)


def everything(supervision: Supervision) -> Tensor:
    """The indices of all images, int64 [n]."""
    return torch.arange(len(supervision))


def labelled(supervision: Supervision) -> Tensor:
    """Indices of labelled images, repeated up to the number of all images: int64 [n].

    Thus an epoch has the same number of steps whether images are left out or not.
    """
    return repeated(np.flatnonzero(~supervision.unlabelled), len(supervision))


def repeated(images: npt.NDArray[np.int64], count: int) -> Tensor:
    """`images` repeated up to `count`, int64 [count], without favouring classes that come first.

    Complete rounds keep their order; the last, incomplete one is a fixed random choice.
    """
    rounds, rest = divmod(count, len(images))
    picked = np.random.default_rng(rng.derive(0, "shown once more")).permutation(images)[:rest]
    return torch.from_numpy(np.concatenate([np.tile(images, rounds), picked]))
