"""One classifier that learned from all labels: VolMinNet's, as a second opinion where labels are few.

It favours the labels it was trained on, wrong ones included; the excess over labels of held-out images is subtracted
first. With a few thousand images it is better than classifiers out of fold (`labeller.py`), which have fewer to learn
from and no held-out images to stop by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from condense import json_values
from condense.classifiers import networks
from condense.data.batches import to_unit
from condense.data.types import Beliefs, Images, Labels, Mask, Supervision, TrainingSet
from condense.generator.labels.posterior import estimate_transition, self_confidence
from condense.generator.labels.volminnet import CLASSIFIER
from condense.precision import autocast
from condense.preprocessing import planes
from condense.processes import rows_of_all
from condense.run import JSON, Run, part_of

COUNTED = 20_000  # most labels used to count the matrix
MOST_LEANING = 10.0  # nats
_AT_ONCE = 500  # images in one pass


@dataclass
class OneClassifier:
    """A classifier with what it takes to judge images.

    Attributes:
        classifier: images in [-1, 1], [B, C, H, W], to logits [B, c]; in eval mode.
        transition: T [c, c], rows = true class, counted on confident images. VolMinNet's own assumes noise that does
            not depend on the image; for wrong labels on hard images it finds too few.
        leaning: nats by which it favours a label it was trained on.
        mirrored: whether to average the posteriors of each image and its mirror image.
        bf16: whether it runs under bf16 autocast.
        evaluations: images passed through it since it was made or loaded.
    """

    NAME: ClassVar[str] = "classifier"

    classifier: nn.Module
    transition: Tensor
    leaning: float = 0.0
    mirrored: bool = False
    bf16: bool = False
    evaluations: int = 0

    @property
    def num_views(self) -> int:
        """Passes through it per image."""
        return num_views(mirrored=self.mirrored)

    def beliefs(self, data: TrainingSet, run: Run, learned: Mask | None) -> Beliefs:
        """h(x), float32 [n, c]; `learned`: the labels it was trained on, bool [n, c], None if none of these."""
        found = self.log_posterior(data.images.images)
        if learned is not None:
            found = without_leaning(found, learned, self.leaning)
        return np.asarray(found.exp().numpy(), dtype=np.float32)

    @torch.no_grad()
    def log_posterior(self, images: Images) -> Tensor:
        """The logarithm of h_y(x), of uint8 images [n, H, W, C]: float32 [n, c], on the CPU."""
        return rows_of_all(lambda part: self._look(images[part]), len(images), _AT_ONCE)

    def _look(self, images: Images) -> Tensor:
        device, rows = self.transition.device, []
        for start in range(0, len(images), _AT_ONCE):
            pixels = to_unit(planes(images[start : start + _AT_ONCE]).to(device))
            views = (pixels, pixels.flip(3)) if self.mirrored else (pixels,)
            with autocast(device, self.bf16):
                seen = torch.stack([self.classifier(view).float().log_softmax(1) for view in views])
            rows.append((seen.logsumexp(0) - math.log(len(views))).cpu())
            self.evaluations += len(pixels) * len(views)
        return torch.cat(rows)

    def to(self, device: torch.device | str) -> OneClassifier:
        """The same on another device."""
        self.classifier, self.transition = self.classifier.to(device), self.transition.to(device)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that `of` reads."""
        weights = {f"classifier.{name}": tensor for name, tensor in self.classifier.state_dict().items()}
        return {**weights, "transition": self.transition}

    def numbers(self) -> dict[str, JSON]:
        """The JSON that `of` reads besides the tensors."""
        return {"leaning": self.leaning, "mirrored": self.mirrored, "bf16": self.bf16}

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, JSON], image_shape: tuple[int, int, int]
    ) -> OneClassifier:
        """One from its `tensors` and `numbers`, for images of `image_shape` (C, H, W).

        Raises `KeyError`, `TypeError` or `ValueError` if one is missing, otherwise as `load_state_dict`.
        """
        channels, side, _ = image_shape
        transition = tensors["transition"]
        classifier = networks.build(
            CLASSIFIER, in_channels=channels, image_size=side, num_classes=len(transition), seed=0
        )
        classifier.load_state_dict(part_of(tensors, "classifier"))
        return cls(
            classifier.eval().requires_grad_(False),
            transition,
            json_values.number(numbers, "leaning"),
            bool(numbers["mirrored"]),
            bool(numbers["bf16"]),
        )


