"""A second opinion on labels: the classifier trained with VolMinNet's transition matrix, for `dmis relabel`.

It learns p(y | x) from the same imprecise labels, recognises photographs after less training than a generator, and
makes other errors. The two are combined in a logarithmic opinion pool, p(y | x) ~ r_y (f_y / r_y)^a (h_y / r_y)^b with
the class prior r; a and b maximise the likelihood of the held-out labels, so that the better model counts more. Source:
Genest & Zidek (1986), "Combining Probability Distributions", Statistical Science 1(1), Sec. 3. Drawing, the second
stage and scores of the diffusion classifier do not use it.

It favours the labels it was trained on, wrong ones included; the excess over labels of held-out images is subtracted
first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from condense import json_values
from condense.classifiers import networks
from condense.data.batches import to_unit
from condense.data.types import Images, Labels, Mask, Supervision, TrainingSet
from condense.generator.classifier import held_out_loss
from condense.generator.labels.posterior import estimate_transition, self_confidence, supervision_likelihood
from condense.generator.labels.volminnet import CLASSIFIER
from condense.precision import autocast
from condense.preprocessing import planes
from condense.run import JSON, part_of

COUNTED = 20_000  # most labels used to count the matrix
EXPONENTS = tuple(i / 10 for i in range(21))
USUAL, SPREAD = 0.7, 0.35  # prior mean and standard deviation of each exponent
MOST_LEANING = 10.0  # nats
_AT_ONCE = 500  # images in one pass

Posterior = npt.NDArray[np.float32]


@dataclass
class SecondOpinion:
    """A classifier beside the generator.

    Attributes:
        classifier: images in [-1, 1], [B, C, H, W], to logits [B, c]; in eval mode.
        transition: T [c, c], rows = true class, counted on confident images. VolMinNet's own assumes noise that does
            not depend on the image; for wrong labels on hard images it finds too few.
        exponents: a, of the diffusion classifier, and b, of this one.
        leaning: nats by which it favours a label it was trained on.
        mirrored: whether to average the posteriors of each image and its mirror image.
        evaluations: images passed through it since it was made or loaded.
    """

    classifier: nn.Module
    transition: Tensor
    exponents: tuple[float, float] = (USUAL, USUAL)
    leaning: float = 0.0
    mirrored: bool = False
    evaluations: int = 0

    @property
    def num_views(self) -> int:
        """Passes through it per image."""
        return num_views(self.mirrored)

    @torch.no_grad()
    def log_posterior(self, images: Images, *, bf16: bool) -> Tensor:
        """The logarithm of h_y(x), of uint8 images [n, H, W, C]: float32 [n, c], on the CPU."""
        device, rows = self.transition.device, []
        for start in range(0, len(images), _AT_ONCE):
            pixels = to_unit(planes(images[start : start + _AT_ONCE]).to(device))
            views = (pixels, pixels.flip(3)) if self.mirrored else (pixels,)
            with autocast(device, bf16):
                seen = torch.stack([self.classifier(view).float().log_softmax(1) for view in views])
            rows.append((seen.logsumexp(0) - math.log(len(views))).cpu())
            self.evaluations += len(pixels) * len(views)
        return torch.cat(rows)

    def pooled(
        self, from_generator: Posterior, images: Images, learned: Mask, log_prior: Tensor, *, bf16: bool
    ) -> Posterior:
        """p(y | x) by both: float32 [n, c], rows summing to 1.

        Args:
            from_generator: f(x) [n, c].
            images: the images, uint8 [n, H, W, C].
            learned: their labels that this classifier was trained on, see `labels_learned`.
            log_prior: log class prior [c].
            bf16: whether the classifier runs under bf16 autocast.
        """
        mine = without_leaning(self.log_posterior(images, bf16=bf16), learned, self.leaning)
        logits = pool(_logarithm(from_generator), mine, log_prior.cpu(), self.exponents)
        return np.asarray(logits.softmax(1).numpy(), dtype=np.float32)

    def to(self, device: torch.device | str) -> SecondOpinion:
        """The same on another device."""
        self.classifier, self.transition = self.classifier.to(device), self.transition.to(device)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that `of` reads."""
        weights = {f"classifier.{name}": tensor for name, tensor in self.classifier.state_dict().items()}
        return {**weights, "transition": self.transition}

    def numbers(self) -> dict[str, JSON]:
        """The JSON that `of` reads besides the tensors."""
        return {"exponents": list(self.exponents), "leaning": self.leaning, "mirrored": self.mirrored}

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, JSON], image_shape: tuple[int, int, int]
    ) -> SecondOpinion:
        """One from its `tensors` and `numbers`, for images of `image_shape` (C, H, W).

        Raises `KeyError`, `TypeError` or `ValueError` if one is missing, otherwise as `load_state_dict`.
        """
        channels, side, _ = image_shape
        transition = tensors["transition"]
        classifier = networks.build(
            CLASSIFIER, in_channels=channels, image_size=side, num_classes=len(transition), seed=0
        )
        weights = part_of(tensors, "classifier")
        classifier.load_state_dict(weights)
        a, b = json_values.numbers(numbers, "exponents")
        leaning, mirrored = json_values.number(numbers, "leaning"), bool(numbers["mirrored"])
        return cls(classifier.eval().requires_grad_(False), transition, (a, b), leaning, mirrored)


