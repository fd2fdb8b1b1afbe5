"""DM and DataDAM: learned images whose mean features in fresh untrained networks match those of real images.

For each iteration, with a fresh network with penultimate features f, one step of SGD on the images S along

    Σ_y ‖ mean f(A(T_y)) - mean f(A(S_y)) ‖²,

with T_y a batch of real images of class y and A one random augmentation for both. With batch norm, all T_y pass
together and so do all S_y, as in the public code: with frozen statistics, as for gradients, images grow without bound.
Source: Zhao & Bilen (2023), "Dataset Condensation with Distribution Matching", Eq. 4 and 5,
https://arxiv.org/abs/2110.04181. The defaults are those of the authors' public code.

DataDAM adds λ_a Σ_y Σ_l ‖ mean a_l(A(T_y)) - mean a_l(A(S_y)) ‖² over the layers l before f, with attention maps a_l
(`mean_attention`). Source: Sajedi et al. (2023), "DataDAM: Efficient Dataset Distillation with Attention Matching",
Eq. 2 to 5, https://arxiv.org/abs/2310.00093, which divides both terms by λ_a.

Where beliefs q = p(y | x, z) are given, T_y is drawn in proportion to q_y in place of the images labelled y. If q is
calibrated, the mean of f over such batches is E[q_y f] / E[q_y] = E[f | y], that of the class: wrong, partial and
missing labels leave the target unbiased, where the most probable labels would bias it by every image they get wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from condense.augment import DSA
from condense.classifiers.fit import has_batch_norm
from condense.classifiers.networks import Network
from condense.data.types import TrainingSet
from condense.errors import UserError
from condense.machine import best_device
from condense.methods._augmentation import augmentation_for, check_augmentation
from condense.methods._by_ipc import nearest_row
from condense.methods._learn import Learned, Learning, PackedOptions, Synthetic, identity
from condense.methods._matching import mean_attention, mean_features
from condense.methods._members import drawn
from condense.methods._pairs import Pairs, update
from condense.methods._pixels import (
    RealImages,
    check_single_labels,
    to_unit_pixels,
)
from condense.methods._started import StartedOptions, learned_by_beliefs, learned_set
from condense.precision import arithmetic, wants_bf16
from condense.preprocessing import standardisation
from condense.run import JSON, Run
from condense.sets.assemble import check_ipc
from condense.sets.condensed_set import CondensedSet

LR_IMG = {1: 1.0, 50: 1.0, 100: 10.0}
"""By images per class."""
Cooldown = Annotated[
    float, Field(ge=0, le=1, description="last share of the iterations, in which the learning rate falls to 0 linearly")
]


class DistributionOptions(PackedOptions):
    """Options of distribution matching; `lr_img` follows the row of LR_IMG nearest to ipc."""

    QUICK: ClassVar[Mapping[str, Any]] = {"iterations": 20, "real_batch": 32}

    iterations: int = Field(20_000, ge=1, description="fresh networks, one step on the images each")
    lr_img: float | None = Field(None, gt=0, description="learning rate of the images; by ipc when empty")
    cooldown: Cooldown = 0.0
    real_batch: int = Field(256, ge=1, description="real images per class and step")
    attention: float = Field(0.0, ge=0, description="weight of the attention maps of earlier layers; 0 is DM")
    augment: Annotated[str, AfterValidator(check_augmentation)] = Field(
        DSA,
        description="operations, joined by _, of which one is drawn per class and step; flip only as data.flip allows",
    )

    def rate(self, ipc: int) -> tuple[float, int | None]:
        """The learning rate, and the images per class of the row it comes from if it was not given."""
        row, by_ipc = nearest_row(LR_IMG, ipc)
        return (by_ipc, row) if self.lr_img is None else (self.lr_img, None)


class StartedDistributionOptions(DistributionOptions, StartedOptions):
    """Options of distribution matching, and where images start."""


def evaluations_of(train: TrainingSet, ipc: int, options: DistributionOptions, *, believed: bool = False) -> int:
    """Images that will pass through networks, real and learned; `believed`: batches are drawn by beliefs."""
    classes = train.images.num_classes
    batch = classes * options.real_batch if believed else drawn(train, options.real_batch)
    return options.iterations * (batch + classes * ipc * options.pack**2)


def match_distributions(
    train: TrainingSet, ipc: int, options: StartedDistributionOptions, seed: int, run: Run, method: str
) -> CondensedSet:
    """Learn `ipc` images per class from noise or real images.

    Raises:
        UserError: labels are partial or missing and no beliefs are given, a class has too few images, the network has
            no attention maps to match, or the checkpoint is another run's.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """

    def from_start(reals: RealImages, start: Tensor) -> Learned:
        return learn(train, reals, start, options, seed, run, method)

    if train.beliefs is not None:
        return learned_by_beliefs(train, ipc, options, seed, method, from_start)
    check_ipc(ipc, train)
    check_single_labels(train)
    least, patches = options.needed(ipc)
    reals = RealImages(train, standardisation(train.images.images), least, best_device(), patches=patches)
    return learned_set(train, reals, ipc, options, seed, method, from_start)


