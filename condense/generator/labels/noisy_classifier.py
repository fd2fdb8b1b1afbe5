"""TDSM's classifier h(x_t, sigma) = p(y | x_t): a separate network, which also judges images that are mostly noise.

Trained by forward correction, so that it learns the clean posterior from noisy labels and the transition matrix.
Source: Na et al. (2024), https://arxiv.org/abs/2402.17517, Section 4.2. Departure: a `UNet` as large as the
generator's whose c output maps are averaged, in place of a U-Net's encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense import rng
from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.generator.augment import augment
from condense.generator.classifier import EDM_NOISE, centred_interval
from condense.generator.denoiser import SIGMA_DATA, NoiseDistribution
from condense.generator.labels.auxiliary import Helper, HelperData, identity, train_helper
from condense.generator.labels.posterior import label_likelihood
from condense.generator.losses import forward_loss
from condense.generator.networks import UNet, UNetShape
from condense.generator.options import NetworkOptions, TrainOptions
from condense.precision import autocast, wants_bf16
from condense.run import Run

NAME = "noisy-classifier"
HELD_LOOKS = 4  # noise levels per held-out image
CLEAN_SIGMA = centred_interval(6.4)[0]  # 0.014: invisible at 8 bits, yet a level that training sometimes draws


class NoisyClassifier(nn.Module):
    """Logits [B, c] of noisy images x_t [B, C, H, W] at noise levels sigma [B], preconditioned as the denoiser is."""

    def __init__(self, shape: UNetShape, channels: int, num_classes: int) -> None:
        super().__init__()
        self.unet = UNet(shape, channels, num_classes)
        self.evaluations = 0  # by `clean_posterior`; the training loop counts its own

    def forward(self, x_t: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """float32 [B, c]; `labels` are the augmentation's, [B, 4] or None."""
        c_in = (sigma**2 + SIGMA_DATA**2).rsqrt()
        maps: Tensor = self.unet(c_in[:, None, None, None] * x_t, sigma.log() / 4, labels)
        return maps.float().mean((2, 3))

    @torch.no_grad()
    def clean_posterior(self, x_0: Tensor) -> Tensor:
        """p(y | x_0), h at sigma near 0: images [B, C, H, W] in [-1, 1] -> float32 [B, c], rows summing to 1."""
        self.evaluations += len(x_0)
        logits: Tensor = self(x_0, x_0.new_full((len(x_0),), CLEAN_SIGMA))
        return logits.softmax(1)


@dataclass(frozen=True)
class _NoisyLoss:
    """The forward-corrected loss of h, each image at a noise level drawn anew.

    Attributes:
        module: h.
        parts: the images and their labels.
        transition: T [c, c], rows = true class, on the images' device.
        options: noise levels, augmentation, precision.
        may_flip: whether augmentation may mirror the images.
        seed: of dropout, augmentation and noise.
    """

    module: NoisyClassifier
    parts: HelperData
    transition: Tensor
    options: TrainOptions
    may_flip: bool
    seed: int

    def of_step(self, step: int) -> Tensor:
        """The mean over the batch of a step, augmented."""
        torch.manual_seed(rng.derive(self.seed, f"{NAME}-dropout", step))
        random = rng.generator(self.seed, f"{NAME}-step", step, device=self.transition.device)
        return self._of(self.parts.batch(step), random, augmented=True)

    def held_out(self) -> float:
        """The mean over the held-out images."""
        random = rng.generator(self.seed, f"{NAME}-held-out")
        return self.parts.held_mean(lambda held: self._of(held, random, augmented=False), HELD_LOOKS)

    def _of(self, indices: Tensor, random: torch.Generator, *, augmented: bool) -> Tensor:
        x, labels, device = self.parts.images[indices], None, self.transition.device
        if augmented:
            x, labels = augment(x, self.options.augment(may_flip=self.may_flip), random)
        noise = NoiseDistribution(EDM_NOISE.mean, EDM_NOISE.std, self.options.high_noise_share)
        sigma = noise.sample(len(x), random, device)
        eps = torch.randn(x.shape, generator=random, device=random.device).to(device)
        x_t = x + sigma[:, None, None, None] * eps
        with autocast(device, wants_bf16(self.options.precision, device)):
            logits = self.module(x_t, sigma, labels)
        candidates, trusted = self.parts.candidates[indices], self.parts.trusted[indices]
        likelihood = label_likelihood(candidates, trusted, self.transition, has_sets=self.parts.has_sets)
        return forward_loss(logits, likelihood).mean()


def train_noisy_classifier(
    data: TrainingSet,
    transition: Tensor,
    network: NetworkOptions,
    options: TrainOptions,
    seed: int,
    run: Run,
    device: torch.device,
) -> tuple[NoisyClassifier, float]:
    """Train h on all images with a label, at the generator's noise levels and under its augmentation.

    Args:
        data: images and imprecise labels.
        transition: T [c, c], rows = true class.
        network: size of the network.
        options: budget (`helper`), noise levels, augmentation.
        seed: seed of weights, batches and noise.
        run: keeps the state, see `train_helper`.
        device: device to train on.

    Returns:
        The classifier in eval mode, and the seconds it took.

    Raises:
        UserError: no image has a label; otherwise as `train_helper`.
    """
    used = ~data.supervision.unlabelled
    if not used.any():
        raise UserError("TDSM's classifier needs labels, and every image is unlabelled; use dmis.")
    channels, num_classes = data.images.channels, data.images.num_classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.derive(seed, NAME))
        module = NoisyClassifier(network.shape(), channels, num_classes).to(device)
    parts = HelperData(data, used, options, seed, device)
    loss = _NoisyLoss(module, parts, transition.to(device), options, data.images.may_flip, seed)
    helper = Helper(
        NAME,
        module,
        torch.optim.Adam(module.parameters(), options.helper.learning_rate),
        loss.of_step,
        loss.held_out if len(parts.held) else None,
        identity(
            data,
            options,
            seed,
            network=network.model_dump(mode="json"),
            transition=transition.tolist(),
            noise=options.high_noise_share,
            augment=[options.augment_probability, options.flip],
        ),
    )
    return module, train_helper(helper, options, run)