def num_views(mirrored: bool) -> int:
    """Views of an image: itself, and its mirror image."""
    return 1 + int(mirrored)


def form_opinion(
    classifier: nn.Module,
    transition: Tensor,
    data: TrainingSet,
    held: Labels,
    from_generator: Posterior | None,
    log_prior: Tensor,
    *,
    mirrored: bool,
    bf16: bool,
) -> SecondOpinion:
    """Find the leaning, count the matrix, fit the exponents.

    Args:
        classifier: VolMinNet's, trained, in eval mode.
        transition: its own matrix [c, c], the prior of the counted one.
        data: images and labels it learned from.
        held: indices of the held-out images among them.
        from_generator: f(x) of these [m, c]; None if there are none.
        log_prior: log class prior [c].
        mirrored: whether it learned from mirrored images too.
        bf16: whether the classifier runs under bf16 autocast.
    """
    opinion = SecondOpinion(classifier, transition, mirrored=mirrored)
    counted = counted_labels(data)
    seen = opinion.log_posterior(data.images.images[counted], bf16=bf16)
    learned = labels_learned(data.supervision, held)[counted]
    if from_generator is not None:
        of_held, held_labels = opinion.log_posterior(data.images.images[held], bf16=bf16), data.supervision.take(held)
        if held_labels.noisy.any():
            agreement = of_held.exp()[torch.from_numpy(held_labels.candidates & held_labels.noisy[:, None])].mean()
            opinion.leaning = fit_leaning(seen, learned, float(agreement))
    sure = without_leaning(seen, learned, opinion.leaning).exp()
    labels = data.supervision.take(counted)
    found = estimate_transition(sure, labels, transition.cpu(), self_confidence(sure, labels))
    opinion.transition = found.to(transition.device)
    if from_generator is not None:
        likelihood = supervision_likelihood(held_labels, found)
        opinion.exponents = fit_exponents(_logarithm(from_generator), of_held, likelihood, log_prior.cpu())
    return opinion


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


def pool(first: Tensor, second: Tensor, log_prior: Tensor, exponents: tuple[float, float]) -> Tensor:
    """Logits of the logarithmic pool of two log posteriors [n, c], which share the log prior [c]: [n, c]."""
    a, b = exponents
    return a * first + b * second + (1 - a - b) * log_prior


def fit_exponents(first: Tensor, second: Tensor, likelihood: Tensor, log_prior: Tensor) -> tuple[float, float]:
    """The pair of `EXPONENTS` that maximises the likelihood of held-out labels.

    A normal prior around `USUAL` dominates with few held-out images and fades with hundreds.

    Args:
        first: log posterior of the first model [m, c].
        second: log posterior of the second model [m, c].
        likelihood: p(z | y) of the images' labels [m, c].
        log_prior: log class prior [c].
    """

    def cost(exponents: tuple[float, float]) -> float:
        misfit = len(first) * held_out_loss(pool(first, second, log_prior, exponents), likelihood)
        return misfit + sum((exponent - USUAL) ** 2 for exponent in exponents) / (2 * SPREAD**2)

    return min(itertools.product(EXPONENTS, EXPONENTS), key=cost)


def _logarithm(posterior: Posterior) -> Tensor:
    return torch.from_numpy(posterior).clamp_min(1e-8).log()