def num_views(*, mirrored: bool) -> int:
    """Views of an image: itself, and its mirror image."""
    return 1 + int(mirrored)


def settled(
    classifier: nn.Module, transition: Tensor, data: TrainingSet, held: Labels, *, mirrored: bool, bf16: bool
) -> tuple[OneClassifier, Beliefs | None]:
    """Find the leaning, count the matrix; returns also h(x) [m, c] of the held-out images, None without any.

    Args:
        classifier: VolMinNet's, trained, in eval mode.
        transition: its own matrix [c, c], the prior of the counted one.
        data: images and labels it learned from.
        held: indices of the held-out images among them, maybe none.
        mirrored: whether it learned from mirrored images too.
        bf16: whether it runs under bf16 autocast.
    """
    found = OneClassifier(classifier, transition, mirrored=mirrored, bf16=bf16)
    counted, held_labels = counted_labels(data), data.supervision.take(held)
    seen, learned = found.log_posterior(data.images.images[counted]), labels_learned(data.supervision, held)[counted]
    of_held = found.log_posterior(data.images.images[held]).exp() if len(held) else None
    if of_held is not None and held_labels.noisy.any():
        agreement = of_held[torch.from_numpy(held_labels.candidates & held_labels.noisy[:, None])].mean()
        found.leaning = fit_leaning(seen, learned, float(agreement))
    sure = without_leaning(seen, learned, found.leaning).exp()
    labels = data.supervision.take(counted)
    matrix = estimate_transition(sure, labels, transition.cpu(), self_confidence(sure, labels))
    found.transition = matrix.to(transition.device)
    return found, None if of_held is None else np.asarray(of_held.numpy(), dtype=np.float32)


def labels_learned(supervision: Supervision, held: Labels) -> Mask:
    """VolMinNet's training labels: single ones that may be wrong, of images not held out. Bool [n, c]."""
    learned = supervision.candidates & supervision.noisy[:, None]
    learned[held] = False
    return learned


def counted_labels(data: TrainingSet) -> Labels:
    """The images whose labels are counted: single ones that may be wrong, `COUNTED` at most, evenly spaced: int64."""
    noisy = np.flatnonzero(data.supervision.noisy)
    return noisy[np.linspace(0, len(noisy) - 1, min(COUNTED, len(noisy))).round().astype(np.int64)]


def without_leaning(log_posterior: Tensor, learned: Mask, leaning: float) -> Tensor:
    """Log posterior [n, c] with `leaning` nats taken from the labels learned, bool [n, c]."""
    return (log_posterior - leaning * torch.from_numpy(learned).float()).log_softmax(1)


def fit_leaning(log_posterior: Tensor, learned: Mask, agreement: float) -> float:
    """The leaning in [0, `MOST_LEANING`] whose removal makes training labels as probable as held-out ones.

    Args:
        log_posterior: of images learned from, others count for nothing: [n, c].
        learned: their labels, bool [n, c], see `labels_learned`.
        agreement: mean p(z | x) of held-out images' labels.
    """
    ours = torch.from_numpy(learned)

    def surplus(leaning: float) -> float:
        return float(without_leaning(log_posterior, learned, leaning).exp()[ours].mean()) - agreement

    if not ours.any() or surplus(0.0) <= 0:
        return 0.0
    return MOST_LEANING if surplus(MOST_LEANING) >= 0 else float(brentq(surplus, 0.0, MOST_LEANING, xtol=1e-4))
