"""Is the mixture form right? The minimiser of its loss, where everything is known exactly.

    python experiments/gaussian_mixture.py [--classes 10] [--dim 256] [--spread 0.3] [--std 0.3] [--seed 0] [--json]

Images of a class are an isotropic Gaussian; the class means are `spread` N(0, 1) in each of `dim` dimensions. Printed:

- for each noise level the mean probability of the true class by Bayes and by `noisy_posterior` from the exact
  denoiser, and the total variation between the two;
- the share of samples of the requested class, by Bayes, when Heun's sampler draws with the exact denoiser, with the
  minimiser of the mixture loss under our p(y | x_t, z) with all classes and with two drawn classes per image, and with
  the minimiser of EDM's loss on the labels as given (40 % symmetric noise);
- the contrast between the classes' denoised images at sigma = 20 that training with two drawn classes converges to,
  as a share of the exact contrast, for four kinds of labels.

The minimisers are solved for, not trained: at each x_t the expected gradient of the loss over the labels z is linear
in the D_y(x_t). Where no label determines D_y(x_t) it is E[x_0 | x_t].
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense import rng
from condense.generator.denoiser import Denoiser
from condense.generator.exact import MixtureDenoiser
from condense.generator.labels.noisy_posterior import noisy_posterior
from condense.generator.labels.posterior import given_label, label_likelihood
from condense.generator.sampler import heun
from condense.generator.training.class_sampling import draw_classes

SIGMAS = (0.1, 0.3, 0.5, 0.7, 1.0, 2.0, 4.0, 10.0)
CONTRAST_SIGMA = 20.0
RIDGE = 1e-6  # weight of E[x_0 | x_t] where the labels give no information
MOST_SETS = 12  # with more classes candidate sets are drawn, not counted

Posterior = Callable[[Tensor, Tensor], Tensor]
"""X_t [B, C, H, W] and sigma [B] to p(y | x_t) [B, c]."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The m possible labels.

    Attributes:
        probability: p(z | y), float64 [m, c].
        likelihood: the same up to a factor of each z, as training knows it, float32 [m, c].
    """

    probability: Tensor
    likelihood: Tensor


def symmetric(num_classes: int, rate: float = 0.4) -> Labels:
    """One label, wrong with probability `rate`."""
    transition = torch.full((num_classes, num_classes), rate / (num_classes - 1)).fill_diagonal_(1 - rate)
    likelihood = label_likelihood(torch.eye(num_classes).bool(), torch.zeros(num_classes, dtype=torch.bool), transition)
    return Labels(transition.T.double(), likelihood)


def partial(num_classes: int, seed: int, rate: float = 0.5) -> Labels:
    """Candidate sets with the true class, every other class with probability `rate`."""
    if num_classes <= MOST_SETS:
        sets = torch.tensor(list(itertools.product((0, 1), repeat=num_classes))[1:])
    else:  # as many sets for each class, equally likely
        random = rng.generator(seed, "sets")
        sets = (torch.rand(100 * num_classes, num_classes, generator=random) < rate).long()
        sets[torch.arange(len(sets)), torch.arange(len(sets)) % num_classes] = 1
    probability = sets.double() * rate ** (num_classes - 1)
    probability = probability / probability.sum(0)
    return Labels(
        probability, label_likelihood(sets.bool(), torch.ones(len(sets), dtype=torch.bool), torch.eye(num_classes))
    )


def labelled(num_classes: int, share: float) -> Labels:
    """The true class with probability `share`, else nothing."""
    candidates = torch.cat([torch.eye(num_classes), torch.ones(1, num_classes)])
    probability = torch.cat([share * torch.eye(num_classes), torch.full((1, num_classes), 1 - share)])
    trusted = torch.ones(len(candidates), dtype=torch.bool)
    return Labels(probability.double(), label_likelihood(candidates.bool(), trusted, torch.eye(num_classes)))


class Converged(Denoiser):
    """The minimiser of the mixture loss: D(x_t, sigma, y) from the labels' expected gradient.

    Args:
        oracle: the exact denoiser.
        labels: the possible labels.
        posterior: p(y | x_t) that the loss weighs the classes by.
        top_k: classes drawn per image, all when None.
        random: source of the draws.
        draws: number of draws that the expected gradient is averaged over.
    """

    def __init__(
        self,
        oracle: MixtureDenoiser,
        labels: Labels,
        posterior: Posterior,
        top_k: int | None,
        random: torch.Generator,
        draws: int = 16,
    ) -> None:
        nn.Module.__init__(self)
        self.oracle, self.labels, self.posterior = oracle, labels, posterior
        self.top_k, self.random, self.draws = top_k, random, draws
        self.num_classes, self.evaluations = oracle.num_classes, 0

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        classes: Tensor | None = None,
        augment: Tensor | None = None,
        coherence: Tensor | None = None,
    ) -> Tensor:
        """[B, C, H, W] -> [B, c or k, C, H, W]."""
        exact = self.oracle.all_classes(x, sigma).double().flatten(2)  # [B, c, d]
        truth = bayes(self.oracle, x, sigma)  # [B, c]
        joint = truth[:, None] * self.labels.probability  # p(y, z | x_t) [B, m, c]
        seen = joint.sum(2)  # p(z | x_t)
        wanted = joint @ exact / seen[..., None].clamp_min(1e-300)  # E[x_0 | x_t, z]
        believed = self.posterior(x, sigma)
        rows = believed[:, None].expand(-1, len(seen[0]), -1).flatten(0, 1)
        weights = given_label(rows, self.labels.likelihood.repeat(len(x), 1)).double()  # pi
        pulled = (weights * self._drawn(weights)).reshape(joint.shape)
        weights = weights.reshape(joint.shape)
        pull = seen[..., None] * pulled
        pull = pull / pull.sum(1, keepdim=True).clamp_min(1e-300)  # [B, m, c]: which z trains class y
        matrix = pull.transpose(1, 2) @ weights  # [B, c, c]
        middle = (truth[..., None] * exact).sum(1, keepdim=True)
        target = pull.transpose(1, 2) @ wanted - matrix @ middle.expand_as(exact)
        ridge = RIDGE * torch.eye(self.num_classes, dtype=torch.float64)
        found = (middle + torch.linalg.solve(matrix + ridge, target)).reshape(len(x), -1, *x.shape[1:]).to(x.dtype)
        return found if classes is None else found[torch.arange(len(x))[:, None], classes]

    def _drawn(self, weights: Tensor) -> Tensor:
        """How often each class is drawn: [B * m, c]."""
        often = torch.ones_like(weights)
        if self.top_k is not None:
            share = torch.full((1, 1), 1 / self.draws, dtype=weights.dtype).expand(len(weights), self.top_k)
            often = torch.zeros_like(weights)
            for _ in range(self.draws):
                often.scatter_add_(1, draw_classes(weights, self.top_k, self.random).classes, share)
        return often


def bayes(oracle: MixtureDenoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """The exact p(y | x_t) of images that share a noise level, equal priors: float64 [B, c]."""
    return oracle.posterior(x, torch.full((oracle.num_classes,), 1 / oracle.num_classes), float(sigma[0]))


def isotropic(num_classes: int, dim: int, spread: float, std: float, seed: int) -> MixtureDenoiser:
    """One Gaussian per class, as images of 1 x 1 x dim."""
    means = spread * torch.randn(num_classes, 1, 1, 1, dim, generator=rng.generator(seed, "means"))
    return MixtureDenoiser(torch.ones(num_classes, 1), means, torch.full((num_classes, 1), std))


def noised(oracle: MixtureDenoiser, sigma: float, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of every class with noise, float32 [n, 1, 1, dim], and their classes."""
    labels = torch.arange(oracle.num_classes).repeat_interleave(per_class)
    random = rng.generator(seed, "images", round(1000 * sigma))
    x_0 = oracle.draw(labels, random)
    return x_0 + sigma * torch.randn(x_0.shape, generator=random), labels


