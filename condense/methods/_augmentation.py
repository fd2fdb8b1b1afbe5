"""The augmentation option of methods that learn images: checked, fitted to the data set, applied image by image."""

from __future__ import annotations

from condense.augment import allowed, check_strategy, independent
from condense.classifiers.fit import Augment
from condense.data.types import ImageData

NONE = "none"


def check_augmentation(strategy: str) -> str:
    """`strategy`, unchanged. Raises `UserError` unless it is "none" or names operations of `condense.augment`."""
    if strategy != NONE:
        check_strategy(strategy)
    return strategy


def augmentation_for(strategy: str, images: ImageData) -> str | None:
    """The part of `strategy` that suits these images; None for nothing."""
    return None if strategy == NONE else allowed(strategy, may_flip=images.may_flip) or None


def per_image(strategy: str | None) -> Augment | None:
    """One random operation of `strategy` per batch, with parameters drawn per image; None for none."""
    return None if strategy is None else lambda x, generator: independent(x, strategy, generator)