def learn(
    train: TrainingSet, reals: RealImages, start: Tensor, options: DistributionOptions, seed: int, run: Run, method: str
) -> Learned:
    """Learn images by matching mean features.

    Args:
        train: images, labels, and beliefs if any.
        reals: the same images on the device, their batches drawn by label or by beliefs.
        start: the initial learned images, normalised, class-major, [c * ipc, C, H, W] on the device.
        options: options of the matching.
        seed: seed of batches, networks and augmentation.
        run: keeps checkpoints.
        method: name of the method in checkpoints.

    Raises:
        UserError: the checkpoint is another run's, or the network has no attention maps to match.
        RunFailed: the loss is no longer finite.
        Interrupted: stopped by Ctrl-C after saving.
    """
    ipc = len(start) // reals.num_classes
    if options.attention:
        check_attention(reals, options.backbone)
    lr_img, row = options.rate(ipc)
    synthetic = Synthetic(start, ipc, lr_img, pack=options.pack)
    strategy = augmentation_for(options.augment, train.images)
    pairs = Pairs(reals, synthetic, options.real_batch, strategy, seed)
    whose = identity(train, ipc, options, seed, method, start if train.beliefs is not None else None)
    if options.cooldown:
        whose |= {"iterations": options.iterations}  # the rate of every step depends on them
    learning = Learning(
        run,
        whose,
        synthetic,
        DistributionMatching(pairs, options),
        steps=options.iterations,
        checkpoint_every=options.checkpoint_every,
    )
    learning.finish()
    notes: dict[str, JSON] = {
        "lr_img": lr_img,
        "lr_img_of_ipc": row,
        "augmentation": strategy,
        "arithmetic": arithmetic(options.precision, reals.device).to_json(),
    }
    if train.beliefs is not None:
        notes["believed"] = True
    return Learned(to_unit_pixels(synthetic.images, reals.preprocessing), learning.cost(), notes)


def check_attention(reals: RealImages, backbone: str) -> None:
    """Raise `UserError` if a network has no attention maps before its features."""
    _, maps = mean_attention(reals.network(backbone, 0), [reals[:2]])
    if not maps:
        raise UserError(f"{backbone} has no layers whose attention could be matched; choose a ConvNet, e.g. convnet3.")


class DistributionMatching:
    """One step with a fresh network; there is no state to keep."""

    def __init__(self, pairs: Pairs, options: DistributionOptions) -> None:
        self.pairs, self.options = pairs, options
        self.bf16 = wants_bf16(options.precision, pairs.reals.device)
        self.rate: float = pairs.synthetic.optimizer.param_groups[0]["lr"]

    def step(self, step: int) -> dict[str, float]:
        """Do step `step`; returns the sum of the squared distances of all classes as "loss"."""
        network = self.pairs.fresh_network(self.options.backbone, step).requires_grad_(False)
        classes = self.pairs.of_step(step)
        # Batch norm needs all classes at once; else one at a time keeps less in memory.
        groups = [list(classes)] if has_batch_norm(network) else ([one] for one in classes)
        distances = []
        for group in groups:
            distance = self._distance(network, [real for _, real, _ in group], [mine for _, _, mine in group])
            distance.backward()  # type: ignore[no-untyped-call]
            distances.append(distance.detach())
        self.pairs.synthetic.optimizer.param_groups[0]["lr"] = self.rate * self._share_of_rate(step)
        return update(self.pairs, distances, step)

    def _share_of_rate(self, step: int) -> float:
        falling = self.options.cooldown * self.options.iterations
        return min(1.0, (self.options.iterations - step) / falling) if falling else 1.0

    def _distance(self, network: Network, reals: Sequence[Tensor], learned: Sequence[Tensor]) -> Tensor:
        """Of the means of the batches of some classes, summed; a scalar."""
        if not self.options.attention:
            with torch.no_grad():
                target = mean_features(network, reals, bf16=self.bf16)
            return (mean_features(network, learned) - target).square().sum()
        with torch.no_grad():
            target, maps = mean_attention(network, reals, bf16=self.bf16)
        found, own = mean_attention(network, learned)
        attention = sum((a - b).square().sum() for a, b in zip(own, maps, strict=True))
        return (found - target).square().sum() + self.options.attention * attention

    def state(self) -> tuple[dict[str, Tensor], dict[str, JSON]]:
        """Nothing."""
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, JSON], step: int) -> None:
        """Nothing to do."""