def posteriors(oracle: MixtureDenoiser, ours: Posterior, per_class: int, seed: int) -> dict[str, dict[str, float]]:
    """By noise level: mean probability of the true class by Bayes and by ours, and the mean total variation."""
    found: dict[str, dict[str, float]] = {"bayes": {}, "posterior": {}, "posterior_tv": {}}
    for sigma in SIGMAS:
        x_t, labels = noised(oracle, sigma, per_class, seed)
        level = torch.full((len(x_t),), sigma)
        exact, believed = bayes(oracle, x_t, level), ours(x_t, level).double()
        found["bayes"][f"{sigma:g}"] = float(exact.gather(1, labels[:, None]).mean())
        found["posterior"][f"{sigma:g}"] = float(believed.gather(1, labels[:, None]).mean())
        found["posterior_tv"][f"{sigma:g}"] = float((exact - believed).abs().sum(1).mean() / 2)
    return found


def agreement(oracle: MixtureDenoiser, denoiser: Denoiser, per_class: int, seed: int) -> float:
    """Share in percent of Heun's samples from pure noise that Bayes assigns to the requested class."""
    labels = torch.arange(oracle.num_classes).repeat_interleave(per_class)
    start = 80.0 * torch.randn(len(labels), *oracle.means.shape[2:], generator=rng.generator(seed, "samples"))
    samples = heun(denoiser, start, labels)
    return 100 * float((bayes(oracle, samples, torch.zeros(1)).argmax(1) == labels).double().mean())


