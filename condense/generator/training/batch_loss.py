"""One batch's loss: the classes that the network evaluates, and the objectives' losses on its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.generator import losses
from condense.generator.denoiser import Denoiser, loss_weight, squared_errors
from condense.generator.labels.noisy_posterior import noisy_posterior
from condense.generator.labels.posterior import given_label
from condense.generator.training.class_sampling import cumulated, draw_classes
from condense.generator.training.conditioning import directions


@dataclass(frozen=True)
class Batch:
    """A batch with its noise drawn and its beliefs looked up.

    Attributes:
        x_0: images [B, C, H, W] (after augmentation).
        x_t: x_0 + sigma eps.
        sigma: noise levels [B].
        augment: augmentation labels [B, 4] or None.
        pi: p(y | x_0, z) [B, c].
        target: f_phi(x_0), the banked posterior without the label [B, c].
        candidates: bool [B, c].
        trusted: bool [B].
        likelihood: p(z | y) [B, c].
        indices: which training images these are, int64 [B].
    """

    x_0: Tensor
    x_t: Tensor
    sigma: Tensor
    augment: Tensor | None
    pi: Tensor
    target: Tensor
    candidates: Tensor
    trusted: Tensor
    likelihood: Tensor
    indices: Tensor


@dataclass(frozen=True)
class ClassifierSettings:
    """The classifier inside training: temperature, log prior [c], interval of sigma it is trained in, and its loss.

    `elr_strength` None: forward correction by p(z | y) instead of the early-learning loss. `unlabelled_weight`: weight
    of images without a label, whose term is self-training.
    """

    temperature: float
    log_prior: Tensor
    interval: tuple[float, float]
    elr_strength: float | None
    unlabelled_weight: float


@dataclass(frozen=True)
class Losses:
    """Generative and classification loss of each image, [B] each."""

    generative: Tensor
    classification: Tensor


def drawn_label_losses(
    model: nn.Module, batch: Batch, random: torch.Generator, coherence: Tensor | None = None
) -> Losses:
    """EDM's loss with one label per image, drawn from pi (one-hot pi: the vanilla loss); no classification term.

    If the `coherence` of every image with every class is given, [B, c], that of the drawn label conditions the network
    (CAD).
    """
    labels = draw(batch.pi, random)[:, None]
    told = () if coherence is None else (coherence.gather(1, labels)[:, 0],)
    denoised = model(batch.x_t, batch.sigma, labels, batch.augment, *told)
    generative = loss_weight(batch.sigma) * squared_errors(denoised, batch.x_0)[:, 0]
    return Losses(generative, torch.zeros_like(generative))


def draw(pi: Tensor, random: torch.Generator) -> Tensor:
    """One class per image from pi [B, c] by inverting its cumulative sum: int64 [B]."""
    uniform = torch.rand(len(pi), 1, generator=random, device=random.device).to(pi.device)
    return (cumulated(pi) < uniform * pi.sum(1, keepdim=True)).sum(1).clamp_max(pi.shape[1] - 1)


def dmis_losses(
    model: nn.Module,
    teacher: Denoiser,
    batch: Batch,
    settings: ClassifierSettings,
    random: torch.Generator,
    *,
    form: str,
    top_k: int | None,
    classification_weight: float,
) -> Losses:
    """Generative and classification term from the same noisy images.

    Without `top_k` every class is evaluated with gradient: one pass with `AllClass`, c with `Conditional`. With it
    a first pass without gradient finds each class's share in both terms, and a second one backpropagates through k
    classes drawn in proportion to that share. For k >= 2 they always include the label of an image that has one, for
    k >= 3 the most probable class too. Neither form moves the optimum:

    - expected and sampled form, classification: each term is divided by the probability of its class, so that the
      expected gradient is that of all classes; the classification's value is that of the surrogate.
    - mixture form: the classes that were not drawn stay in the sum without gradient. Where the D_y are right every
      drawn class's gradient vanishes on average, whichever others were drawn. Dividing would be right too, but would
      push one improbable class per image as hard as the most probable one.

    The mixture form's gradient goes along the conditioned directions of `conditioning`, drawn classes or all.

    With `top_k` classes are compared without dropout, whose masks differ between the classes of a conditional network.
    Without it one pass is compared and learns, so it has dropout.

    Args:
        model: the trained network, maybe wrapped; called as `Denoiser.forward`.
        teacher: the EMA network, which gives the mixture form its posterior at x_t.
        batch: see `Batch`.
        settings: see `ClassifierSettings`.
        random: for drawing labels and noise.
        form: "expected", "sampled" or "mixture" generative term.
        top_k: classes per image evaluated with gradient.
        classification_weight: weight of the classification term (it steers the choice of the k classes).
    """
    if top_k is None:
        denoised = model(batch.x_t, batch.sigma, None, batch.augment)
        weights = _generative_weights(teacher, batch, settings, random, form)
        errors = squared_errors(denoised, batch.x_0)
        return Losses(
            _generative(denoised, errors, weights, batch, form),
            _classified(batch, settings) * _classification(errors, batch, settings),
        )
    surveyed = _survey(model, batch)
    pi, pull = _generative_weights(teacher, batch, settings, random, form)
    errors = squared_errors(surveyed, batch.x_0)
    gradient = _classified(batch, settings)[:, None] * _error_gradient(errors, batch, settings)
    share = pull.abs() + classification_weight * gradient.abs()
    drawn = draw_classes(share, top_k, random, _certain(pi, batch.candidates, top_k))
    classes = drawn.classes
    denoised = model(batch.x_t, batch.sigma, classes, batch.augment)
    kept = pull.gather(1, classes)
    weight, errors = loss_weight(batch.sigma), squared_errors(denoised, batch.x_0)
    if form == "mixture":
        mixed = losses.mixture(surveyed, pi)
        generative = losses.directed_mixture_loss(denoised, mixed, batch.x_0, kept, weight)
    else:
        generative = losses.expected_loss(errors, kept * drawn.inverse, weight)
    pushed = gradient.gather(1, classes) * drawn.inverse
    return Losses(generative, losses.two_pass_surrogate(errors, pushed, weight / settings.temperature))


def _certain(pi: Tensor, candidates: Tensor, top_k: int) -> Tensor:
    """Classes that are always evaluated, bool [B, c]: at most k - 1, so that every other class can be drawn."""
    label = candidates & (candidates.sum(1, keepdim=True) == 1) & (top_k > 1)
    likeliest = F.one_hot(pi.argmax(1), pi.shape[1]).bool() & (top_k > 2)
    return label | likeliest


def transition_aware_losses(model: nn.Module, class_posterior: Tensor, batch: Batch, top_k: int | None) -> Losses:
    """TDSM: the mixture loss with w_y = T[y, z] h_y / sum, h = p(y | x_t) by another network; no classification term.

    Source: Na et al. (2024), https://arxiv.org/abs/2402.17517, Eq. 9; with `top_k` the k largest weights alone,
    renormalised, as the authors leave small ones out.

    Args:
        model: the trained network, evaluated for the classes that `class_posterior` selects.
        class_posterior: h [B, c].
        batch: its `pi` is not used.
        top_k: classes per image; None for all.
    """
    weights, classes = given_label(class_posterior, batch.likelihood), None
    if top_k is not None:
        weights, classes = weights.topk(min(top_k, weights.shape[1]), dim=1)
        weights = weights / weights.sum(1, keepdim=True)
    denoised = model(batch.x_t, batch.sigma, classes, batch.augment)
    generative = losses.mixture_loss(denoised, batch.x_0, weights, loss_weight(batch.sigma))
    return Losses(generative, torch.zeros_like(generative))


def _generative_weights(
    teacher: Denoiser, batch: Batch, settings: ClassifierSettings, random: torch.Generator, form: str
) -> tuple[Tensor, Tensor]:
    """Pi [B, c]: p(y | x_0, z), a draw from it, or (mixture) p(y | x_t, z); and the gradient weight of each class."""
    if form == "expected":
        return batch.pi, batch.pi
    if form == "sampled":
        drawn = F.one_hot(draw(batch.pi, random), batch.pi.shape[1]).to(batch.pi.dtype)
        return drawn, drawn
    posterior = noisy_posterior(
        teacher,
        batch.x_t,
        batch.sigma,
        random,
        temperature=settings.temperature,
        log_prior=settings.log_prior,
        augment=batch.augment,
    )
    pi = given_label(posterior, batch.likelihood)
    return pi, directions(posterior, batch.likelihood, settings.log_prior.softmax(0))


def _generative(denoised: Tensor, errors: Tensor, weights: tuple[Tensor, Tensor], batch: Batch, form: str) -> Tensor:
    weight, (pi, pull) = loss_weight(batch.sigma), weights
    if form == "mixture":
        mixed = losses.mixture(denoised.detach(), pi)
        return losses.directed_mixture_loss(denoised, mixed, batch.x_0, pull, weight)
    return losses.expected_loss(errors, pi, weight)


def _classification(errors: Tensor, batch: Batch, settings: ClassifierSettings) -> Tensor:
    logits = -errors * (loss_weight(batch.sigma) / settings.temperature)[:, None] + settings.log_prior
    labels = batch.target, batch.candidates, batch.trusted
    if settings.elr_strength is None:
        return losses.classification_loss(logits, *labels, likelihood=batch.likelihood)
    return losses.classification_loss(logits, *labels, settings.elr_strength)


def _error_gradient(errors: Tensor, batch: Batch, settings: ClassifierSettings) -> Tensor:
    """A = -dL/dlogits = dL/d(scaled errors) of the classification loss, [B, c], by autograd on the logits alone."""
    with torch.enable_grad():
        leaf = errors.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(_classification(leaf, batch, settings).sum(), leaf)
    return gradient * (settings.temperature / loss_weight(batch.sigma))[:, None]


def _classified(batch: Batch, settings: ClassifierSettings) -> Tensor:
    """Weight of each image: 0 for sigma outside the classifier's interval, else 1, or `unlabelled_weight`."""
    low, high = settings.interval
    inside = (batch.sigma >= low) & (batch.sigma <= high)
    return inside * torch.where(batch.candidates.all(1), settings.unlabelled_weight, 1.0)


def _survey(model: nn.Module, batch: Batch) -> Tensor:
    """Every class's denoised image without gradient or dropout, [B, c, C, H, W]."""
    with torch.no_grad(), _evaluated(model):
        surveyed: Tensor = model(batch.x_t, batch.sigma, None, batch.augment)
    return surveyed


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """In eval mode, and back."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
