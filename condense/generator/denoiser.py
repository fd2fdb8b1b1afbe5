"""`Denoiser`: EDM preconditioning around a network, with its noise distribution and loss weight.

D(x; sigma) = c_skip x + c_out F(c_in x; c_noise). Source: Karras et al. (2022), Table 1 ("Ours"),
https://arxiv.org/abs/2206.00364. Objectives, classifier and sampler use `Denoiser` only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense.generator.networks import AllClass, Conditional

SIGMA_DATA = 0.5


@dataclass(frozen=True)
class NoiseDistribution:
    """ln sigma ~ N(mean, std^2); with probability `uniform_share`, sigma is log-uniform on [1, 80] instead.

    The log-uniform share (our addition; 0 gives EDM) trains the high noise levels that decide the class of a
    sample and that EDM's distribution almost never visits.
    """

    mean: float = -1.2
    std: float = 1.2
    uniform_share: float = 0.0

    def sample(self, n: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw n noise levels, float32 [n], on the device of `generator` and move them to `device`."""
        drawn_on = generator.device
        log_sigma = self.mean + self.std * torch.randn(n, generator=generator, device=drawn_on)
        uniform = torch.rand(n, generator=generator, device=drawn_on) * math.log(80.0)
        chosen = torch.rand(n, generator=generator, device=drawn_on) < self.uniform_share
        return torch.where(chosen, uniform, log_sigma).exp().to(device)


def loss_weight(sigma: Tensor) -> Tensor:
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, EDM Table 1."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2


class Denoiser(nn.Module):
    """D(x, sigma, y) for images in [-1, 1].

    Every evaluation goes through `forward` (so that DistributedDataParallel may wrap it); `all_classes` and
    `one_class` are shorthands. `evaluations` counts images passed through the network.
    """

    def __init__(self, network: AllClass | Conditional) -> None:
        super().__init__()
        self.network = network
        self.num_classes = network.num_classes
        self.evaluations = 0

    @property
    def one_pass(self) -> bool:
        """Whether one pass gives every class."""
        return isinstance(self.network, AllClass)

    @property
    def coherent(self) -> bool:
        """Whether the network also takes the coherence of the label."""
        return self.network.unet.embed_coherence is not None

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        classes: Tensor | None = None,
        augment: Tensor | None = None,
        coherence: Tensor | None = None,
    ) -> Tensor:
        """Denoised images of the given classes.

        Args:
            x: noisy images [B, C, H, W], float32.
            sigma: noise levels [B], > 0.
            classes: int64 [B, k]; None for all classes in order.
            augment: augmentation labels [B, 4] or None.
            coherence: r [B] in [0, 1] of a `coherent` network; None for 1, as at sampling.

        Returns:
            float32 [B, k, C, H, W]; k = c when `classes` is None.
        """
        sigma = sigma.float().reshape(-1, 1, 1, 1)
        total = sigma**2 + SIGMA_DATA**2
        c_skip, c_out, c_in = SIGMA_DATA**2 / total, sigma * SIGMA_DATA / total.sqrt(), 1 / total.sqrt()
        raw = self._network(c_in * x, sigma.flatten().log() / 4, classes, augment, coherence)
        return (c_skip * x).unsqueeze(1) + c_out.unsqueeze(1) * raw.float()

    def _network(
        self,
        x: Tensor,
        c_noise: Tensor,
        classes: Tensor | None,
        augment: Tensor | None,
        coherence: Tensor | None,
    ) -> Tensor:
        told: tuple[Tensor, ...] = () if coherence is None else (coherence,)
        if isinstance(self.network, AllClass):
            self.evaluations += len(x)
            images: Tensor = self.network(x, c_noise, augment, *told)
            return images if classes is None else images[torch.arange(len(x), device=x.device)[:, None], classes]
        if classes is None:
            classes = torch.arange(self.num_classes, device=x.device).expand(len(x), -1)
        k = classes.shape[1]
        self.evaluations += len(x) * k
        repeated = x.repeat_interleave(k, 0), c_noise.repeat_interleave(k, 0)
        augment = None if augment is None else augment.repeat_interleave(k, 0)
        told = tuple(r.repeat_interleave(k, 0) for r in told)
        flat: Tensor = self.network(*repeated, augment, classes.reshape(-1), *told)
        return flat.reshape(len(x), k, *flat.shape[1:])

    def all_classes(self, x: Tensor, sigma: Tensor, augment: Tensor | None = None) -> Tensor:
        """[B, C, H, W] -> [B, c, C, H, W]; one evaluation per image with `AllClass`, c with `Conditional`."""
        images: Tensor = self(x, sigma, None, augment)
        return images

    def one_class(self, x: Tensor, sigma: Tensor, classes: Tensor, augment: Tensor | None = None) -> Tensor:
        """[B, C, H, W] with classes [B] -> [B, C, H, W]."""
        images: Tensor = self(x, sigma, classes[:, None], augment)
        return images[:, 0]


def squared_errors(denoised: Tensor, x_0: Tensor) -> Tensor:
    """||D_y - x_0||^2 summed over pixels: [B, k, C, H, W], [B, C, H, W] -> float32 [B, k]."""
    return (denoised.float() - x_0.unsqueeze(1)).square().flatten(2).sum(2)