def contrast(oracle: MixtureDenoiser, denoiser: Denoiser, per_class: int, seed: int) -> float:
    """Contrast between the classes' denoised images at sigma = 20, projected on the exact one, as a share of it."""
    x_t, _ = noised(oracle, CONTRAST_SIGMA, per_class, seed)
    level = torch.full((len(x_t),), CONTRAST_SIGMA)
    found, exact = (of.all_classes(x_t, level).double() for of in (denoiser, oracle))
    apart, wanted = found - found.mean(1, keepdim=True), exact - exact.mean(1, keepdim=True)
    return float((apart * wanted).sum() / wanted.square().sum())


class AsGiven(Converged):
    """The minimiser of EDM's loss on noisy labels: D_k = sum_y p(y | x_t, k) D_y."""

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        classes: Tensor | None = None,
        augment: Tensor | None = None,
        coherence: Tensor | None = None,
    ) -> Tensor:
        """[B, C, H, W] -> [B, c or k, C, H, W]."""
        exact = self.oracle.all_classes(x, sigma).double()
        joint = bayes(self.oracle, x, sigma)[:, None] * self.labels.probability
        shares = joint / joint.sum(2, keepdim=True)
        found = torch.einsum("bzy,bychw->bzchw", shares, exact).to(x.dtype)
        return found if classes is None else found[torch.arange(len(x))[:, None], classes]


def experiment(num_classes: int, dim: int, spread: float, std: float, seed: int, per_class: int) -> dict[str, object]:
    """Everything that is printed."""
    started = time.perf_counter()
    oracle, random = isotropic(num_classes, dim, spread, std, seed), rng.generator(seed, "noise")
    log_prior = torch.full((num_classes,), 1 / num_classes).log()

    def ours(x_t: Tensor, sigma: Tensor) -> Tensor:
        return noisy_posterior(oracle, x_t, sigma, random, temperature=1.0, log_prior=log_prior)

    wrong = symmetric(num_classes)
    agreements = {
        "exact": oracle,
        "ours": Converged(oracle, wrong, ours, None, random),
        "ours_top2": Converged(oracle, wrong, ours, 2, random),
        "vanilla": AsGiven(oracle, wrong, ours, None, random),
    }
    kinds = {
        "sym": wrong,
        "partial": partial(num_classes, seed),
        "labelled10": labelled(num_classes, 0.1),
        "labelled1": labelled(num_classes, 0.01),
    }
    return {
        **posteriors(oracle, ours, per_class, seed),
        "agreement": {name: agreement(oracle, of, per_class, seed) for name, of in agreements.items()},
        "contrast": {
            name: contrast(oracle, Converged(oracle, labels, ours, 2, random), 2, seed)
            for name, labels in kinds.items()
        },
        "settings": {"classes": num_classes, "dim": dim, "spread": spread, "std": std, "seed": seed},
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Read the arguments, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--dim", type=int, default=256, help="pixels per image")
    parser.add_argument("--spread", type=float, default=0.3, help="standard deviation of the class means")
    parser.add_argument("--std", type=float, default=0.3, help="standard deviation within a class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-class", type=int, default=50, help="images per class, and samples")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    asked = parser.parse_args()
    found = experiment(asked.classes, asked.dim, asked.spread, asked.std, asked.seed, asked.per_class)
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
