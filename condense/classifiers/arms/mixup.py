"""Mixup: cross-entropy on convex combinations of images and of their labels.

Targets before mixing are those of `ce`, so labels of every kind are accepted.
Source: Zhang et al. (2018), "mixup: Beyond Empirical Risk Minimization", https://arxiv.org/abs/1710.09412, Eq. 1.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from pydantic import Field

from condense.classifiers.label_forms import check_some_label, labelled, uniform
from condense.classifiers.lesson import Given, Lesson
from condense.classifiers.mixing import mixup
from condense.data.types import Supervision
from condense.options import Options as BaseOptions


class Options(BaseOptions):
    """Strength of the mixing."""

    alpha: float = Field(1.0, gt=0, description="λ ~ Beta(α, α)")


def check(supervision: Supervision) -> None:
    """Accepts all kinds of labels."""
    check_some_label("mixup", supervision)


def lesson(given: Given, options: Options) -> Lesson:
    """One network; every batch is mixed after its augmentation."""
    network, shown = given.build(0), labelled(given.supervision)
    targets = uniform(given.supervision)[shown]
    mix = partial(mixup, alpha=options.alpha)
    return Lesson(network, network, shown, targets, F.cross_entropy, given.weak, mix)
