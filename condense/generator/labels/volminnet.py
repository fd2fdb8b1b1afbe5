"""VolMinNet: the label transition matrix T learned jointly with a classifier, without anchor points.

Among all T that explain the noisy labels, T^T f(x), the true one has the smallest volume when the classes are
sufficiently scattered; so the loss is the cross-entropy of T^T f plus a small multiple of log det T.
Source: Li et al. (2021), "Provably End-to-end Label-noise Learning without Anchor Points",
https://arxiv.org/abs/2102.02400, Eqs. 3 and 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condense import rng
from condense.classifiers import networks
from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.generator.augment import augment
from condense.generator.labels.auxiliary import Helper, HelperData, identity, train_helper
from condense.generator.labels.posterior import label_likelihood
from condense.generator.losses import forward_loss
from condense.generator.options import TrainOptions
from condense.precision import autocast, wants_bf16
from condense.run import Run

NAME = "volminnet"
CLASSIFIER = "convnet3-bn"


class TransitionMatrix(nn.Module):
    """A row-stochastic matrix whose diagonal is the largest entry of each row: (I + sigmoid(w) off it) / row sums.

    It starts with 1/2 on the diagonal (2/3 with two classes), noisier than labels usually are, so that only a
    confident classifier fits them. With too clean a matrix it would learn to be as uncertain as the labels.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        start = torch.tensor(min(1 / (num_classes - 1), 0.5)).logit()
        self.weight = nn.Parameter(start.expand(num_classes, num_classes).clone())

    def forward(self) -> Tensor:
        """T, float32 [c, c], rows = true class."""
        eye = torch.eye(len(self.weight), device=self.weight.device)
        raw = eye + (1 - eye) * self.weight.sigmoid()
        return raw / raw.sum(1, keepdim=True)


class VolMinNet(nn.Module):
    """A classifier of clean images and the matrix that maps its posterior to that of the noisy label."""

    def __init__(self, classifier: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.transition = TransitionMatrix(num_classes)

    def loss(self, x: Tensor, candidates: Tensor, volume_weight: float, *, has_sets: bool | None = None) -> Tensor:
        """Mean of -log (T^T f)_z, plus `volume_weight` log |det T|.

        Args:
            x: images [B, C, H, W].
            candidates: one-hot noisy labels, bool [B, c].
            volume_weight: lambda of the paper.
            has_sets: as in `label_likelihood`.
        """
        transition = self.transition()
        untrusted = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        likelihood = label_likelihood(candidates, untrusted, transition, has_sets=has_sets)
        misfit = forward_loss(self.classifier(x), likelihood).mean()
        volume: Tensor = torch.linalg.slogdet(transition).logabsdet
        return misfit + volume_weight * volume


def fresh_classifier(data: TrainingSet, seed: int) -> nn.Module:
    """A `CLASSIFIER`, its weights drawn from `seed`. Raises `UserError` if the images are too small."""
    return networks.build(
        CLASSIFIER,
        in_channels=data.images.channels,
        image_size=data.images.image_shape[1],
        num_classes=data.images.num_classes,
        seed=rng.derive(seed, NAME),
    )


def estimate_by_volume(
    data: TrainingSet, classifier: nn.Module, options: TrainOptions, seed: int, run: Run, device: torch.device
) -> tuple[Tensor, float]:
    """T [c, c] of the images with one untrusted label, and the seconds it took.

    Args:
        data: images and imprecise labels.
        classifier: images in [-1, 1], [B, C, H, W], to logits [B, c]; trained in place.
        options: budget (`helper`) and augmentation.
        seed: seed of batches and augmentation.
        run: keeps the state, see `train_helper`.
        device: device to train on.

    Raises:
        UserError: no label is untrusted; otherwise as `train_helper`.
    """
    used = data.supervision.noisy
    if not used.any():
        raise UserError(
            "VolMinNet learns the transition matrix from single labels that may be wrong, and there are none here; "
            "give the matrix as train.transition, or use the method dmis, which needs none."
        )
    module = VolMinNet(classifier, data.images.num_classes).to(device)
    parts = HelperData(data, used, options, seed, device)
    bf16, rate = wants_bf16(options.precision, device), options.helper.learning_rate

    def step_loss(step: int) -> Tensor:
        indices = parts.batch(step)
        random = rng.generator(seed, f"{NAME}-step", step, device=device)
        x, _ = augment(parts.images[indices], options.augment(may_flip=data.images.may_flip), random)
        with autocast(device, bf16):
            return module.loss(x, parts.candidates[indices], options.helper.volume_weight, has_sets=False)

    def held_out_loss() -> float:
        with autocast(device, bf16):
            return parts.held_mean(lambda held: module.loss(parts.images[held], parts.candidates[held], 0.0))

    groups = [
        {"params": list(module.classifier.parameters()), "lr": rate},
        {"params": list(module.transition.parameters()), "lr": options.helper.matrix_learning_rate},
    ]
    helper = Helper(
        NAME,
        module,
        torch.optim.Adam(groups),
        step_loss,
        held_out_loss if len(parts.held) else None,
        identity(data, options, seed, augment=[options.augment_probability, options.flip]),
    )
    seconds = train_helper(helper, options, run)
    transition: Tensor = module.transition()
    return transition.detach(), seconds
